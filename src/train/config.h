// SPDX-License-Identifier: Apache-2.0
// All that a run can be told: the model, the training and how it is spread over ranks, under the published names and
// with the published defaults, where they make sense on any machine. load_config() merges files and options,
// resolve() fills in what was left to the program, check() refuses what cannot be or would have no effect.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.h"
#include "io/data/data_list.h"
#include "model/config.h"
#include "tensor/types.h"
#include "train/parameter_groups.h"

namespace gf {

// An epoch, as published: the unit of epoch_begin, epoch_save and check_val_every_n_epoch.
inline constexpr int64_t kSamplesPerEpoch = 40320;

struct TrainConfig {
  DataList data_file, validation_data_file;
  std::string data_type = "binidx";
  int64_t seed_everything = 1337;
  std::string load_model;
  std::string proj_dir = "out", proj_name, proj_suffix = "0", wandb;
  int64_t train_stage = 0, epoch_begin = 0, epoch_save = 5, save_every_steps = 0, keep_checkpoints = 3;
  double save_every_minutes = 0, max_minutes = 0;
  std::string bad_step = "stop";
  double spike_z = 0;
  int64_t spike_window = 100;
  int64_t micro_bsz = 12, devices = 1, num_nodes = 1, accumulate_grad_batches = 1;
  int64_t max_steps = 0, my_exit_tokens = 0, magic_prime = 0;
  double lr_init = 6e-4, lr_final = 1e-5;
  std::string lr_decay_type = "cos";
  double lr_wait = 0;
  int64_t warmup_steps = -1;
  ParameterGroups groups;
  double beta1 = 0.9, beta2 = 0.99, adam_eps = 1e-8, weight_decay = 0, weight_decay_final = -1, gradient_clip_val = 1;
  int64_t check_val_every_n_epoch = 1;
  Auto<int64_t> val_check_interval;
  int64_t log_every_n_steps = 50;
  Auto<std::string> accelerator, precision, strategy;
  std::string product_choices;
  int64_t ds_bucket_mb = 200;
  bool loss_mask = false, change_data = false, load_partial = false, layerwise_lr = true, grad_cp = false;

  // Sequences that one optimizer step sees, whatever machine it runs on.
  int64_t global_batch() const { return num_nodes * devices * micro_bsz * accumulate_grad_batches; }
  bool on_gpu() const { return accelerator.value_or("cpu") == "gpu"; }
  // Of activations. The optimizer's numbers are float32 always.
  DType computes_in() const { return precision.value_or("32").starts_with("bf16") ? DType::bf16 : DType::f32; }
  // Steps of warm-up: those given, and for -1 as published 10 where training begins from a checkpoint, else none. A
  // run that goes on from its own checkpoint keeps those it began with.
  int64_t warmup() const { return warmup_steps >= 0 ? warmup_steps : load_model.empty() ? 0 : 10; }

