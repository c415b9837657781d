// SPDX-License-Identifier: Apache-2.0
#include "train/build.h"

#include <algorithm>
#include <thread>

#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/partial_file.h"
#include "model/initialise.h"
#include "parallel/agreement.h"
#include "train/evaluate.h"
#include "train/parameters.h"
#include "train/partial_load.h"
#include "train/planner/layer_times.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

Schedule schedule_of(const TrainConfig& t, int64_t tokens_per_step) {
  return {Schedule::decay_named(t.lr_decay_type),
          t.lr_init,
          t.lr_final,
          t.warmup(),
          t.lr_wait,
          tokens_per_step,
          t.my_exit_tokens,
          t.weight_decay,
          t.weight_decay_final};
}

int64_t first_step_of(const TrainConfig& t) {
  const int64_t samples = t.epoch_begin * kSamplesPerEpoch;
  if (samples % t.global_batch() != 0)
    refuse(cat("train.epoch_begin ", t.epoch_begin, " is ", samples, " samples, and a step takes ", t.global_batch()),
           cat("--train.epoch_begin 0, or a batch that divides ", kSamplesPerEpoch));
  return samples / t.global_batch();
}

// A step means so many tokens; a run whose checkpoint counted other steps cannot go on in these.
void check_same_steps(const Config& now, const Config& then, const fs::path& where) {
  const auto compare = [&](const char* what, int64_t mine, int64_t theirs, const std::string& hint) {
    if (mine != theirs)
      refuse(cat(what, " is ", mine, ", and the run in ", where.string(), " was begun with ", theirs), hint);
  };
  compare("the sequences of a step (num_nodes * devices * micro_bsz * accumulate_grad_batches)",
          now.train.global_batch(), then.train.global_batch(),
          "factors with the same product, or another --train.proj_suffix");
  compare("train.epoch_begin", now.train.epoch_begin, then.train.epoch_begin,
          cat("--train.epoch_begin ", then.train.epoch_begin, ", or another --train.proj_suffix"));
  compare("train.loss_mask", now.train.loss_mask, then.train.loss_mask,
          cat("--train.loss_mask ", int{then.train.loss_mask},
              ", or another --train.proj_suffix with --train.load_model to begin from this one"));
}

// What of the data is another than the one the run read, in words; empty where nothing is. Not of one prefix and
// another: there magic_prime tells, and data that has moved or grown may be meant.
std::string changed_data(const Plan& plan, const Config& then, const Attributes& a) {
  const DataList &now = plan.config.train.data_file, &before = then.train.data_file;
  if (!plan.data || a.step == plan.first_step || (now.is_one_prefix() && before.is_one_prefix())) return "";
  if (!a.data.empty()) return plan.data->difference(a.data);
  return now == before ? "" : cat("it is ", now.text(), ", and was ", before.text());  // a version that had no lists
}

// What is trained anew would begin without moments, and what is frozen from now on would leave its own behind.
void check_same_groups(const Config& now, const Config& then, const fs::path& checkpoint, const fs::path& where) {
  const ParameterGroups &mine = now.train.groups, &theirs = then.train.groups;
  const std::string name = ParameterGroups::difference(mine, theirs, parameter_names(now.model));
  if (name.empty()) return;
  const TuningRule rule = mine.rule();
  const bool frozen = rule && rule(name).frozen;
  refuse(cat("train.groups ", frozen ? "freezes " : "trains ", name, ", and the run in ", where.string(), " was begun ",
             frozen ? "training" : "freezing", " it"),
         cat("--train.groups '", theirs.text(), "' to go on; or --train.load_model ", checkpoint.string(),
             " with another --train.proj_suffix, to train others from there"));
}

void check_same_data(const Plan& plan, const Config& then, const Attributes& a) {
  const std::string what = changed_data(plan, then, a), before = then.train.data_file.text();
  if (what.empty() || plan.config.train.change_data) return;
  constexpr size_t kReadable = 400;
  refuse(cat("train.data_file: ", what, " when the run in ", plan.paths.root().string(),
             " read it: its samples would go on in another order"),
         cat("the data as it was, ", before.size() <= kReadable ? before : "in " + plan.paths.config().string(),
             "; --train.change_data 1 to go on with this; or another --train.proj_suffix"));
}

}  // namespace

