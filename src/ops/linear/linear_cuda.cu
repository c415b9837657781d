// SPDX-License-Identifier: Apache-2.0
#include "ops/cuda/gemm.h"
#include "ops/linear/kernels.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"

namespace gf::cuda {

template <class T>
void linear_relu_squared(const LinearReluSquaredArgs<T>& p, CudaStream stream) {
  gemm(stream, {false, true, p.M, p.N, p.K, p.K, p.K, p.N}, Inner<T>(1), p.x, p.w, Inner<T>(0), p.y);
  each(stream, p.M * p.N, [p] __device__(int64_t i) {
    const auto y = wide(p.y[i]);
    p.y[i] = narrow<T>(y <= 0 ? 0 : y * y);  // a NaN stays one
  });
}

template <class T>
void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<T>& p, CudaStream stream) {
  each(stream, p.M * p.N, [p] __device__(int64_t i) { p.dy[i] = narrow<T>(2 * sqrt(wide(p.y[i])) * wide(p.dy[i])); });
  if (p.dx) gemm(stream, {false, false, p.M, p.K, p.N, p.N, p.K, p.K}, Inner<T>(1), p.dy, p.w, Inner<T>(0), p.dx);
}

template void linear_relu_squared(const LinearReluSquaredArgs<float>&, CudaStream);
template void linear_relu_squared(const LinearReluSquaredArgs<double>&, CudaStream);
template void linear_relu_squared(const LinearReluSquaredArgs<BFloat16>&, CudaStream);
template void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<float>&, CudaStream);
template void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<double>&, CudaStream);
template void linear_relu_squared_backward(const LinearReluSquaredBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
