// SPDX-License-Identifier: Apache-2.0
#include "ops/cuda/gemm.h"
#include "ops/linear/kernels.h"
#include "tensor/cuda/numbers.cuh"

namespace gf::cuda {

template <class T>
void linear_relu_squared(const LinearReluSquaredArgs<T>& p, CudaStream stream) {
  gemm(stream, {false, true, p.M, p.N, p.K, p.K, p.K, p.N}, Inner<T>(1), p.x, p.w, Inner<T>(0), p.y);
  each_number(
      stream, p.M * p.N,
      [] __device__(const T& before, T& y) {
        const auto x = wide(before);
        y = narrow<T>(x <= 0 ? 0 : x * x);  // a NaN stays one
      },
      read_of(p.y), p.y);
}

template <class T>
void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<T>& p, CudaStream stream) {
  each_number(
      stream, p.M * p.N,
      [] __device__(const T& y, const T& dy, T& dx) { dx = narrow<T>(2 * sqrt(wide(y)) * wide(dy)); }, p.y,
      read_of(p.dy), p.dy);
  if (p.dx) gemm(stream, {false, false, p.M, p.K, p.N, p.N, p.K, p.K}, Inner<T>(1), p.dy, p.w, Inner<T>(0), p.dx);
}

template void linear_relu_squared(const LinearReluSquaredArgs<float>&, CudaStream);
template void linear_relu_squared(const LinearReluSquaredArgs<double>&, CudaStream);
template void linear_relu_squared(const LinearReluSquaredArgs<BFloat16>&, CudaStream);
template void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<float>&, CudaStream);
template void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<double>&, CudaStream);
template void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
