// SPDX-License-Identifier: Apache-2.0
#include "train/golden.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "base/text.h"
#include "io/data/sampler.h"
#include "io/files.h"
#include "model/initialise.h"
#include "optim/learning_rate.h"
#include "optim/sharded_optimizer.h"
#include "parallel/pipeline.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

using Json = nlohmann::json;

// Relative to the golden value. Float32 rounds each of the some hundred operations on the way by 6e-8; PyTorch in
// float32 has 6e-6 at worst over all cases for gradients, 3e-6 for losses of the training runs.
constexpr double kGradTolerance = 3e-5;

struct Tolerances {
  double loss, gradient, training;
  static Tolerances of(const GoldenOptions& o) {
    if (o.dtype == DType::bf16) return {1e-2, 0, 1e-2};  // 8 bits; see GoldenOptions
    if (o.device != kCpu) return {1e-6, 1e-4, 2e-5};     // other orders of the same sums
    return {1e-6, kGradTolerance, 2e-5};
  }
};

// |g - golden| <= 3e-5 |golden| + 1e-6 |all gradients|: some gradients are zero in exact arithmetic (a key's bias
// under softmax), and can only be measured against the others.
constexpr double kGradFloor = 1e-6 / kGradTolerance;

// The norms of a masked training run hang on few targets. A case says in `rounding` how far they move in float64, at
// worst of 16 times, where each parameter moves by up to half a unit of its last place; float32 rounds all else too.
constexpr double kRoundings = 3;

// A case is small: what would take long, or all memory, is none.
constexpr int64_t kMostParameters = 1 << 26, kMostTokens = 1 << 20, kLongestCase = 1 << 26;

int64_t size_in(const Json& json, const char* key, int64_t least, int64_t most) {
  const int64_t n = json.at(key);
  if (n < least || n > most)
    refuse(cat(key, " is ", n, " and must be from ", least, " to ", most), "the published cases only");
  return n;
}

ModelConfig model_of(const Json& m) {
  ModelConfig c;
  c.tmix = m.at("tmix"), c.tmix2 = m.at("tmix2"), c.cmix = m.at("cmix"), c.cmix2 = m.at("cmix2");
  c.n_layer = m.at("n_layer"), c.n_embd = m.at("n_embd"), c.dim_att = m.at("dim_att"), c.dim_ffn = m.at("dim_ffn");
  c.head_size = m.at("head_size"), c.head_size_divisor = m.at("head_size_divisor");
  c.vocab_size = m.at("vocab_size"), c.ctx_len = m.at("ctx_len");
  c.inv_other_layer_ratio = m.at("inv_other_layer_ratio");
  c.kv_cache_compression_ratio = m.at("kv_cache_compression_ratio");
  c.use_one_minus_w = m.at("use_one_minus_w").get<int>(), c.use_v2 = m.at("use_v2").get<int>();
  if (const double base = m.at("rope_base"); base != 0) c.rope = RopeConfig{base, 1, 1};
  c.resolve();
  c.check();
  return c;
}

std::vector<int32_t> hashed_tokens(uint64_t seed, int64_t n, int64_t vocab) {
  const Random random(seed, "tokens");
  std::vector<int32_t> tokens(n);
  for (int64_t i = 0; i < n; ++i)
    tokens[i] = static_cast<int32_t>(std::floor((random.uniform(i) + 1) / 2 * static_cast<double>(vocab)));
  return tokens;
}

// Rows of length + 1 tokens, as inputs and targets.
Batch batch_of(const std::vector<int32_t>& tokens, const std::vector<int64_t>& starts, int64_t length) {
  const auto B = static_cast<int64_t>(starts.size());
  Batch batch{Tensor::empty({B, length}, DType::i32, kCpu), Tensor::empty({B, length}, DType::i32, kCpu), {}};
  for (int64_t b = 0; b < B; ++b) {
    batch.samples_B.push_back(b);
    std::copy_n(tokens.begin() + starts[b], length, batch.inputs_BT.data<int32_t>() + b * length);
    std::copy_n(tokens.begin() + starts[b] + 1, length, batch.targets_BT.data<int32_t>() + b * length);
  }
  return batch;
}

