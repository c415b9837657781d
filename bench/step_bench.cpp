// SPDX-License-Identifier: Apache-2.0
// A whole training step (forward, backward, norm, AdamW) on random tokens, beside oneDNN's best product in the same
// process:  step_bench -c FILE... --section.key VALUE... as for gf-dist-train, --steps N.
// Prints one JSON line: median seconds, tokens/s, and the share of the product's speed that the model's own products
// reach over the whole step: the median over steps, each against the best product just before and after it. --top N
// adds a table of the N ops that took longest in one more step, each with the share that the limits measured here
// (product, memory) allow it at best. On a GPU (--train.accelerator gpu) the product is cuBLASLt's in bf16, and mfu is
// the share of what the GPU's clock and multiprocessors could do, by the formula that is printed.
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <optional>

#include "base/clock.h"
#include "base/denormals.h"
#include "base/median.h"
#include "base/parallel_for.h"
#include "base/process_memory.h"
#include "base/random.h"
#include "base/trace.h"
#include "base/waiting_threads.h"
#include "bench/best_product.h"
#include "bench/gpu_limits.h"
#include "model/initialise.h"
#include "optim/sharded_optimizer.h"
#include "parallel/gpu_of_rank.h"
#include "parallel/pipeline.h"
#include "tensor/side_stream.h"
#include "tools/train_command_line.h"
#include "train/product_file.h"

