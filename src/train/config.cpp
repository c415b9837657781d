// SPDX-License-Identifier: Apache-2.0
#include "train/config.h"

#include <algorithm>
#include <initializer_list>
#include <limits>

#include "base/error.h"
#include "base/text.h"
#include "io/yaml_file.h"
#include "parallel/schedule/schedule.h"
#include "tensor/on_device.h"

namespace gf {
namespace {

using Words = std::initializer_list<std::string_view>;

// Products of counts stay below 2^62: each is checked before it is multiplied on.
constexpr int64_t kMaxCount = int64_t{1} << 20, kMaxBatch = int64_t{1} << 30, kMaxSteps = int64_t{1} << 40;
// A report reads a trace as a whole: about a quarter of a MiB a step of a deep model and rank.
constexpr int64_t kMaxTracedSteps = 1000;
constexpr int64_t kMaxTokens = int64_t{1} << 62, kMaxTokensOfMicrobatch = (int64_t{1} << 31) - 1;

bool is_one_of(std::string_view text, Words words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

std::string option(const std::string& key, const std::string& value) {
  return "--" + key + " " + value;
}

void check_range(const std::string& key, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    refuse(cat(key, " is ", value, " and must be from ", least, " to ", most),
           option(key, cat(std::clamp(value, least, most))));
  }
}

void check_word(const std::string& key, const std::string& value, Words known) {
  if (is_one_of(value, known)) return;
  refuse(cat(key, " is ", cited(value), " and must be one of: ", joined(known)),
         option(key, std::string(*known.begin())));
}

// In [0, 1), as decays and shares are.
void check_share(const std::string& key, double value) {
  if (!(value >= 0 && value < 1))
    refuse(cat(key, " is ", value, " and must be at least 0 and below 1"), option(key, "0.9"));
}

void check_not_negative(const std::string& key, double value) {
  if (!(value >= 0)) refuse(cat(key, " is ", value, " and must not be negative"), option(key, "0"));
}

void check_data(const TrainConfig& t) {
  check_word("train.data_type", t.data_type, {"binidx"});
  if (t.data_file.empty() && t.train_stage != 1) {
    refuse("train.data_file is not set",
           "--train.data_file PREFIX, the tokens in PREFIX.idx and PREFIX.bin (gf data tokenize writes them)");
  }
  if (!t.validation_data_file.empty()) t.validation_data_file.prefixes("train.validation_data_file");
  if (t.data_file.weighted() && t.magic_prime != 0)
    refuse(cat("train.magic_prime is ", t.magic_prime,
               ", and train.data_file has weights: each source has one of its own"),
           "--train.magic_prime 0");
  check_range("train.magic_prime", t.magic_prime, 0, kMaxTokens);
  check_range("train.my_exit_tokens", t.my_exit_tokens, 0, kMaxTokens);
  check_range("train.seed_everything", t.seed_everything, 0, INT64_MAX);
}

void check_run(const TrainConfig& t) {
  check_range("train.train_stage", t.train_stage, 0, 3);
  check_range("train.epoch_begin", t.epoch_begin, 0, kMaxSteps);
  check_range("train.epoch_save", t.epoch_save, 0, kMaxSteps);
  check_range("train.save_every_steps", t.save_every_steps, 0, kMaxSteps);
  check_range("train.keep_checkpoints", t.keep_checkpoints, 0, kMaxCount);
  check_not_negative("train.save_every_minutes", t.save_every_minutes);
  check_not_negative("train.max_minutes", t.max_minutes);
  check_not_negative("train.spike_z", t.spike_z);
  check_range("train.spike_window", t.spike_window, 2, kMaxCount);
  if (t.bad_step != "stop" && t.bad_step != "skip")
    refuse("train.bad_step is " + cited(t.bad_step), "--train.bad_step stop, or skip");
  check_range("train.max_steps", t.max_steps, 0, kMaxSteps);
  check_range("train.check_val_every_n_epoch", t.check_val_every_n_epoch, 1, kMaxSteps);
  if (t.val_check_interval) {
    check_range("train.val_check_interval", *t.val_check_interval, 1, kMaxSteps);
    if (t.validation_data_file.empty()) {
      refuse(cat("train.val_check_interval is ", *t.val_check_interval,
                 ", but train.validation_data_file is not set, and there is nothing to validate on"),
             "--train.validation_data_file PREFIX, or --train.val_check_interval auto");
    }
  }
  check_range("train.log_every_n_steps", t.log_every_n_steps, 1, kMaxSteps);
  if (t.proj_dir.empty()) refuse("train.proj_dir is empty", "--train.proj_dir out");
  for (const auto& [key, name] : {std::pair("train.proj_name", t.proj_name), {"train.proj_suffix", t.proj_suffix}}) {
    if (name.find('/') != std::string::npos) {
      refuse(cat(key, " is ", cited(name), " and must be one folder's name, without /"),
             "--train.proj_dir for the folders");
    }
  }
}

void check_batch(const Config& c) {
  const TrainConfig& t = c.train;
  check_range("train.micro_bsz", t.micro_bsz, 1, kMaxCount);
  check_range("train.devices", t.devices, 1, kMaxCount);
  check_range("train.num_nodes", t.num_nodes, 1, kMaxCount);
  check_range("train.accumulate_grad_batches", t.accumulate_grad_batches, 1, kMaxCount);
  // Each product of two counts is below 2^40, so the third comparison cannot overflow either.
  const int64_t replicas = t.num_nodes * t.devices, sequences = t.micro_bsz * t.accumulate_grad_batches;
  if (replicas > kMaxBatch || sequences > kMaxBatch / replicas) {
    refuse(cat("train.num_nodes ", t.num_nodes, " * train.devices ", t.devices, " * train.micro_bsz ", t.micro_bsz,
               " * train.accumulate_grad_batches ", t.accumulate_grad_batches, " is more than ", kMaxBatch,
               " sequences per optimizer step"),
           "smaller ones");
  }
  if (t.micro_bsz * c.model.ctx_len > kMaxTokensOfMicrobatch) {
    refuse(cat("train.micro_bsz ", t.micro_bsz, " * model.ctx_len ", c.model.ctx_len, " is more than ",
               kMaxTokensOfMicrobatch, " tokens in one microbatch"),
           "a smaller --train.micro_bsz, with more --train.accumulate_grad_batches");
  }
}

void check_rates(const TrainConfig& t) {
  if (!(t.lr_init > 0)) refuse(cat("train.lr_init is ", t.lr_init, " and must be above 0"), "--train.lr_init 6e-4");
  check_not_negative("train.lr_final", t.lr_final);
  check_word("train.lr_decay_type", t.lr_decay_type, {"cos", "linear", "exp", "oneminussqrt"});
  if (t.lr_decay_type == "exp" && !(t.lr_final > 0)) {
    refuse(cat("train.lr_final is ", t.lr_final, ", and train.lr_decay_type exp never gets there"),
           "--train.lr_final 1e-5, or --train.lr_decay_type cos");
  }
  check_share("train.lr_wait", t.lr_wait);
  check_range("train.warmup_steps", t.warmup_steps, -1, kMaxCount);
  check_share("train.beta1", t.beta1);
  check_share("train.beta2", t.beta2);
  constexpr double kLeast = std::numeric_limits<float>::min(), kMost = std::numeric_limits<float>::max();
  if (!(t.adam_eps >= kLeast && t.adam_eps <= kMost))
    refuse(cat("train.adam_eps is ", t.adam_eps, " and must be from ", kLeast, " to ", kMost, ", as a float32 can be"),
           "--train.adam_eps 1e-8");
  check_not_negative("train.weight_decay", t.weight_decay);
  if (t.weight_decay_final > 0 && !(t.weight_decay > 0)) {
    refuse(cat("train.weight_decay_final is ", t.weight_decay_final, ", but train.weight_decay is ", t.weight_decay,
               " and has nothing to go down or up from"),
           "--train.weight_decay 0.001, or --train.weight_decay_final -1");
  }
  check_not_negative("train.gradient_clip_val", t.gradient_clip_val);
}

// The decay needs tokens left after warm-up and wait. Nothing to say while my_exit_tokens is left to the data.
void check_schedule(const Config& c) {
  const TrainConfig& t = c.train;
  if (t.my_exit_tokens == 0) return;
  const double warmup = static_cast<double>(t.warmup()) * static_cast<double>(t.global_batch() * c.model.ctx_len);
  const double wait = t.lr_wait * static_cast<double>(t.my_exit_tokens);
  if (warmup + wait < static_cast<double>(t.my_exit_tokens)) return;
  refuse(cat("warm-up and wait take ", warmup + wait, " tokens (", t.warmup(), " steps of ",
             t.global_batch() * c.model.ctx_len, ", train.lr_wait ", t.lr_wait, "), and train.my_exit_tokens is ",
             t.my_exit_tokens),
         "fewer --train.warmup_steps, or a smaller --train.lr_wait or batch");
}

void check_machine(const TrainConfig& t, Purpose purpose) {
  const std::string accelerator = t.accelerator.value_or("cpu"), precision = t.precision.value_or("32");
  check_word("train.accelerator", accelerator, {"cpu", "gpu"});
  if (accelerator == "gpu" && !kWithCuda && purpose == Purpose::running) {
    refuse("train.accelerator is gpu, and this program was built without CUDA",
           "--train.accelerator auto, or build with: cmake --preset cuda");
  }
  check_word("train.precision", precision,
             {"32", "tf32", "16", "16-true", "16-mixed", "bf16", "bf16-true", "bf16-mixed"});
  if (precision.starts_with("16")) {
    refuse(cat("train.precision is ", precision, ", whose narrow range this program does not scale the loss for"),
           "--train.precision auto");
  }
  if (accelerator == "cpu" && precision != "32") {
    refuse(cat("train.precision is ", precision, ", which needs a GPU; train.accelerator is cpu, and that works in 32"),
           "--train.precision auto");
  }
  if (accelerator == "cpu" && !t.product_choices.empty()) {
    refuse(cat("train.product_choices is ", t.product_choices,
               ", which is for products on a GPU; train.accelerator is cpu"),
           "no --train.product_choices");
  }
  check_word("train.strategy", t.strategy.value_or("auto"),
             {"auto", "deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_3"});
  check_range("train.ds_bucket_mb", t.ds_bucket_mb, 1, kMaxCount);
}

void check_parallel(const ParallelConfig& p) {
  check_range("parallel.pipeline", p.pipeline, 1, kMaxCount);
  check_range("parallel.data", p.data.value_or(1), 1, kMaxCount);
  check_range("parallel.pieces", p.pieces, 1, kMaxCount);
  check_range("parallel.zero", p.zero.value_or(0), 0, 3);
  check_range("parallel.bucket_mb", p.bucket_mb.value_or(1), 1, kMaxCount);
  check_range("parallel.trace_steps", p.trace_steps, 0, kMaxTracedSteps);
  check_range("parallel.hang_seconds", p.hang_seconds, 1, kMaxCount);
  if (p.pieces > 1 && !find_schedule(p.schedule).takes_pieces)
    refuse(cat("parallel.pieces is ", p.pieces, ", and parallel.schedule ", p.schedule, " has one a rank"),
           "--parallel.schedule interleaved, or --parallel.pieces 1");
  find_schedule(p.schedule);
}

}  // namespace

Config load_config(std::span<const std::filesystem::path> files, std::span<const Setting> options, GivenKeys* given) {
  Config config;
  GivenKeys named;
  const auto apply = [&](std::span<const Setting> settings) {
    apply_settings(settings, config);
    for (const Setting& s : settings) named.insert(s.path);
  };
  for (const auto& file : files) apply(read_yaml(file));  // once: it may be a pipe
  apply(options);
  if (!given) return config;
  given->clear();
  const FieldList list(config);
  for (const Field& field : list.fields())
    if (named.contains(field.path) && !is_auto(field)) given->insert(field.path);
  return config;
}

Config config_from_text(const std::string& yaml, const std::string& name) {
  Config config;
  apply_settings(parse_yaml(yaml, name), config);
  return config;
}

void resolve(Config& c, bool has_gpu) {
  c.model.resolve();
  TrainConfig& t = c.train;
  if (!t.accelerator) t.accelerator.emplace(has_gpu ? "gpu" : "cpu");
  if (!t.precision) t.precision.emplace(*t.accelerator == "cpu" ? "32" : "bf16");
  constexpr std::string_view kStage = "deepspeed_stage_";
  if (!c.parallel.zero && t.strategy && t.strategy->starts_with(kStage) && t.strategy->size() == kStage.size() + 1) {
    c.parallel.zero.emplace(t.strategy->back() - '0');
  }
  if (!c.parallel.bucket_mb) c.parallel.bucket_mb.emplace(t.ds_bucket_mb);
}

void check(const Config& c, Purpose purpose) {
  c.model.check();
  check_data(c.train);
  check_run(c.train);
  check_batch(c);
  check_rates(c.train);
  check_schedule(c);
  check_machine(c.train, purpose);
  check_parallel(c.parallel);
}

int64_t microbatches_per_rank(const TrainConfig& t, int64_t data_ranks) {
  const int64_t microbatches = t.global_batch() / t.micro_bsz;
  if (data_ranks >= 1 && microbatches % data_ranks == 0) return microbatches / data_ranks;
  // Divisors come in pairs, one of them at most the root.
  std::vector<int64_t> divisors;
  for (int64_t n = 1; n * n <= microbatches; ++n) {
    if (microbatches % n == 0) divisors.insert(divisors.end(), {n, microbatches / n});
  }
  std::sort(divisors.begin(), divisors.end());
  divisors.erase(std::unique(divisors.begin(), divisors.end()), divisors.end());
  refuse(cat("a step has ", microbatches, " microbatches (train.num_nodes ", t.num_nodes, " * train.devices ",
             t.devices, " * train.accumulate_grad_batches ", t.accumulate_grad_batches, "), which ", data_ranks,
             " data ranks cannot share evenly"),
         cat("data ranks: ", joined(divisors), "; or other train.accumulate_grad_batches"));
}

std::vector<Difference> differences(Config now, Config then, const std::function<bool(std::string_view key)>& counts) {
  const FieldList mine(now), theirs(then);
  const auto text = [](const Field& field) {
    const auto* section = std::get_if<Section>(&field.target);
    const std::string value = section ? (section->present ? "on" : "none") : value_text(field);
    return value.empty() ? "\"\"" : value;
  };
  std::vector<Difference> all;
  for (size_t i = 0; i < mine.fields().size(); ++i) {
    const std::string& key = mine.fields()[i].path;
    Difference d{key, text(mine.fields()[i]), text(theirs.fields()[i])};
    if (counts(key) && d.now != d.then) all.push_back(std::move(d));
  }
  return all;
}

std::vector<Difference> differences_of_models(const Config& now, const Config& then) {
  return differences(now, then,
                     [](std::string_view key) { return key.starts_with("model.") && key != "model.dropout"; });
}

std::filesystem::path run_folder(const Config& c) {
  std::string name = c.train.proj_name;
  if (name.empty()) {
    name = cat("L", c.model.n_layer, "-D", c.model.n_embd, "-", c.model.tmix);
    if (!c.model.tmix2.empty()) name += "_" + c.model.tmix2;
  }
  return std::filesystem::path(c.train.proj_dir) / (name + "-" + c.train.proj_suffix);
}

std::string to_yaml(Config c, const std::map<std::string, std::string>& notes) {
  return write_yaml(FieldList(c), notes);
}

}  // namespace gf