// Takes away the targets that a hash of their place in the data does not mark. -> how many are left.
int64_t mask_targets(Batch& batch, const Json& mask, const std::vector<int64_t>& starts) {
  const Random random(mask.at("seed"), "mask");
  const double below = mask.at("below");
  const int64_t T = batch.targets_BT.size(1);
  batch.masked = true;
  for (int64_t i = 0; i < batch.targets_BT.numel(); ++i)
    if (random.uniform(static_cast<uint64_t>(starts[static_cast<size_t>(i / T)] + 1 + i % T)) >= below)
      batch.targets_BT.data<int32_t>()[i] = kNoTarget;
  return count_targets(batch.targets_BT, true);
}

struct Digest {
  double norm;
  double dots[4];
};

Digest digest_of(const std::string& name, const Tensor& anywhere) {
  const Tensor t = on(kCpu, anywhere);
  Digest d{std::sqrt(sum_of_squares(t)), {}};
  for (int j = 0; j < 4; ++j) {
    const Random direction(1000 + j, name);
    for (int64_t i = 0; i < t.numel(); ++i) d.dots[j] += static_cast<double>(t.data<float>()[i]) * direction.uniform(i);
  }
  return d;
}

// How far a tensor is from the golden one, over the golden norm plus `floor`. A random error of norm e moves each
// projection by e sqrt(1/3) in the mean, so the mean square of four of them estimates it.
double distance(const Digest& got, const Json& want, double floor) {
  double squares = 0;
  for (int j = 0; j < 4; ++j) {
    const double difference = got.dots[j] - want.at("dots").at(j).get<double>();
    squares += difference * difference;
  }
  const double norm = want.at("norm");
  return std::max(std::sqrt(3 * squares / 4), std::fabs(got.norm - norm)) / (norm + floor);
}

double relative(double got, double want) {
  return std::fabs(got - want) / std::fabs(want);
}

class Check {
 public:
  Check(std::string what, double tolerance) : check_{std::move(what), "", 0, tolerance} {}
  void add(const std::string& name, double error) {
    if (std::isnan(check_.error) || error <= check_.error) return;  // a NaN is never less, and stays
    check_.error = error;
    check_.worst = name;
  }
  GoldenCheck result() const { return check_; }

 private:
  GoldenCheck check_;
};

class Case {
 public:
  Case(const Json& json, const GoldenOptions& options)
      : json_(json),
        options_(options),
        tolerances_(Tolerances::of(options)),
        layers_(model_of(json.at("model"))),
        seed_(json.at("seed")) {
    const int64_t count = layers_.parameters().count();
    if (count > kMostParameters) refuse(cat("a case of ", count, " parameters"), "the published cases only");
    layers_.parameters().allocate(options_.device, options_.dtype, ParameterStore::Gradients::zeroed);
  }

  std::vector<GoldenCheck> run() {
    forward(false);
    forward(true);
    training("training", json_.at("training").at("steps"), 0, nullptr);
    if (json_.contains("masked")) {
      const Json& masked = json_.at("masked");
      training("masked training", masked.at("steps"), kRoundings * masked.at("rounding").get<double>(),
               &masked.at("mask"));
    }
    return results_;
  }