namespace gf {
namespace {

namespace po = boost::program_options;

// Dense products in bf16 that a GPU's tensor cores could do in a second. A multiprocessor does 1024 multiplications and
// additions a cycle on Ampere, and 2048 on Hopper.
double gpu_peak() {
  if constexpr (kWithCuda) {
    const cuda::GpuSpeed gpu = cuda::gpu_speed();
    const int a_cycle = gpu.generation >= 9 ? 4096 : 2048;
    fmt::print("{}: {} multiprocessors x {:.3f} GHz x {} operations a cycle = {:.0f} TFLOP/s\n", cuda::gpu_name(),
               gpu.multiprocessors, gpu.hertz / 1e9, a_cycle, gpu.multiprocessors * gpu.hertz * a_cycle / 1e12);
    return gpu.multiprocessors * gpu.hertz * a_cycle;
  }
  return 0;
}

// Bytes per second of the best copy of memory that no cache holds, read and write counted.
double copy_peak() {
  constexpr int64_t n = int64_t{1} << 26, kBlock = 1 << 18;
  std::vector<float> from(n, 1), to(n);
  double best = 1e9;
  for (int i = 0; i < 4; ++i) {
    const Stopwatch watch;
    parallel_ranges(n, kBlock, [&](int64_t begin, int64_t end) {
      std::copy_n(from.data() + begin, end - begin, to.data() + begin);
    });
    best = std::min(best, watch.seconds());
  }
  return 8.0 * n / best;
}

void print_top(const Trace& trace, int count, double step, double flops_peak) {
  const double bytes_peak = copy_peak();
  fmt::print("one traced step; limits: products {:.0f} GFLOP/s, memory {:.1f} GB/s\n", flops_peak / 1e9,
             bytes_peak / 1e9);
  fmt::print("{:<32} {:>6} {:>9} {:>7} {:>9} {:>7} {:>9}\n", "op", "calls", "ms", "of step", "GFLOP/s", "GB/s",
             "of limit");
  double all = 0, untold = 0;
  for (const Trace::Total& t : trace.totals()) {
    all += t.seconds;
    if (--count < 0) {
      untold += t.seconds;
      continue;
    }
    fmt::print("{:<32} {:>6} {:>9.2f} {:>6.1f}% {:>9.1f} {:>7.1f} {:>8.0f}%\n", t.name, t.calls, t.seconds * 1e3,
               100 * t.seconds / step, t.flops / t.seconds / 1e9, t.bytes / t.seconds / 1e9,
               100 * std::max(t.flops / flops_peak, t.bytes / bytes_peak) / t.seconds);
  }
  fmt::print("other ops {:.1f} ms, outside of ops {:.1f} ms of {:.1f} ms\n", untold * 1e3, (step - all) * 1e3,
             step * 1e3);
}

// Products of a step per token: 6 for each weight of a matrix, 12 T C / 2 for each attention layer.
double product_flops_per_token(const LayerStack& layers) {
  const ModelConfig& c = layers.config();
  double weights = 0;
  for (const auto& p : layers.parameters().all())
    if ((p->spec().role == Role::matrix || p->spec().role == Role::lora) && p->name() != "emb.weight")
      weights += static_cast<double>(p->shape().numel());
  double attention = 0;
  for (int64_t i = 0; i < c.n_layer; ++i) {
    const std::string& mix = c.time_mix(i);
    if (has_attention(mix)) attention += 6.0 * static_cast<double>(c.ctx_len * c.dim_att);
    if (mix == "x060c2" && c.use_v2) weights += static_cast<double>(c.n_embd * c.dim_att);  // W^V is used twice
  }
  return 6 * weights + attention;
}

Batch random_batch(const Config& c, int64_t seed) {
  const Shape shape{c.train.micro_bsz, c.model.ctx_len};
  Batch batch{Tensor::empty(shape, DType::i32, kCpu), Tensor::empty(shape, DType::i32, kCpu), {}};
  batch.samples_B.resize(c.train.micro_bsz);
  const Random random(static_cast<uint64_t>(seed), "tokens");
  for (int64_t i = 0; i < shape.numel(); ++i) {
    batch.inputs_BT.data<int32_t>()[i] =
        static_cast<int32_t>(random.unit(2 * i) * static_cast<double>(c.model.vocab_size));
    batch.targets_BT.data<int32_t>()[i] =
        static_cast<int32_t>(random.unit(2 * i + 1) * static_cast<double>(c.model.vocab_size));
  }
  return batch;
}

void run(const Config& config, int steps, int top) {
  const bool on_gpu = config.train.on_gpu();
  const Device device = on_gpu ? choose_gpu(0) : kCpu;
  const std::string& choices = config.train.product_choices;
  if (!choices.empty()) use_product_file(choices);
  LayerStack layers(config.model);
  layers.parameters().allocate(device, config.train.computes_in(), ParameterStore::Gradients::zeroed);
  initialise(layers.parameters(), 1);
  const auto world = make_self_communicator();
  ShardedOptimizer optimizer(layers, *world, {}, {});
  optimizer.values_were_set();
  const int64_t tokens = config.train.global_batch() * config.model.ctx_len;
  Stage stage(layers, {.device = device,
                       .dtype = config.train.computes_in(),
                       .recompute = config.train.grad_cp,
                       .loss_scale = 1 / static_cast<double>(tokens),
                       .graphs = on_gpu && config.model.dropout == 0});
  Pipeline pipeline(stage, *world, find_schedule("one_f_one_b"));
  const auto timed_step = [&](int i) {
    const std::vector<Batch> batches(microbatches_per_rank(config.train, 1), random_batch(config, i));
    const Stopwatch watch;
    pipeline.run_passes(batches, optimizer);
    optimizer.finish_gradients();
    pipeline.take_loss();
    optimizer.step(1e-4, 0.001);
    StreamEvent::of_current(device).wait();
    return watch.seconds();
  };
  const double flops = product_flops_per_token(layers) * static_cast<double>(tokens);
  BestProduct product(2048, std::max<int64_t>(config.model.n_embd, 256));
  std::optional<GpuTimer> timer;
  if (on_gpu) timer.emplace(device);
  const auto product_peak = [&] { return timer ? gpu_product_peak(device, *timer) : product.flops_per_second(); };
  constexpr int kWarmUp = 3;  // passes are launched, captured, and launched as a whole
  for (int i = 0; i < (on_gpu ? kWarmUp : 1); ++i) timed_step(-i);
  std::vector<double> seconds, shares, peaks{product_peak()};
  for (int i = 1; i <= steps; ++i) {
    seconds.push_back(timed_step(i));
    peaks.push_back(product_peak());
    shares.push_back(flops / seconds.back() / std::max(peaks[i - 1], peaks[i]));
  }
  const double step = median(seconds), peak = median(peaks);
  const std::string mfu = on_gpu ? fmt::format("\"mfu\": {:.3f}, ", flops / step / gpu_peak()) : "";
  fmt::print(
      "{{\"tmix\": \"{}\", \"tmix2\": \"{}\", \"params\": {}, \"threads\": {}, \"step_s\": {:.4f}, \"tokens_per_s\": "
      "{:.1f}, \"product_gflops\": {:.0f}, \"share\": {:.3f}, {}\"peak_mb\": {:.0f}}}\n",
      config.model.tmix, config.model.tmix2, layers.parameters().count(), omp_get_max_threads(), step,
      static_cast<double>(tokens) / step, peak / 1e9, median(shares), mfu,
      static_cast<double>(peak_resident_bytes()) / 1e6);
  if (!choices.empty()) add_to_product_file(choices, *world);
  if (top <= 0) return;
  const Trace trace;
  const double traced = timed_step(steps + 1);
  print_top(trace, top, traced, peak);
}

}  // namespace
}  // namespace gf

int main(int argc, char** argv) {
  gf::let_waiting_threads_sleep(argv);
  return gf::run_main("step_bench", "a smaller model or --train.micro_bsz", [&] {
    int steps = 6, top = 0;
    boost::program_options::options_description own("bench");
    own.add_options()("steps", boost::program_options::value(&steps)->default_value(6), "steps that are timed");
    own.add_options()("top", boost::program_options::value(&top)->default_value(0),
                      "ops of a table of where the time goes");
    gf::Arguments arguments(argv + 1, argv + argc);
    arguments.insert(arguments.end(), {"--train.data_file", "none"});
    if (const auto config = gf::parse_command_line(arguments, {own, "step_bench"})) gf::run(*config, steps, top);
    return 0;
  });
}
