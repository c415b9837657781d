// SPDX-License-Identifier: Apache-2.0
// One vector register, by GCC's and Clang's vector extension: the widest that the target has.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace gf::cpu {

#ifdef __AVX512F__
inline constexpr int kVectorBytes = 64, kVectorRegisters = 32;
#else
inline constexpr int kVectorBytes = 32, kVectorRegisters = 16;
#endif

template <class T>
requires std::is_arithmetic_v<T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
inline constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));

template <class T>
inline Vector<T> load(const T* p) {
  Vector<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline void store(T* p, const Vector<T>& v) {
  std::memcpy(p, &v, sizeof v);
}

}  // namespace gf::cpu