  template <class V>
  void visit(V& v) {
    v.type("configs.Train_Config");
    v("data_file", data_file, "tokens to train on: PREFIX of PREFIX.idx and PREFIX.bin, or a list (docs/data.md)");
    v("validation_data_file", validation_data_file, "tokens to validate on, likewise; empty: no validation");
    v("loss_mask", loss_mask,
      "1: only tokens that PREFIX.mask.bin marks count in the loss and its mean (docs/data.md)");
    v("change_data", change_data, "1: a run may go on with another list of files, or weights, than it was begun with");
    v("data_type", data_type, "format of the tokens; binidx is the only one");
    v("seed_everything", seed_everything, "fresh parameters and dropout derive from it");
    v("load_model", load_model, "checkpoint folder, .h5, .safetensors (.index.json) or .pth to begin from");
    v("load_partial", load_partial, "1: parameters that load_model lacks keep their fresh values");
    v("proj_dir", proj_dir, "the run folder is <proj_dir>/<proj_name>-<proj_suffix>");
    v("proj_name", proj_name, "empty: L<n_layer>-D<n_embd>-<tmix>[_<tmix2>]");
    v("proj_suffix", proj_suffix, "tells runs of one name apart");
    v("wandb", wandb, "project that python/log_to.py sends the metrics to; the trainer sends nothing");
    v("train_stage", train_stage, "1: write fresh parameters and end; 2: other rate groups; 0, 3: train");
    v("epoch_begin", epoch_begin, "begin the data at this epoch; an epoch is 40320 samples");
    v("epoch_save", epoch_save, "save every so many epochs; 0: not");
    v("save_every_steps", save_every_steps, "save every so many optimizer steps too; 0: not");
    v("save_every_minutes", save_every_minutes, "save when so many minutes have gone by since the last time; 0: not");
    v("keep_checkpoints", keep_checkpoints, "keep the newest so many; 0: all");
    v("micro_bsz", micro_bsz, "sequences of a microbatch");
    v("devices", devices, "a step sees num_nodes * devices * micro_bsz * accumulate_grad_batches sequences,");
    v("num_nodes", num_nodes, "however many devices and nodes there really are");
    v("accumulate_grad_batches", accumulate_grad_batches, "see devices");
    v("max_steps", max_steps,
      "end after so many optimizer steps, where my_exit_tokens is not reached before; 0: no such end");
    v("max_minutes", max_minutes, "stop in time to have saved after so many minutes, with status 75; 0: no such end");
    v("my_exit_tokens", my_exit_tokens,
      "end after so many tokens, the length of the schedule; 0: one pass over the data");
    v("magic_prime", magic_prime, "the order of samples derives from it; 0: the largest that fits the data");
    v("lr_init", lr_init, "learning rate after warm-up");
    v("lr_final", lr_final, "learning rate at my_exit_tokens");
    v("lr_decay_type", lr_decay_type, "from one to the other: cos, linear, exp, oneminussqrt");
    v("lr_wait", lr_wait, "share of my_exit_tokens before the decay begins");
    v("warmup_steps", warmup_steps, "steps from 0.2 of the rate to all of it; -1: 10 with load_model, else 0");
    v("layerwise_lr", layerwise_lr, "0: one rate for all parameters, 1: the published groups");
    v("groups", groups, "parameters to freeze, or to train at another rate, by their names (docs/running.md)");
    v("beta1", beta1, "AdamW: decay of the mean gradient");
    v("beta2", beta2, "AdamW: decay of the mean squared gradient");
    v("adam_eps", adam_eps, "AdamW: added to the root of the mean squared gradient");
    v("weight_decay", weight_decay, "AdamW: decoupled decay of the matrices");
    v("weight_decay_final", weight_decay_final, "above 0: weight_decay goes to it exponentially");
    v("gradient_clip_val", gradient_clip_val, "largest global norm of the gradient; 0: no limit");
    v("bad_step", bad_step,
      "what becomes of a run at a loss or norm that is not finite, or a spike: stop, skip the step");
    v("spike_z", spike_z, "a spike is so many standard deviations above the mean of the steps before it; 0: none is");
    v("spike_window", spike_window, "the number of those steps");
    v("grad_cp", grad_cp, "1: recompute each block in the backward pass, to save memory");
    v("check_val_every_n_epoch", check_val_every_n_epoch, "validate every so many epochs");
    v("val_check_interval", val_check_interval, "validate every so many steps instead; auto: by epochs");
    v("log_every_n_steps", log_every_n_steps, "a line in the log every so many steps");
    v("accelerator", accelerator, "cpu or gpu; auto: gpu where the program and the machine have one");
    v("precision", precision, "32, on a GPU also tf32 and bf16; auto: 32 on a CPU, bf16 on a GPU");
    v("product_choices", product_choices,
      "GPU: file of the fastest algorithms of products, which are timed where it lacks them; empty: as cuBLASLt says");
    v("strategy", strategy, "deepspeed_stage_1, _2 or _3: parallel.zero, where that is auto");
    v("ds_bucket_mb", ds_bucket_mb, "parallel.bucket_mb, where that is auto");
  }
};

// parallel.partition where layers are cut by what they take on this machine, or on that of parallel.hardware.
inline constexpr std::string_view kMeasuredPartition = "measured";

// How the work is spread over ranks: ranks = pipeline * data.
struct ParallelConfig {
  int64_t pipeline = 1;
  Auto<int64_t> data;
  std::string schedule = "one_f_one_b";
  int64_t pieces = 1;
  Auto<int64_t> zero;
  Auto<std::string> partition;
  Auto<int64_t> bucket_mb;
  std::string hardware;
  int64_t trace_steps = 0, hang_seconds = 600;