 private:
  void hash_parameters(const TakeFresh& take) {
    const Json& list = json_.at("params");
    const auto& all = layers_.parameters().all();
    if (list.size() != all.size())
      refuse(cat("the case has ", list.size(), " parameters, the model ", all.size()), "the published variants only");
    for (const Json& spec : list) {
      const std::string name = spec.at("name");
      const Parameter* p = layers_.parameters().find(name);
      if (!p) refuse(cat("the case has a parameter ", name, ", the model has none"), "the published variants only");
      const auto dims = spec.at("shape").get<std::vector<int64_t>>();
      if (!(p->shape() == Shape(dims)))
        refuse(cat(name, " is ", Shape(dims), " in the case and ", p->shape(), " in the model"));
      const Tensor values = Tensor::empty(p->shape(), DType::f32, kCpu);
      const Random random(seed_, name);
      const double offset = spec.at("offset"), slope = spec.at("slope"), scale = spec.at("scale");
      for (int64_t i = 0; i < p->shape().numel(); ++i)
        values.data<float>()[i] =
            static_cast<float>(offset + slope * static_cast<double>(i) + scale * random.uniform(i));
      take(*p, values);
    }
    fill_zero(layers_.parameters().grads());
  }

  void forward(bool pull) {
    hash_parameters([](const Parameter& p, const Tensor& numbers) { p.set(numbers); });
    const Json& want = json_.at("forward");
    const int64_t T = size_in(json_, "length", 1, kMostTokens), B = size_in(json_, "batch", 1, kMostTokens / T);
    std::vector<int64_t> starts;
    for (int64_t b = 0; b < B; ++b) starts.push_back(b * (T + 1));
    Batch batch = batch_of(hashed_tokens(seed_, B * (T + 1), layers_.config().vocab_size), starts, T);
    batch.inputs_BT = on(options_.device, batch.inputs_BT), batch.targets_BT = on(options_.device, batch.targets_BT);
    const Pass pass{batch, true, 1.0 / static_cast<double>(B * T), pull ? 1e-4 : 0, 0};
    Arena arena(options_.device);
    Tape tape(arena);
    Check taps("taps", tolerances_.gradient);
    const auto observe = [&](const std::string& layer, const Flow& flow) {
      if (all_) tap(want.at("taps"), taps, layer, flow);
    };
    {
      const Flow flow = layers_.forward(tape, pass, {}, options_.recompute, observe);
      if (!pull && all_) logits(want, layers_.head()->logits(flow.x_BTC).value());
      const Var loss = layers_.head()->loss(pass, flow.x_BTC).loss;
      if (!pull) {
        Check check("loss", tolerances_.loss);
        check.add("", relative(on(kCpu, loss.value()).data<float>()[0], want.at("loss")));
        results_.push_back(check.result());
        if (all_) results_.push_back(taps.result());
      }
      const Tensor one = on(options_.device, Tensor::of<float>({1}, {1}));
      tape.backward({{loss, one}});
    }
    if (all_) gradients(want.at(pull ? "grads_l2wrap" : "grads"), pull ? "gradients with pull" : "gradients");
  }

  static void tap(const Json& want, Check& check, const std::string& layer, const Flow& flow) {
    const auto add = [&](const std::string& name, const Var& v) {
      if (want.contains(name)) check.add(name, distance(digest_of(name, v.value()), want.at(name), 0));
    };
    if (layer == "key_compress") add("compressed", flow.compressed_BTZ);
    if (layer == "key_expand") add("k_cache", flow.keys_BTA);
    if (layer.starts_with("blocks.")) add("x" + layer.substr(7), flow.x_BTC);
  }

  void logits(const Json& want, const Tensor& got) {
    Check check("logits", tolerances_.gradient);
    check.add("", distance(digest_of("logits", got), want.at("logits"), 0));
    results_.push_back(check.result());
  }

  void gradients(const Json& want, const std::string& what) {
    double squares = 0;
    for (const auto& [name, digest] : want.items()) squares += std::pow(digest.at("norm").get<double>(), 2);
    const double floor = kGradFloor * std::sqrt(squares);
    Check check(what, tolerances_.gradient);
    for (const auto& p : layers_.parameters().all())
      check.add(p->name(), distance(digest_of(p->name(), p->grad()), want.at(p->name()), floor));
    results_.push_back(check.result());
  }

