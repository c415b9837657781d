// SPDX-License-Identifier: Apache-2.0
#include "base/parallel_for.h"
#include "ops/cpu/simd.h"
#include "ops/lora/kernels.h"

namespace gf::cpu {
namespace {
constexpr int64_t kRun = 1 << 13;
}

template <class T>
void tanh_in_place(T* z, int64_t n) {
  parallel_ranges(n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) z[i] = simd::tanh(z[i]);
  });
}

template <class T>
void tanh_backward(const T* z, T* dz, int64_t n) {
  parallel_ranges(n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) dz[i] *= T(1) - z[i] * z[i];
  });
}

template void tanh_in_place(float*, int64_t);
template void tanh_in_place(double*, int64_t);
template void tanh_backward(const float*, float*, int64_t);
template void tanh_backward(const double*, double*, int64_t);

}  // namespace gf::cpu