Plan::Plan(Config c, int ranks) : config(std::move(c)), paths(run_folder(config)) {
  TrainConfig& t = config.train;
  const ParallelConfig& p = config.parallel;
  // The checkpoint keeps it, and the run may go on from another folder.
  if (!t.load_model.empty()) t.load_model = fs::absolute(t.load_model).lexically_normal();
  data_ranks = gf::data_ranks(ranks, p.pipeline, p.data);
  const int stages = static_cast<int>(p.pipeline * p.pieces);
  partition = p.partition_is_given() ? given_partition(config.model, *p.partition, stages, p.pieces)
                                     : balanced_partition(config.model, trained_costs(config), stages, p.pieces);
  sharding = {static_cast<int>(p.zero.value_or(1)), p.bucket_mb.value_or(t.ds_bucket_mb) << 20};
  const Masked masked{t.loss_mask};
  if (!t.data_file.empty()) {
    data = std::make_shared<TrainingData>(t.data_file, config.model.ctx_len, t.magic_prime, masked);
    if (!data->weighted()) t.magic_prime = data->sources()[0].sampler.magic_prime();
    one_pass = t.my_exit_tokens == 0;
    if (one_pass) t.my_exit_tokens = data->tokens_per_pass();
    check(config);
  }
  if (!t.validation_data_file.empty()) {
    const auto files =
        std::make_shared<TokenFiles>(t.validation_data_file.prefixes("train.validation_data_file"), masked);
    validation = std::make_unique<WindowReader>(files, config.model.ctx_len, config.model.vocab_size);
    if (files->files().size() > 1) files->check_beginnings(config.model.ctx_len + 1, config.model.vocab_size);
    validation_windows =
        std::min(validation->windows(), std::max<int64_t>(1, kValidationTokens / config.model.ctx_len));
    if (validation->count_targets(validation_windows) == 0)
      refuse(cat("the masks of ", files->name(), " mark no token in the ", validation_windows,
                 " windows that a validation looks at"),
             "another --train.validation_data_file");
  }
  if (!t.groups.empty()) group_sizes = t.groups.check(parameter_names(config.model));
  microbatches = microbatches_per_rank(t, data_ranks);
  tokens_per_step = t.global_batch() * config.model.ctx_len;
  schedule = schedule_of(t, tokens_per_step);
  first_step = first_step_of(t);
  last_step = schedule.steps();
  if (data && t.epoch_begin > 0 && first_step >= last_step)
    refuse(cat("train.epoch_begin ", t.epoch_begin, " is step ", first_step, ", and the ", t.my_exit_tokens,
               " tokens of train.my_exit_tokens end at step ", last_step),
           "an earlier --train.epoch_begin, or more --train.my_exit_tokens");
  if (t.max_steps > 0) last_step = std::min(last_step, first_step + t.max_steps);
  if (data) check_tokens();
}

std::string Plan::resolved() const {
  std::map<std::string, std::string> notes = {
      {"train.strategy", "parallel.zero says it"},
      {"train.val_check_interval", validation ? "by train.check_val_every_n_epoch" : "no validation"},
      {"parallel.data", cat(data_ranks)},
      {"parallel.zero", cat(data_ranks > 1 ? sharding.zero : 0)},
      {"parallel.partition", text_of(config.model, partition)}};
  if (config.train.strategy) notes.erase("train.strategy");
  if (config.train.val_check_interval) notes.erase("train.val_check_interval");
  if (config.parallel.data) notes.erase("parallel.data");
  if (config.parallel.partition) notes["parallel.partition"] = partition_note;
  if (config.parallel.partition && partition_note.empty()) notes.erase("parallel.partition");
  if (config.parallel.zero) notes.erase("parallel.zero");
  if (config.parallel.zero.value_or(0) > 0 && data_ranks == 1)
    notes["parallel.zero"] = "one data rank: nothing to shard";
  if (config.train.load_partial && config.train.load_model.empty())
    notes["train.load_partial"] = "no load_model: nothing is loaded";
  if (data && data->weighted()) notes["train.magic_prime"] = "each source has its own";
  if (data_ranks == 1) notes["parallel.bucket_mb"] = "one data rank: nothing to reduce";
  return to_yaml(config, notes);
}

