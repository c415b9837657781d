// SPDX-License-Identifier: Apache-2.0
#include "parallel/combine.h"
#include "tensor/cuda/launch.cuh"

namespace gf::cuda {

template <class T>
void combine(const CombineArgs<T>& a, CudaStream stream) {
  each(stream, a.n, [a] __device__(int64_t i) {
    T all = a.parts[i];
    for (int64_t p = 1; p < a.num_parts; ++p) {
      const T part = a.parts[p * a.n + i];
      all = a.max ? (all < part ? part : all) : all + part;
    }
    a.out[i] = all;
  });
}

template void combine(const CombineArgs<float>&, CudaStream);
template void combine(const CombineArgs<double>&, CudaStream);
template void combine(const CombineArgs<int32_t>&, CudaStream);

}  // namespace gf::cuda
