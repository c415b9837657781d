// SPDX-License-Identifier: Apache-2.0
// What a tensor is made of: element type, device, shape.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>
#include <type_traits>

namespace gf {

// bf16 is computed with on a GPU, with sums in f32, and else only kept, in place of f32; u16 is kept in place of i32.
enum class DType : uint8_t { f32, f64, i32, bf16, u16 };

struct BFloat16 {
  uint16_t bits;  // the upper half of a float's
};

// What kernels compute Ts in, and keep sums and statistics of them in.
template <class T>
using Inner = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

size_t size_of(DType);
const char* name_of(DType);

template <class T>
inline constexpr DType dtype_of = [] { static_assert(sizeof(T) == 0, "no such element type"); }();
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<uint16_t> = DType::u16;

// The same of an element type.
constexpr DType inner(DType dtype) {
  return dtype == DType::bf16 ? DType::f32 : dtype;
}

// meta: shapes and sizes but no memory and no work. A pass over meta tensors tells what a real one will need.
struct Device {
  enum class Kind : uint8_t { cpu, cuda, meta } kind = Kind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};
inline constexpr Device kCpu{Device::Kind::cpu, 0};
inline constexpr Device kMeta{Device::Kind::meta, 0};
inline constexpr Device kMetaGpu{Device::Kind::meta, 1};  // for what a pass on a GPU will need
constexpr bool is_like_gpu(Device d) {
  return d.kind == Device::Kind::cuda || d == kMetaGpu;
}

class Shape {
 public:
  static constexpr int kMaxRank = 5;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i < 0 ? i + rank_ : i]; }  // negative: from the end
  int64_t numel() const;
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }
  bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

std::ostream& operator<<(std::ostream&, const Shape&);  // 2x3x4
std::ostream& operator<<(std::ostream&, DType);
std::ostream& operator<<(std::ostream&, Device);

}  // namespace gf
