// SPDX-License-Identifier: Apache-2.0
// Attention, forward and backward, against the machine's own limit: oneDNN's product of plain matrices, measured in
// the same run before each case. FLOPs are those of the causal half: 2 T^2 N a head forward, 2.5 times that backward.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/waiting_threads.h"
#include "bench/best_product.h"
#include "ops/attention/attention.h"

namespace gf {
namespace {

// The best of as many runs as fit into half a second: what the machine can do when nobody disturbs it.
template <class Work>
double best_seconds(Work&& work) {
  work();
  double best = 1e30;
  for (const Stopwatch all; all.seconds() < 0.5;) {
    const Stopwatch one;
    work();
    best = std::min(best, one.seconds());
  }
  return best;
}

Tensor uniform(const char* name, const Shape& shape) {
  Tensor t = Tensor::empty(shape, DType::f32, kCpu);
  const Random random(1, name);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = static_cast<float>(4 * random.unit(i) - 2);
  return t;
}

void measure(int64_t B, int64_t T, int64_t H, int64_t N, AttentionBias bias = {}) {
  const Shape shape{B, T, H * N};
  const Tensor q = uniform("q", shape), k = uniform("k", shape), v = uniform("v", shape), dy = uniform("dy", shape);
  Arena arena(kCpu);
  const auto pass = [&](Tape::Mode mode) {
    Tape tape(arena, mode);
    const bool record = tape.recording();
    const Var y = attention(tape.leaf(q, record), tape.leaf(k, record), tape.leaf(v, record), H, bias);
    if (record) tape.backward(std::vector<Tape::Seed>{{y, dy}});
  };
  const double limit = BestProduct().flops_per_second() / 1e9;
  const double forward = best_seconds([&] { pass(Tape::Mode::evaluate); });
  const double both = best_seconds([&] { pass(Tape::Mode::record); });
  const double flops = 2e-9 * static_cast<double>(B * H * T * T * N);
  fmt::print(
      "B {:2} T {:5} H {:2} N {:3}{:6} | forward {:8.3f} ms {:6.1f} GFLOP/s {:.2f} | and backward {:8.3f} ms {:6.1f} "
      "GFLOP/s {:.2f} | sgemm {:.0f}\n",
      B, T, H, N, bias == AttentionBias::alibi ? " alibi" : "", forward * 1e3, flops / forward, flops / forward / limit,
      both * 1e3, 3.5 * flops / both, 3.5 * flops / both / limit, limit);
}

}  // namespace
}  // namespace gf

int main(int, char** argv) {
  gf::let_waiting_threads_sleep(argv);
  using gf::measure;
  fmt::print("GFLOP/s and their share of dnnl_sgemm 2048x768x768\n");
  measure(4, 512, 4, 64);
  measure(4, 512, 4, 64, gf::AttentionBias::alibi);
  measure(1, 2048, 12, 64);
  measure(4, 512, 12, 64);
  measure(1, 1024, 32, 64);
  measure(8, 256, 4, 64);
  measure(8, 256, 4, 32);
  measure(4, 512, 4, 128);
  measure(1, 8192, 2, 64);
}