  bool partition_is_given() const { return partition && *partition != kMeasuredPartition; }

  template <class V>
  void visit(V& v) {
    v("pipeline", pipeline, "ranks that the layers are split over");
    v("data", data, "replicas of the pipeline; auto: ranks / pipeline");
    v("schedule", schedule, "order of passes in the pipeline: gpipe, one_f_one_b, interleaved, zero_bubble");
    v("pieces", pieces, "pieces of the model per rank, for gpipe and interleaved");
    v("zero", zero, "over data ranks: 0 nothing, 1 optimizer state, 2 gradients, 3 parameters are sharded");
    v("partition", partition, "blocks of each stage, lowest first: 0-3,4-7; auto: by cost; measured: by time");
    v("bucket_mb", bucket_mb, "gradients are reduced in pieces of so many MiB; auto: ds_bucket_mb");
    v("hardware", hardware, "hardware file of gf plan: predicts the step, and has the times of partition measured");
    v("trace_steps", trace_steps, "so many steps, from the second on, as a Chrome trace: trace.json in the run folder");
    v("hang_seconds", hang_seconds, "a rank that does nothing new for so long ends the job");
  }
};

struct Config {
  ModelConfig model;
  TrainConfig train;
  ParallelConfig parallel;

  template <class V>
  void visit(V& v) {
    v.type("configs.TrainerCLI_Config");
    v.section("model", model, "the model");
    v.section("train", train, "training");
    v.section("parallel", parallel, "spreading a run over ranks");
  }
};

// What a configuration is made of: files, and settings that go over them.
struct ConfigParts {
  std::vector<std::filesystem::path> files;
  std::vector<Setting> settings;
};

// Keys that files or options name with a value of their own, be it the default's; `auto` is none.
using GivenKeys = std::set<std::string, std::less<>>;

// Files in their order, later ones over earlier ones key by key, then the options. `given` becomes their keys.
Config load_config(std::span<const std::filesystem::path> files, std::span<const Setting> options = {},
                   GivenKeys* given = nullptr);
// The configuration that to_yaml() wrote, for example into a checkpoint; `name` is for messages.
Config config_from_text(const std::string& yaml, const std::string& name);
// Fills in what 0 or auto leaves to the program and does not depend on the data: sizes, accelerator, precision,
// strategy's and ds_bucket_mb's part in the section parallel.
void resolve(Config&, bool has_gpu = false);
// Refuses, by key, what cannot be or would have no effect. To be called after resolve(), and again once the data
// has settled magic_prime and my_exit_tokens. Who only plans a run may plan one on a GPU in a build without CUDA.
enum class Purpose : uint8_t { running, planning };
void check(const Config&, Purpose = Purpose::running);

// A key in which two configurations differ.
struct Difference {
  std::string key, now, then;
};
// Of the keys that count, in their order.
std::vector<Difference> differences(Config now, Config then, const std::function<bool(std::string_view key)>& counts);
// Of the section model, all but dropout, which a run may change on its way. Shapes alone do not tell, say, one position
// encoding from another.
std::vector<Difference> differences_of_models(const Config& now, const Config& then);

// Microbatches of micro_bsz that each data rank works through per optimizer step; refuses where they do not divide.
int64_t microbatches_per_rank(const TrainConfig&, int64_t data_ranks);
std::filesystem::path run_folder(const Config&);

// All keys and values; reads back to itself. A note goes behind the value of its key, as a comment.
std::string to_yaml(Config, const std::map<std::string, std::string>& notes = {});

}  // namespace gf
