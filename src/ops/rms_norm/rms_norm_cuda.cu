// SPDX-License-Identifier: Apache-2.0
// Limited by bytes: forward reads x and writes y, backward reads x and dy and writes dx, once each. A row a block; a
// thread keeps its numbers in registers.
#include "ops/cuda/rows.cuh"
#include "ops/rms_norm/kernels.h"

namespace gf::cuda {
namespace {

constexpr int kMost = 1024;  // threads of a block: with 16 bytes each enough for rows of 8192 bf16

template <class T, int kCount>
__global__ void __launch_bounds__(kMost) forward_kernel(RmsNormArgs<T> p) {
  using I = Inner<T>;
  __shared__ RowSums<I, 1> sums;
  const int64_t row = blockIdx.x, c = int64_t{threadIdx.x} * kCount;
  const bool mine = c < p.C;
  Pack<T, kCount> x{};
  if (mine) x = load<kCount>(p.x + row * p.C + c);
  I squares = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) squares += wide(x.x[i]) * wide(x.x[i]);
  const I root = sqrt(sums.add_up(squares, 0) / static_cast<I>(p.C)), factor = 1 / (root + p.eps);
  if (threadIdx.x == 0) p.root[row] = root;
  if (!mine) return;
#pragma unroll
  for (int i = 0; i < kCount; ++i) x.x[i] = narrow<T>(wide(x.x[i]) * factor);
  store(p.y + row * p.C + c, x);
}

// Rows that are too long for that: the same, from memory each time.
template <class T>
__global__ void __launch_bounds__(kMost) forward_long_kernel(RmsNormArgs<T> p) {
  using I = Inner<T>;
  __shared__ RowSums<I, 1> sums;
  const T* const x = p.x + blockIdx.x * p.C;
  I squares = 0;
  for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x) squares += wide(x[c]) * wide(x[c]);
  const I root = sqrt(sums.add_up(squares, 0) / static_cast<I>(p.C)), factor = 1 / (root + p.eps);
  if (threadIdx.x == 0) p.root[blockIdx.x] = root;
  for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x) p.y[blockIdx.x * p.C + c] = narrow<T>(wide(x[c]) * factor);
}

// With d = root + eps and d(root)/dx = x / (C root):  dx = dy / d - x <dy, x> / (d^2 C root). The factor of x.
template <class T>
__device__ Inner<T> along(const RmsNormBackwardArgs<T>& p, Inner<T> root, Inner<T> factor, Inner<T> dot) {
  // In this order of factors nothing overflows on rows that are nearly zero.
  return root == 0 ? 0 : dot * factor / root / static_cast<Inner<T>>(p.C) * factor;
}

// dx may be dy: each thread has read its part when it writes it.
template <class T, int kCount>
__global__ void __launch_bounds__(kMost) backward_kernel(RmsNormBackwardArgs<T> p) {
  using I = Inner<T>;
  __shared__ RowSums<I, 1> sums;
  const int64_t c = int64_t{threadIdx.x} * kCount, at = blockIdx.x * p.C + c;
  const bool mine = c < p.C;
  Pack<T, kCount> x{}, dy{};
  if (mine) x = load<kCount>(p.x + at), dy = load<kCount>(p.dy + at);
  const I root = p.root[blockIdx.x], factor = 1 / (root + p.eps);
  I dot = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) dot += wide(dy.x[i]) * wide(x.x[i]);
  const I by = along(p, root, factor, sums.add_up(dot, 0));
  if (!mine) return;
#pragma unroll
  for (int i = 0; i < kCount; ++i) dy.x[i] = narrow<T>(wide(dy.x[i]) * factor - wide(x.x[i]) * by);
  store(p.dx + at, dy);
}

template <class T>
__global__ void __launch_bounds__(kMost) backward_long_kernel(RmsNormBackwardArgs<T> p) {
  using I = Inner<T>;
  __shared__ RowSums<I, 1> sums;
  const T *const x = p.x + blockIdx.x * p.C, *const dy = p.dy + blockIdx.x * p.C;
  const I root = p.root[blockIdx.x], factor = 1 / (root + p.eps);
  I dot = 0;
  for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x) dot += wide(dy[c]) * wide(x[c]);
  const I by = along(p, root, factor, sums.add_up(dot, 0));
  for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x)
    p.dx[blockIdx.x * p.C + c] = narrow<T>(wide(dy[c]) * factor - wide(x[c]) * by);
}

}  // namespace

template <class T>
void rms_norm(const RmsNormArgs<T>& p, CudaStream stream) {
  if (p.M == 0) return;
  const auto rows = static_cast<unsigned>(p.M);
  with_pack<16, T>(p.C, 64, {p.x, p.y}, [&](auto count) {
    if (p.C <= kMost * count)
      launch(stream, rows, whole_warps(p.C / count), 0, forward_kernel<T, count>, p);
    else
      launch(stream, rows, kMost, 0, forward_long_kernel<T>, p);
  });
}

template <class T>
void rms_norm_backward(const RmsNormBackwardArgs<T>& p, CudaStream stream) {
  if (p.M == 0) return;
  const auto rows = static_cast<unsigned>(p.M);
  with_pack<16, T>(p.C, 64, {p.x, p.dy, p.dx}, [&](auto count) {
    if (p.C <= kMost * count)
      launch(stream, rows, whole_warps(p.C / count), 0, backward_kernel<T, count>, p);
    else
      launch(stream, rows, kMost, 0, backward_long_kernel<T>, p);
  });
}

template void rms_norm(const RmsNormArgs<float>&, CudaStream);
template void rms_norm(const RmsNormArgs<double>&, CudaStream);
template void rms_norm(const RmsNormArgs<BFloat16>&, CudaStream);
template void rms_norm_backward(const RmsNormBackwardArgs<float>&, CudaStream);
template void rms_norm_backward(const RmsNormBackwardArgs<double>&, CudaStream);
template void rms_norm_backward(const RmsNormBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
