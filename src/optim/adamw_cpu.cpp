// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "base/parallel_for.h"
#include "optim/adamw.h"
#include "tensor/float_formats.h"

namespace gf::cpu {

void adamw(const AdamWArgs& a) {
  const auto scale = static_cast<float>(a.grad_scale);
  const auto beta1 = static_cast<float>(a.beta1), rest1 = static_cast<float>(1 - a.beta1);
  const auto beta2 = static_cast<float>(a.beta2), rest2 = static_cast<float>(1 - a.beta2);
  const auto step = static_cast<float>(a.lr / a.bias1), root = static_cast<float>(1 / std::sqrt(a.bias2));
  const auto eps = static_cast<float>(a.eps), keep = static_cast<float>(1 - a.lr * a.decay);
  parallel_ranges(a.n, 1 << 14, [&](int64_t begin, int64_t end) {
    float *const p = a.p, *const g = a.g, *const m = a.m, *const v = a.v;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float grad = g[i] * scale;
      m[i] = beta1 * m[i] + rest1 * grad;
      v[i] = beta2 * v[i] + rest2 * grad * grad;
      p[i] = keep * p[i] - step * m[i] / (std::sqrt(v[i]) * root + eps);
      g[i] = 0;
    }
    if (a.rounded)
      for (int64_t i = begin; i < end; ++i) a.rounded[i] = {bf16_from_float(p[i])};
  });
}

}  // namespace gf::cpu