  // `more`: that norms may be off. `mask`: which targets count, or null.
  void training(const std::string& what, const Json& steps, double more, const Json* mask) {
    const Json& t = json_.at("training");
    const Json& tr = t.at("train");
    const int64_t T = layers_.config().ctx_len, B = size_in(tr, "micro_bsz", 2, std::max<int64_t>(2, kMostTokens / T));
    const int64_t tokens = size_in(t.at("data"), "tokens", T + 1, kMostTokens);
    const auto data = hashed_tokens(t.at("data").at("seed"), tokens, layers_.config().vocab_size);
    const Sampler sampler(tokens, T, tr.at("magic_prime"));
    const Schedule schedule{Schedule::decay_named(tr.at("lr_decay_type")),
                            tr.at("lr_init"),
                            tr.at("lr_final"),
                            tr.at("warmup_steps"),
                            0,
                            B * T,
                            tr.at("my_exit_tokens"),
                            tr.at("weight_decay"),
                            -1};
    const auto world = make_self_communicator();
    ShardedOptimizer optimizer(layers_, *world,
                               {tr.at("beta1"), tr.at("beta2"), tr.at("adam_eps"), tr.at("gradient_clip_val")},
                               {tr.at("layerwise_lr").get<int>() > 0, 3});
    hash_parameters([&](const Parameter& p, const Tensor& numbers) { optimizer.set(p, numbers); });
    optimizer.values_were_set();
    // Two microbatches a step, so that accumulation is part of the case.
    Stage stage(layers_,
                {options_.device, options_.dtype, options_.recompute, 1.0 / static_cast<double>(B * T), 1e-4, 0});
    Pipeline pipeline(stage, *world, find_schedule("one_f_one_b"));
    Check losses(what + " losses", tolerances_.training), norms(what + " norms", tolerances_.training + more),
        rates("learning rates", tolerances_.training);
    for (const Json& want : steps) {
      const int64_t step = want.at("step");
      int64_t targets = 0;
      std::vector<Batch> microbatches;
      for (int64_t half = 0; half < 2; ++half) {
        std::vector<int64_t> starts;
        for (int64_t b = half * B / 2; b < (half + 1) * B / 2; ++b) starts.push_back(sampler.offset(step * B + b));
        microbatches.push_back(batch_of(data, starts, T));
        if (mask) targets += mask_targets(microbatches.back(), *mask, starts);
      }
      if (mask) pipeline.set_loss_scale(1.0 / static_cast<double>(targets));
      const double loss = pipeline.run(microbatches, optimizer);
      const double lr = schedule.learning_rate(step);
      const double norm = optimizer.step(lr, schedule.weight_decay_at(step)).grad_norm;
      losses.add(cat("step ", step), relative(loss, want.at("loss")));
      norms.add(cat("step ", step), relative(norm, want.at("grad_norm")));
      if (!mask) rates.add(cat("step ", step), relative(lr, want.at("lr")));
    }
    results_.push_back(losses.result());
    if (all_) results_.push_back(norms.result());
    if (!mask) results_.push_back(rates.result());
  }

  const Json& json_;
  GoldenOptions options_;
  Tolerances tolerances_;
  const bool all_ = options_.dtype == DType::f32;  // compared, not the losses alone
  LayerStack layers_;
  uint64_t seed_;
  std::vector<GoldenCheck> results_;
};

}  // namespace

std::vector<GoldenCheck> check_golden(const std::filesystem::path& path, const GoldenOptions& options) {
  const std::string hint = "gf verify golden tests/golden/*.json", text = read_small_file(path, kLongestCase, hint);
  try {
    const Json json = Json::parse(text);
    return Case(json, options).run();
  } catch (const Json::exception& e) {
    refuse(cat(path.string(), " is no golden case: ", parser_message(e.what())), hint);
  }
}

}  // namespace gf
