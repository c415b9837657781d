// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "optim/adamw.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"

namespace gf::cuda {

void adamw(const AdamWArgs& a, CudaStream stream) {
  const auto scale = static_cast<float>(a.grad_scale);
  const auto beta1 = static_cast<float>(a.beta1), rest1 = static_cast<float>(1 - a.beta1);
  const auto beta2 = static_cast<float>(a.beta2), rest2 = static_cast<float>(1 - a.beta2);
  const auto step = static_cast<float>(a.lr / a.bias1), root = static_cast<float>(1 / std::sqrt(a.bias2));
  const auto eps = static_cast<float>(a.eps), keep = static_cast<float>(1 - a.lr * a.decay);
  each(stream, a.n, [=, p = a.p, g = a.g, m = a.m, v = a.v, rounded = a.rounded] __device__(int64_t i) {
    const float grad = g[i] * scale;
    const float mean = beta1 * m[i] + rest1 * grad, square = beta2 * v[i] + rest2 * grad * grad;
    m[i] = mean;
    v[i] = square;
    const float value = keep * p[i] - step * mean / (sqrtf(square) * root + eps);
    p[i] = value;
    if (rounded) rounded[i] = narrow<BFloat16>(value);
    g[i] = 0;
  });
}

}  // namespace gf::cuda
