// SPDX-License-Identifier: Apache-2.0
// The kernels of a GPU, in bf16, at the sizes of a model of 1.5B parameters: time, FLOP/s, bytes/s, and their share of
// the limit that is nearer, both measured here just before: cuBLASLt's best product, and a copy. Forward passes, and
// forward and backward together. FLOPs and bytes are those that the ops tell a trace.   gpu_bench [--choices FILE]
#include <fmt/format.h>

#include "base/trace.h"
#include "bench/gpu_limits.h"
#include "ops/attention/attention.h"
#include "ops/ddlerp/ddlerp.h"
#include "ops/elementwise/elementwise.h"
#include "ops/head_loss/head_loss.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/linear/linear.h"
#include "ops/lora/lora.h"
#include "ops/wkv6/wkv6.h"
#include "optim/flat_ranges.h"
#include "parallel/gpu_of_rank.h"
#include "tools/command_line.h"
#include "train/product_file.h"

namespace gf {
namespace {

struct Work {
  double flops = 0, bytes = 0;
};

class Bench {
 public:
  explicit Bench(Device device)
      : device_(device),
        timer_(device),
        product_(gpu_product_peak(device, timer_)),
        copy_(gpu_copy_peak(device, timer_)) {
    fmt::print("limits measured: products {:.0f} TFLOP/s, memory {:.0f} GB/s\n", product_ / 1e12, copy_ / 1e9);
    fmt::print("{:<44} {:>9} {:>9} {:>8} {:>9}\n", "", "ms", "TFLOP/s", "GB/s", "of limit");
  }

  void measure(const std::string& name, const Work& work, const std::function<void()>& body) const {
    const double seconds = timer_.seconds(body);
    fmt::print("{:<44} {:>9.3f} {:>9.1f} {:>8.0f} {:>8.0f}%\n", name, seconds * 1e3, work.flops / seconds / 1e12,
               work.bytes / seconds / 1e9, 100 * std::max(work.flops / product_, work.bytes / copy_) / seconds);
    std::fflush(stdout);
  }

  // `op`: of leaves of these shapes -> what comes out, of which the first has a gradient.
  using Op = std::function<std::vector<Var>(Tape&, const std::vector<Var>&)>;
  void measure_op(const std::string& name, const std::vector<Shape>& shapes, const Op& op) const {
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < shapes.size(); ++i) inputs.push_back(random(cat("input ", i), shapes[i]));
    Arena arena(device_);
    Tensor dy;
    const auto pass = [&](Tape::Mode mode) {
      Tape tape(arena, mode);
      std::vector<Var> leaves;
      for (const Tensor& t : inputs) leaves.push_back(tape.leaf(t, tape.recording()));
      const auto out = op(tape, leaves);
      if (!tape.recording()) return;
      if (!dy) dy = out[0].value().numel() == 1 ? one(out[0].value()) : random("dy", out[0].value().shape());
      std::vector<Tape::Seed> seeds;
      for (const Var& y : out) seeds.push_back({y, dy});
      tape.backward(std::move(seeds));
    };
    for (const auto mode : {Tape::Mode::evaluate, Tape::Mode::record}) {
      Work work;
      {
        const Trace trace;
        pass(mode);
        for (const Trace::Total& t : trace.totals()) work.flops += t.flops, work.bytes += t.bytes;
      }
      measure(name + (mode == Tape::Mode::record ? ", and backward" : ""), work, [&] { pass(mode); });
    }
  }

  Tensor random(const std::string& name, const Shape& shape) const {
    return random_numbers(name.c_str(), shape, DType::bf16, device_);
  }

 private:
  static Tensor one(const Tensor& like) {
    Tensor t = Tensor::empty(like.shape(), like.dtype(), like.device());
    fill(t, 1);
    return t;
  }

