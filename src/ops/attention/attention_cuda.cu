// SPDX-License-Identifier: Apache-2.0
#include "ops/attention/kernels_cuda.h"
#include "tensor/cuda/block.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"
#include "tensor/cuda/pack.cuh"

namespace gf::cuda {
namespace {

// delta_i = <dy_i, y_i> in each head: the part of the softmax's gradient that all keys share. Eight lanes a query and
// head, kNumbers neighbours at once; memory is what limits this.
constexpr int kLanes = 8;

template <class T, int kNumbers>
__global__ void delta_kernel(AttentionBackwardArgs<T> p) {
  const int64_t row = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes;  // of B x Tq x H
  const int lane = static_cast<int>(threadIdx.x) % kLanes, N = static_cast<int>(p.N);
  const bool there = row < p.B * p.Tq * p.H;
  Inner<T> sum = 0;
  for (int c = lane * kNumbers; there && c < N; c += kLanes * kNumbers) {
    const Pack<T, kNumbers> dy = load<kNumbers>(p.dy + row * N + c), y = load<kNumbers>(p.y + row * N + c);
#pragma unroll
    for (int i = 0; i < kNumbers; ++i) sum += wide(dy.x[i]) * wide(y.x[i]);
  }
  for (int away = kLanes / 2; away > 0; away /= 2) sum += __shfl_xor_sync(kAllLanes, sum, away);
  if (!there || lane != 0) return;
  const int64_t h = row % p.H, i = row / p.H % p.Tq, b = row / p.H / p.Tq;
  p.delta[(b * p.H + h) * p.Tq + i] = sum;
}

template <class T>
void fill_delta(const AttentionBackwardArgs<T>& p, CudaStream stream) {
  constexpr int kBlock = 256, kMost = 16 / sizeof(T);
  const bool packs = p.N % kMost == 0 && is_aligned(p.dy, 16) && is_aligned(p.y, 16);
  if (p.B * p.Tq * p.H == 0) return;
  launch(stream, blocks_of(p.B * p.Tq * p.H * kLanes, kBlock), kBlock, 0,
         packs ? delta_kernel<T, kMost> : delta_kernel<T, 1>, p);
}

void check_head(int64_t N) {
  if (N > kMostAttentionHead)
    refuse(cat("attention on a GPU: heads of size ", N, ", of which it takes up to ", kMostAttentionHead),
           "more and smaller heads");
}

}  // namespace

template <class T>
void attention(const AttentionArgs<T>& p, CudaStream stream) {
  check_head(p.N);
  if constexpr (std::is_same_v<T, BFloat16>) {
    if constexpr (kWithCudnn)
      if (cudnn_attention(p, stream)) return;
    if (p.N <= kMostTensorCoreHead) return tensor_core_attention(p, stream);
  }
  plain_attention(p, stream);
}

template <class T>
void attention_backward(const AttentionBackwardArgs<T>& p, CudaStream stream) {
  check_head(p.N);
  if constexpr (std::is_same_v<T, BFloat16> && kWithCudnn)
    if (cudnn_attention_backward(p, stream)) return;
  fill_delta(p, stream);
  if constexpr (std::is_same_v<T, BFloat16>)
    if (p.N <= kMostTensorCoreHead) return tensor_core_attention_backward(p, stream);
  plain_attention_backward(p, stream);
}

template void attention(const AttentionArgs<float>&, CudaStream);
template void attention(const AttentionArgs<double>&, CudaStream);
template void attention(const AttentionArgs<BFloat16>&, CudaStream);
template void attention_backward(const AttentionBackwardArgs<float>&, CudaStream);
template void attention_backward(const AttentionBackwardArgs<double>&, CudaStream);
template void attention_backward(const AttentionBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