// Reads where the run begins, so that data of another vocabulary is refused before anything is made of it.
void Plan::check_tokens() const {
  data->check_tokens(first_step * config.train.global_batch(), config.model.vocab_size);
  if (validation) validation->batch(0, 1);
}

namespace {

RankModelOptions model_options(const Plan& plan, Device device) {
  const TrainConfig& t = plan.config.train;
  RankModelOptions options;
  options.partition = plan.partition;
  options.schedule = plan.config.parallel.schedule;
  options.stage.device = device;
  options.stage.dtype = t.computes_in();
  options.stage.recompute = t.grad_cp;
  options.stage.loss_scale = 1 / static_cast<double>(plan.tokens_per_step);
  options.stage.seed = static_cast<uint64_t>(t.seed_everything);
  options.stage.graphs = device.kind == Device::Kind::cuda && plan.config.model.dropout == 0 && !t.loss_mask;
  options.micro_batch = t.micro_bsz;
  options.layer_multiple = Sharding::layer_multiple(plan.data_ranks, plan.sharding.zero);
  options.tuning = t.groups.rule();
  return options;
}

}  // namespace

Run::Run(Plan& p, std::unique_ptr<Communicator> world, Device d, HangWatch* w, CheckpointWriter::Mode mode)
    : plan(p),
      watch(w),
      save_mode(mode),
      device(d),
      mesh(make_mesh(std::move(world), static_cast<int>(p.config.parallel.pipeline), p.data_ranks)),
      model(p.config.model, mesh, model_options(p, d), watch),
      spikes(p.config.train.spike_z, p.config.train.spike_window) {
  const HangWatch::Doing doing(watch, "the start");
  warm_up(*mesh.pipe);
  warm_up(*mesh.data);
  const auto together = [&](const std::function<void()>& body) { all_or_none(*mesh.world, body); };
  std::optional<StepFolder> newest = find_newest();
  std::unique_ptr<TensorSource> load;
  together([&] { load = check_start(newest); });
  make_optimizer();
  // Before the folder is made, so that a file that turns out to be damaged leaves nothing behind.
  together([&] {
    if (!newest) start_from(load.get());
  });
  together([&] {
    if (first_rank()) folder = std::make_unique<RunFolder>(plan.paths);
  });
  check_all_see(plan.paths, *mesh.world);
  newest = find_newest();  // again: only now no other process can add one
  together([&] {
    if (newest) go_on_from(*newest);
  });
  optimizer->values_were_set();
  checkpoints = std::make_unique<CheckpointWriter>(plan.paths.checkpoints(), *mesh.world,
                                                   static_cast<int>(plan.config.train.keep_checkpoints), watch);
  together([&] { begin(); });
  recall_steps();
}

// The first rank looks, so that all go on from the same.
std::optional<StepFolder> Run::find_newest() const {
  const auto found = first_rank() ? newest_checkpoint(plan.paths.checkpoints()) : std::nullopt;
  const Tensor step = Tensor::of<double>({1}, {found ? static_cast<double>(found->step) : -1});
  mesh.world->broadcast(step, 0);
  if (step.data<double>()[0] < 0) return std::nullopt;
  const auto number = static_cast<int64_t>(step.data<double>()[0]);
  return StepFolder{number, plan.paths.checkpoints() / step_folder_name(number)};
}

