// SPDX-License-Identifier: Apache-2.0
// WKV6 on one thread: nanoseconds per token and head of 64, forward and backward.
#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "ops/wkv6/kernels.h"

int main() {
  using namespace gf;
  omp_set_num_threads(1);
  constexpr int64_t T = 1024, H = 12, N = 64, n = T * H * N;
  std::vector<float> in[4], out[6], u(H * N), du(H * N);
  for (int i = 0; i < 4; ++i)
    for (int64_t j = 0; j < n; ++j)
      in[i].push_back(static_cast<float>(Random(i, "x").uniform(j)) * (i == 3 ? 2.5f : 1.0f) - (i == 3 ? 3.5f : 0.0f));
  for (auto& o : out) o.assign(n, 0.5f);
  for (const bool finch_c2 : {false, true}) {
    const Wkv6Args<float> f{1,
                            T,
                            H,
                            N,
                            in[0].data(),
                            in[1].data(),
                            in[2].data(),
                            in[3].data(),
                            finch_c2 ? nullptr : u.data(),
                            finch_c2 ? in[0].data() : nullptr,
                            finch_c2,
                            out[0].data()};
    const Wkv6BackwardArgs<float> b{
        f, out[5].data(), out[1].data(), out[2].data(), out[3].data(), out[4].data(), finch_c2 ? nullptr : du.data()};
    double forward = 1e9, backward = 1e9;
    for (int run = 0; run < 7; ++run) {
      Stopwatch watch;
      cpu::wkv6(f);
      forward = std::min(forward, watch.lap());
      cpu::wkv6_backward(b);
      backward = std::min(backward, watch.lap());
    }
    std::printf("wkv6 %-8s forward %6.1f ns, backward %6.1f ns, together %6.1f ns per token and head\n",
                finch_c2 ? "finch-c2" : "finch", forward * 1e9 / (T * H), backward * 1e9 / (T * H),
                (forward + backward) * 1e9 / (T * H));
  }
}
