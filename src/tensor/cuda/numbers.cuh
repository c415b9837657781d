// SPDX-License-Identifier: Apache-2.0
// What is done with each number of tensors by itself, limited by bytes: a thread takes as many neighbours as 16 bytes
// hold, where all addresses allow that.
#pragma once
#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"
#include "tensor/cuda/pack.cuh"

namespace gf::cuda {

// For each(): what is done with kCount neighbours.
template <int kCount, class F, class... T>
class NumbersAtOnce {
 public:
  NumbersAtOnce(const F& f, T*... x) : f_(f), x_(x...) {}
  __device__ void operator()(int64_t pack) const { go(pack, std::index_sequence_for<T...>()); }

 private:
  template <class X>
  using PackOf = Pack<std::remove_const_t<X>, kCount>;

  template <size_t... kPlace>
  __device__ void go(int64_t pack, std::index_sequence<kPlace...>) const {
    run((std::get<kPlace>(x_) + pack * kCount)..., PackOf<T>()...);
  }
  __device__ void run(T*... x, PackOf<T>... packs) const {
    (read(x, packs), ...);
#pragma unroll
    for (int i = 0; i < kCount; ++i) f_(static_cast<T&>(packs.x[i])...);
    (write(packs, x), ...);
  }
  template <class X>
  __device__ static void read(X* from, PackOf<X>& pack) {
    if constexpr (std::is_const_v<X>) pack = load<kCount>(from);
  }
  template <class X>
  __device__ static void write(const PackOf<X>& pack, X* to) {
    if constexpr (!std::is_const_v<X>) store(to, pack);
  }

  F f_;
  std::tuple<T*...> x_;
};

// Of what is read and then written: the reading.
template <class T>
const T* read_of(T* x) {
  return x;
}

// f(x[i]...) for i in [0, n): [=] __device__(const In&..., Out&...) { ... }. Tensors of const numbers are read. The
// others are written, whatever they held; they may be the same memory as one that is read.
template <class F, class... T>
void each_number(CudaStream stream, int64_t n, const F& f, T*... x) {
  constexpr int kCount = 16 / static_cast<int>(std::max({sizeof(T)...}));
  const bool aligned = (is_aligned(x, kCount * sizeof(T)) && ...);
  const int64_t packs = aligned ? n / kCount : 0, done = packs * kCount;
  each(stream, packs, NumbersAtOnce<kCount, F, T...>(f, x...));
  each(stream, n - done, NumbersAtOnce<1, F, T...>(f, (x + done)...));
}

}  // namespace gf::cuda