// Refuses what the run cannot begin from, before any memory is taken. -> what it is to load, if it is not to go on.
std::unique_ptr<TensorSource> Run::check_start(const std::optional<StepFolder>& newest) const {
  if (!newest) return open_start(plan.config, model.parameters());
  check_can_go_on(*newest);  // what it once began from is not needed any more
  return nullptr;
}

void Run::make_optimizer() {
  const TrainConfig& t = plan.config.train;
  const auto gradients = t.train_stage == 1 ? ParameterStore::Gradients::none : ParameterStore::Gradients::zeroed;
  model.parameters().allocate(device, t.computes_in(), gradients);
  optimizer = std::make_unique<ShardedOptimizer>(
      model.pieces(), model.parameters(), ParameterRanks{*mesh.world, *mesh.data, model.shared()},
      parameter_names(plan.config.model), AdamWConfig{t.beta1, t.beta2, t.adam_eps, t.gradient_clip_val},
      GroupRules{t.layerwise_lr, t.train_stage}, plan.sharding);
}

// Before anything is changed.
void Run::check_can_go_on(const StepFolder& newest) const {
  const CheckpointReader reader(newest.path);
  const Config then = config_from_text(reader.attributes().config, reader.path().string());
  const std::vector<Difference> differences = differences_of_models(plan.config, then);
  std::string hint;
  for (const Difference& d : differences) hint += cat("--", d.key, " ", d.then, ", ");
  hint += "or another --train.proj_suffix to begin anew";
  try {
    check_parameters(reader, model.parameters(), false);
  } catch (const Error& e) {
    refuse(e.what(), hint);
  }
  if (!differences.empty()) {
    const Difference& d = differences[0];
    refuse(cat(d.key, " is ", d.now, ", and the run in ", plan.paths.root().string(), " was begun with ", d.then),
           hint);
  }
  check_same_steps(plan.config, then, plan.paths.root());
  check_same_groups(plan.config, then, newest.path, plan.paths.root());
  check_same_data(plan, then, reader.attributes());
}

// With a sign of life from time to time.
void Run::read(const TensorSource& source, std::span<const ShardView> views) const {
  constexpr int64_t kSome = int64_t{1} << 29;
  while (!views.empty()) {
    size_t count = 0;
    for (int64_t bytes = 0; count < views.size() && bytes < kSome; ++count) bytes += views[count].bytes();
    source.read(views.first(count));
    views = views.subspan(count);
    if (watch) watch->touch();
  }
}

void Run::start_from(const TensorSource* load) {
  const TrainConfig& t = plan.config.train;
  place = {plan.first_step, plan.first_step * t.global_batch()};
  start = cat("fresh parameters from seed ", t.seed_everything);
  if (!load || t.load_partial)
    initialise(model.parameters(), static_cast<uint64_t>(t.seed_everything),
               [this, thread = std::this_thread::get_id()](const Parameter& p, const Tensor& numbers) {
                 optimizer->set(p, numbers);
                 if (watch) watch->touch(thread);
               });
  if (!load) return;
  read(*load, views_in(*load, optimizer->parameters_to_read(), t.load_partial));
  start = cat("parameters from ", t.load_model, t.load_partial ? taken_from(*load, plan.config.model) : "");
  if (t.load_partial) warnings = dropped_mixers(*load, plan.config.model);
}

