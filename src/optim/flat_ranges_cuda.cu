// SPDX-License-Identifier: Apache-2.0
// Limited by bytes: a block goes through its piece in strides of its threads, and asks for several numbers at a time.
#include <cmath>

#include "optim/flat_ranges_kernels.h"
#include "tensor/cuda/block.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"

namespace gf::cuda {
namespace {

constexpr int kBlock = 256;

__global__ void __launch_bounds__(kBlock) squares_kernel(FlatSquaresArgs a) {
  const FlatPiece piece = a.pieces[blockIdx.x];
  const float* const x = a.x + piece.flat;
  double sum = 0;
#pragma unroll 8
  for (int i = static_cast<int>(threadIdx.x); i < piece.size; i += kBlock)
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) a.partial[blockIdx.x] = sum;
}

// A range a block.
__global__ void __launch_bounds__(kBlock) sums_kernel(FlatSquaresArgs a) {
  double sum = 0;
  for (int64_t i = a.first[blockIdx.x] + threadIdx.x; i < a.first[blockIdx.x + 1]; i += kBlock) sum += a.partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) a.sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kBlock) adamw_kernel(FlatAdamWArgs args) {
  const AdamWArgs& a = args.all;
  const FlatPiece piece = args.pieces[blockIdx.x];
  const FlatRate rate = args.rates[piece.range];
  const double lr = a.lr * rate.group * rate.own;
  const auto scale = static_cast<float>(a.grad_scale);
  const auto beta1 = static_cast<float>(a.beta1), rest1 = static_cast<float>(1 - a.beta1);
  const auto beta2 = static_cast<float>(a.beta2), rest2 = static_cast<float>(1 - a.beta2);
  const auto step = static_cast<float>(lr / a.bias1), root = static_cast<float>(1 / sqrt(a.bias2));
  const auto eps = static_cast<float>(a.eps), keep = static_cast<float>(1 - lr * (a.decay * rate.decays));
  float *const p = a.p + (a.rounded ? piece.state : piece.flat), *const g = a.g + piece.flat,
               *const m = a.m + piece.state, *const v = a.v + piece.state;
  BFloat16* const rounded = a.rounded ? a.rounded + piece.flat : nullptr;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < piece.size; i += kBlock) {
    const float grad = g[i] * scale;
    const float mean = beta1 * m[i] + rest1 * grad, square = beta2 * v[i] + rest2 * grad * grad;
    m[i] = mean;
    v[i] = square;
    const float value = keep * p[i] - step * mean / (sqrtf(square) * root + eps);
    p[i] = value;
    if (rounded) rounded[i] = narrow<BFloat16>(value);
    g[i] = 0;
  }
}

}  // namespace

void flat_squares(const FlatSquaresArgs& a, CudaStream stream) {
  if (a.num_ranges == 0) return;
  if (a.num_pieces > 0) launch(stream, static_cast<unsigned>(a.num_pieces), kBlock, 0, squares_kernel, a);
  launch(stream, static_cast<unsigned>(a.num_ranges), kBlock, 0, sums_kernel, a);
}

void flat_adamw(const FlatAdamWArgs& a, CudaStream stream) {
  if (a.num_pieces > 0) launch(stream, static_cast<unsigned>(a.num_pieces), kBlock, 0, adamw_kernel, a);
}

}  // namespace gf::cuda
