// SPDX-License-Identifier: Apache-2.0
#include "tensor/arithmetic_kernels.h"
#include "tensor/cuda/block.cuh"
#include "tensor/cuda/numbers.cuh"

namespace gf::cuda {
namespace {

constexpr int kBlock = 256;

// One sum per block; which thread adds what is told by n alone.
template <class T>
__global__ void squares_kernel(const T* x, int64_t n, double* partial) {
  double sum = 0;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += stride) {
    const auto value = static_cast<double>(wide(x[i]));
    sum += value * value;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void sum_kernel(const double* partial, int n, double* sum) {
  double mine = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kBlock) mine += partial[i];
  mine = block_sum(mine);
  if (threadIdx.x == 0) *sum = mine;
}

}  // namespace

template <class T>
void fill(const FillArgs<T>& a, CudaStream stream) {
  each(stream, a.n, [a] __device__(int64_t i) { a.x[i] = a.value; });
}

template <class T>
void add(const AddArgs<T>& a, CudaStream stream) {
  each_number(
      stream, a.n, [] __device__(const T& x, const T& y, T& sum) { sum = narrow<T>(wide(x) + wide(y)); }, a.a, a.b,
      a.out);
}

template <class T>
void accumulate(const AccumulateArgs<T>& a, CudaStream stream) {
  using I = Inner<T>;
  each_number(
      stream, a.n, [] __device__(const I& before, const T& term, I& sum) { sum = before + wide(term); }, read_of(a.sum),
      a.term, a.sum);
}

template <class T>
void scale(const ScaleArgs<T>& a, CudaStream stream) {
  each_number(
      stream, a.n, [factor = a.factor] __device__(const T& before, T& x) { x = narrow<T>(wide(before) * factor); },
      read_of(a.x), a.x);
}

template <class T>
void sum_of_squares(const SumOfSquaresArgs<T>& a, CudaStream stream) {
  const unsigned blocks = std::clamp<unsigned>(blocks_of(a.n, kBlock), 1, kPartialSums);
  launch(stream, blocks, kBlock, 0, squares_kernel<T>, a.x, a.n, a.partial);
  launch(stream, 1, kBlock, 0, sum_kernel, a.partial, static_cast<int>(blocks), a.sum);
}

template <class From, class To>
void convert(const From* from, To* to, int64_t n, CudaStream stream) {
  each_number(
      stream, n, [] __device__(const From& x, To& y) { y = narrow<To>(wide(x)); }, from, to);
}

template void fill(const FillArgs<float>&, CudaStream);
template void fill(const FillArgs<double>&, CudaStream);
template void add(const AddArgs<float>&, CudaStream);
template void add(const AddArgs<double>&, CudaStream);
template void add(const AddArgs<BFloat16>&, CudaStream);
template void accumulate(const AccumulateArgs<float>&, CudaStream);
template void accumulate(const AccumulateArgs<double>&, CudaStream);
template void accumulate(const AccumulateArgs<BFloat16>&, CudaStream);
template void scale(const ScaleArgs<float>&, CudaStream);
template void scale(const ScaleArgs<double>&, CudaStream);
template void scale(const ScaleArgs<BFloat16>&, CudaStream);
template void sum_of_squares(const SumOfSquaresArgs<float>&, CudaStream);
template void sum_of_squares(const SumOfSquaresArgs<double>&, CudaStream);
template void sum_of_squares(const SumOfSquaresArgs<BFloat16>&, CudaStream);
template void convert(const float*, BFloat16*, int64_t, CudaStream);
template void convert(const BFloat16*, float*, int64_t, CudaStream);

}  // namespace gf::cuda