void Run::go_on_from(const StepFolder& newest) {
  check_can_go_on(newest);  // again: another process may have added it since
  const CheckpointReader reader(newest.path);
  const Attributes& a = reader.attributes();
  const Config then = config_from_text(a.config, reader.path().string());
  TrainConfig& t = plan.config.train;
  if (!t.load_model.empty() && (then.train.load_model.empty() || !same_path(t.load_model, then.train.load_model)))
    refuse(cat("train.load_model is ", t.load_model, ", and the run in ", plan.paths.root().string(), " is at step ",
               a.step, " after beginning from ",
               then.train.load_model.empty() ? "fresh parameters" : then.train.load_model),
           "another --train.proj_suffix to begin anew, or no --train.load_model to go on");
  // What a run began from is part of it, and decides its warm-up.
  t.load_model = then.train.load_model;
  plan.schedule = schedule_of(t, plan.tokens_per_step);
  read(reader, optimizer->parameters_to_read());
  // Not in fresh parameters. A stage whose parameters are all frozen has none of its own.
  if (std::ranges::any_of(reader.entries(), [](const auto& e) { return e.name.starts_with("optim/"); })) {
    read(reader, optimizer->moments_to_read());
    optimizer->set_updates(std::min(a.updates, a.step - plan.first_step));
  }
  place = {a.step, a.samples};
  saved_step = a.step;
  start = cat("step ", a.step, " of this run, from ", newest.path.string());
  // The same samples in another order are another run, but may be meant: more data has come.
  if (const std::string what = changed_data(plan, then, a); !what.empty())
    start += cat("; the data is another, which orders the samples: ", what);
  else if (then.train.magic_prime != t.magic_prime)
    start += cat("; train.magic_prime was ", then.train.magic_prime, " and is ", t.magic_prime,
                 ", which orders the samples");
  if (then.train.groups.text() != t.groups.text())
    start += cat("; train.groups was ", then.train.groups.empty() ? "empty" : then.train.groups.text(), " and is ",
                 t.groups.empty() ? "empty" : t.groups.text(), ", with the same parameters frozen");
  if (then.train.my_exit_tokens != t.my_exit_tokens)
    start += cat("; train.my_exit_tokens was ", then.train.my_exit_tokens, " and is ", t.my_exit_tokens,
                 ", the length of the schedule");
}

void Run::begin() {
  const Config& c = plan.config;
  const auto write_config = [&] {
    write_file_atomically(plan.paths.config(), plan.resolved(), Exit::failed, File::Links::refuse);
  };
  if (c.train.train_stage == 1) {  // what another command trains from here has a config.yaml of its own
    if (first_rank() && !fs::exists(plan.paths.config())) write_config();
    return;
  }
  if (place.step >= plan.last_step) return;  // nothing to do, nothing to change
  tokens = std::make_unique<TokenStream>(
      plan.data,
      TokenStream::Options{.vocab_size = c.model.vocab_size,
                           .micro_batch = c.train.micro_bsz,
                           .data_rank = mesh.data->rank(),
                           .data_size = mesh.data->size(),
                           .samples_seen = place.samples,
                           .samples_end = place.samples + (plan.last_step - place.step) * c.train.global_batch(),
                           .read_tokens = model.pipeline().reads_tokens()});
  if (!first_rank()) return;
  metrics = std::make_unique<MetricsWriter>(plan.paths.metrics(), place.step);
  write_config();
}

// What a bad step is judged by, from the steps before this one: a run that went on judges as one that never stopped.
void Run::recall_steps() {
  const TrainConfig& t = plan.config.train;
  if (t.spike_z <= 0 && t.bad_step == "stop" && !t.loss_mask) return;  // the first bad step ends it
  const int64_t window = t.spike_z > 0 ? t.spike_window : 0;
  const Tensor steps = Tensor::zeros({window + 1, 2}, DType::f64, kCpu);  // and how many there are, and were skipped
  double* const values = steps.data<double>();
  all_or_none(*mesh.world, [&] {
    if (!metrics) return;
    std::deque<SpikeDetector::Step> last;
    MetricsReader reader(plan.paths.metrics());
    while (const auto m = reader.next()) {
      values[1] = m->skipped.empty() ? 0 : values[1] + 1;
      if (m->skipped.empty()) last.push_back({m->loss, m->grad_norm});
      if (std::ssize(last) > window) last.pop_front();
    }
    for (double* to = values + 2; const auto& [loss, norm] : last) *to++ = loss, *to++ = norm;
    values[0] = static_cast<double>(last.size());
  });
  mesh.world->broadcast(steps, 0);
  for (int64_t i = 1; i <= static_cast<int64_t>(values[0]); ++i) spikes.add({values[2 * i], values[2 * i + 1]});
  skipped = static_cast<int64_t>(values[1]);
}

}  // namespace gf
