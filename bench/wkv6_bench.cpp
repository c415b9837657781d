// SPDX-License-Identifier: Apache-2.0
// WKV6 on one thread: nanoseconds per token and head of 64, forward and backward; and the share of oneDNN's best
// product on that thread, measured just before, that the least operations are: 4 N^2 forward (the state's update, and
// reading it), 10 N^2 backward (the state again; the gradients of it, and of r, k and v).
#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "bench/best_product.h"
#include "ops/wkv6/kernels.h"
#include "tensor/arena.h"

int main() {
  using namespace gf;
  omp_set_num_threads(1);
  constexpr int64_t T = 1024, H = 12, N = 64, n = T * H * N;
  Arena arena(kCpu);  // whose memory is in large pages, as in training
  std::vector<Tensor> tensors;
  const auto floats = [&](int64_t count, float value) {
    tensors.push_back(arena.empty({count}, DType::f32));
    std::fill_n(tensors.back().data<float>(), count, value);
    return tensors.back().data<float>();
  };
  float *in[4], *out[6], *const u = floats(H * N, 0), *const du = floats(H * N, 0);
  for (int i = 0; i < 4; ++i) {
    in[i] = floats(n, 0);
    for (int64_t j = 0; j < n; ++j)
      in[i][j] = static_cast<float>(Random(i, "x").uniform(j)) * (i == 3 ? 2.5f : 1.0f) - (i == 3 ? 3.5f : 0.0f);
  }
  for (float*& o : out) o = floats(n, 0.5f);
  BestProduct product;
  for (const bool finch_c2 : {false, true}) {
    const double peak = product.flops_per_second();
    const Wkv6Args<float> f{.B = 1,
                            .Tn = T,
                            .H = H,
                            .N = N,
                            .r = in[0],
                            .k = in[1],
                            .v = in[2],
                            .w = in[3],
                            .u = finch_c2 ? nullptr : u,
                            .add = finch_c2 ? in[0] : nullptr,
                            .scale_keys = finch_c2,
                            .y = out[0],
                            .state = nullptr};
    const Wkv6BackwardArgs<float> b{f, out[5], out[1], out[2], out[3], out[4], finch_c2 ? nullptr : du};
    double forward = 1e9, backward = 1e9;
    for (int run = 0; run < 7; ++run) {
      Stopwatch watch;
      cpu::wkv6(f);
      forward = std::min(forward, watch.lap());
      cpu::wkv6_backward(b);
      backward = std::min(backward, watch.lap());
    }
    const double ns = 1e9 / (T * H), least = N * N * T * H / peak;
    std::printf(
        "wkv6 %-8s forward %6.1f ns, backward %6.1f ns, together %6.1f ns per token and head; %.2f, %.2f and %.2f of a "
        "product at %.0f GFLOP/s\n",
        finch_c2 ? "finch-c2" : "finch", forward * ns, backward * ns, (forward + backward) * ns, 4 * least / forward,
        10 * least / backward, 14 * least / (forward + backward), peak / 1e9);
  }
}
