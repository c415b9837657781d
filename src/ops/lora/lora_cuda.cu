// SPDX-License-Identifier: Apache-2.0
// Products by cuBLASLt; what lies between them is limited by bytes. y begins as the base, so that the sum of both is
// rounded once.
#include "ops/cuda/gemm.h"
#include "ops/cuda/row_sums.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/lora/kernels.h"
#include "tensor/cuda/numbers.cuh"

namespace gf::cuda {
namespace {

constexpr int kBlock = 128;

// The base in every row: a row a block.
template <class T, int kCount>
__global__ void __launch_bounds__(kBlock) repeat_kernel(const T* base, int64_t N, T* y) {
  for (int64_t n = int64_t{threadIdx.x} * kCount; n < N; n += kBlock * kCount)
    store(y + blockIdx.x * N + n, load<kCount>(base + n));
}

// The sums of a block's rows: kCount columns a thread.
template <class T, int kCount>
__global__ void __launch_bounds__(kBlock) row_sums_kernel(const T* dy, int64_t N, Blocks blocks, Inner<T>* partial) {
  const int64_t n = (int64_t{blockIdx.y} * kBlock + threadIdx.x) * kCount, end = blocks.end(blockIdx.x);
  if (n >= N) return;
  Inner<T> sum[kCount] = {};
#pragma unroll 8
  for (int64_t row = blocks.begin(blockIdx.x); row < end; ++row) {
    const auto d = load<kCount>(dy + row * N + n);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] += wide(d.x[i]);
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) partial[blockIdx.x * N + n + i] = sum[i];
}

template <class T>
void copy_rows(const T* from, T* to, int64_t n, CudaStream stream) {
  copy(reinterpret_cast<const std::byte*>(from), reinterpret_cast<std::byte*>(to), static_cast<size_t>(n) * sizeof(T),
       stream);
}

}  // namespace

template <class T>
void lora(const LoraArgs<T>& p, CudaStream stream) {
  using I = Inner<T>;
  if (p.M == 0) return;
  gemm(stream, {false, false, p.M, p.R, p.C, p.C, p.R, p.R}, I(1), p.x, p.a, I(0), p.z);
  each_number(
      stream, p.M * p.R, [] __device__(const T& x, T& z) { z = narrow<T>(tanh(wide(x))); }, read_of(p.z), p.z);
  if (p.base_is_row)
    with_pack<16, T>(p.N, 1, {p.base, p.y}, [&](auto count) {
      launch(stream, static_cast<unsigned>(p.M), kBlock, 0, repeat_kernel<T, count>, p.base, p.N, p.y);
    });
  else
    copy_rows(p.base, p.y, p.M * p.N, stream);
  gemm(stream, {false, false, p.M, p.N, p.R, p.R, p.N, p.N}, I(1), p.z, p.b, I(1), p.y);
}

template <class T>
void lora_backward(const LoraBackwardArgs<T>& p, CudaStream stream) {
  using I = Inner<T>;
  if (p.M == 0) return;
  gemm(stream, {false, true, p.M, p.R, p.N, p.N, p.N, p.R}, I(1), p.dy, p.b, I(0), p.dz);
  each_number(
      stream, p.M * p.R,
      [] __device__(const T& z, const T& dtanh, T& dz) { dz = narrow<T>(wide(dtanh) * (1 - wide(z) * wide(z))); },
      read_of(p.z), read_of(p.dz), p.dz);
  if (p.dbase) {
    const Blocks blocks = lora_blocks(p.M);
    with_pack<8, T>(p.N, 1, {p.dy}, [&](auto count) {
      launch(stream, {static_cast<unsigned>(blocks.size()), blocks_of(p.N / count, kBlock)}, kBlock, 0,
             row_sums_kernel<T, count>, p.dy, p.N, blocks, p.partial);
    });
    add_partial_rows(stream, p.partial, blocks.size(), p.N, p.N, p.dbase);
  }
  if (!p.dx) return;
  if (p.dx_with_dy) copy_rows(p.dy, p.dx, p.M * p.C, stream);
  gemm(stream, {false, true, p.M, p.C, p.R, p.R, p.R, p.C}, I(1), p.dz, p.a, I(p.dx_with_dy ? 1 : 0), p.dx);
}

template void lora(const LoraArgs<float>&, CudaStream);
template void lora(const LoraArgs<double>&, CudaStream);
template void lora(const LoraArgs<BFloat16>&, CudaStream);
template void lora_backward(const LoraBackwardArgs<float>&, CudaStream);
template void lora_backward(const LoraBackwardArgs<double>&, CudaStream);
template void lora_backward(const LoraBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