  Device device_;
  GpuTimer timer_;
  double product_, copy_;
};

void measure_products(const Bench& bench) {
  const int64_t M = 16384;
  for (const auto& [N, K] : {std::pair<int64_t, int64_t>(2048, 2048), {7168, 2048}, {2048, 7168}})
    bench.measure_op(cat("linear ", M, "x", K, " to ", N), {{M, K}, {N, K}},
                     [](Tape&, const auto& in) { return std::vector{linear(in[0], in[1])}; });
  bench.measure_op("relu(x W)^2 16384x2048 to 7168", {{M, 2048}, {7168, 2048}},
                   [](Tape&, const auto& in) { return std::vector{linear_relu_squared(in[0], in[1])}; });
  bench.measure_op("lora 16384x2048 by 64", {{M, 2048}, {2048, 64}, {64, 2048}, {2048}},
                   [](Tape&, const auto& in) { return std::vector{lora(in[0], in[1], in[2], in[3])}; });
}

void measure_mixers(const Bench& bench) {
  for (const auto& [T, H] : {std::pair<int64_t, int64_t>(4096, 64), {2048, 32}}) {
    const Shape x{8, T, H * 64}, u{H, 64};
    bench.measure_op(cat("wkv6 finch B8 T", T, " H", H), {x, x, x, x, u}, [H = H](Tape&, const auto& in) {
      return std::vector{wkv6({in[0], in[1], in[2], in[3], in[4], std::nullopt, H})};
    });
    bench.measure_op(cat("wkv6 finch-c2 B8 T", T, " H", H), {x, x, x, x, x}, [H = H](Tape&, const auto& in) {
      return std::vector{wkv6({in[0], in[1], in[2], in[3], std::nullopt, in[4], H, true})};
    });
  }
  for (const auto& [T, H, N] : {std::tuple<int64_t, int64_t, int64_t>(2048, 32, 64), {4096, 32, 64}, {2048, 16, 128}}) {
    const Shape x{8, T, H * N};
    bench.measure_op(cat("attention B8 T", T, " H", H, " N", N), {x, x, x},
                     [H = H](Tape&, const auto& in) { return std::vector{attention(in[0], in[1], in[2], H)}; });
  }
}

void measure_rows(const Bench& bench) {
  const Shape x{8, 2048, 2048}, c{2048};
  bench.measure_op("layer norm", {x, c, c},
                   [](Tape&, const auto& in) { return std::vector{layer_norm(in[0], in[1], in[2])}; });
  bench.measure_op("add and layer norm", {x, x, c, c}, [](Tape&, const auto& in) {
    const ResidualNorm r = add_layer_norm(in[0], in[1], in[2], in[3]);
    return std::vector{r.sum, r.normed};
  });
  bench.measure_op("ddlerp, five targets", {x, c, {2048, 160}, {5, 32, 2048}, c, c, c, c, c},
                   [](Tape&, const auto& in) {
                     return ddlerp({in[0], in[1], in[2], in[3], {in[4], in[5], in[6], in[7], in[8]}, {}});
                   });
  bench.measure_op("swiglu", {x, x}, [](Tape&, const auto& in) { return std::vector{swiglu(in[0], in[1])}; });
}

void measure_head(const Bench& bench, Device device) {
  constexpr int64_t kTokens = 8192, kWidth = 2048, kVocabulary = 65536;
  const Tensor here = Tensor::empty({4, kTokens / 4}, DType::i32, kCpu);
  for (int64_t i = 0; i < kTokens; ++i) here.data<int32_t>()[i] = static_cast<int32_t>(i * 7919 % kVocabulary);
  const Tensor targets = on(device, here);
  bench.measure_op("head and loss, 8192 tokens, 65536 words", {{4, kTokens / 4, kWidth}, {kVocabulary, kWidth}},
                   [&](Tape&, const auto& in) {
                     return std::vector{head_loss(in[0], in[1], targets, {.scale = 1.0 / kTokens}).loss};
                   });
}

// 400 parameters, of 200 million numbers.
void measure_optimizer(const Bench& bench, Device device) {
  constexpr int64_t kRanges = 400, kEach = 500'000, n = kRanges * kEach;
  std::vector<FlatRanges::Range> list;
  for (int64_t i = 0; i < kRanges; ++i) list.push_back({{i * kEach, (i + 1) * kEach}, i * kEach});
  FlatRanges ranges(list, device);
  const auto floats = [&](const char* name) { return random_numbers(name, {n}, DType::f32, device); };
  const Tensor p = floats("p"), g = floats("g"), m = floats("m"), v = Tensor::zeros({n}, DType::f32, device),
               rounded = Tensor::empty({n}, DType::bf16, device);
  bench.measure("norm of 200M gradients", {0, 4.0 * n}, [&] { ranges.begin_squares(g); });
  const AdamWArgs args{0,
                       p.data<float>(),
                       g.data<float>(),
                       m.data<float>(),
                       v.data<float>(),
                       rounded.data<BFloat16>(),
                       1,
                       1e-4,
                       0.9,
                       0.99,
                       0.1,
                       0.01,
                       1e-8,
                       0.1};
  bench.measure("adamw of 200M", {0, 34.0 * n}, [&] { ranges.adamw(args); });
}

void run(const std::string& choices) {
  const Device device = choose_gpu(0);
  if (!choices.empty()) use_product_file(choices);
  const Bench bench(device);
  measure_products(bench);
  measure_mixers(bench);
  measure_rows(bench);
  measure_head(bench, device);
  measure_optimizer(bench, device);
  if (!choices.empty()) add_to_product_file(choices, *make_self_communicator());
}

}  // namespace
}  // namespace gf

int main(int argc, char** argv) {
  return gf::run_main("gpu_bench", "a GPU with more memory", [&] {
    const bool with_file = argc == 3 && std::string(argv[1]) == "--choices";
    if (argc != 1 && !with_file) gf::refuse("gpu_bench [--choices FILE]", "a file for train.product_choices");
    gf::run(with_file ? argv[2] : "");
    return 0;
  });
}
