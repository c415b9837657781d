// SPDX-License-Identifier: Apache-2.0
// All the wiring of a training run, and nothing else: from a configuration to the parts that Trainer works with.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "io/checkpoint/tensor_source.h"
#include "io/data/token_stream.h"
#include "io/metrics.h"
#include "io/run_folder.h"
#include "optim/learning_rate.h"
#include "optim/sharded_optimizer.h"
#include "parallel/rank_model.h"
#include "train/config.h"
#include "train/memory.h"
#include "train/spike_detector.h"

namespace gf {

// What follows from the configuration, the data and the number of ranks alone. Making it changes nothing on the disk.
struct Plan {
  explicit Plan(Config, int ranks = 1);

  Config config;          // with what the data decides: magic_prime, my_exit_tokens
  bool one_pass = false;  // the data decided on my_exit_tokens
  std::shared_ptr<const TrainingData> data;
  std::unique_ptr<WindowReader> validation;  // null: no validation
  int64_t validation_windows = 0;
  int data_ranks = 1;
  Partition partition;         // by cost where it is not given; settle_partition() may take another
  std::string partition_note;  // where it comes from, if it was not given
  Sharding sharding;
  int64_t microbatches = 0;     // of a step, on each data rank
  int64_t tokens_per_step = 0;  // on all ranks together
  int64_t first_step = 0;       // where epoch_begin says
  int64_t last_step = 0;        // the step number to stop at
  Schedule schedule;
  std::vector<int64_t> group_sizes;  // parameters, by name, that each of train.groups decides about
  RunPaths paths;

  RankShare share_of(int rank) const;
  // Steps after which the run saves for the first time and validates for the last time, as far as the configuration
  // decides; where it does not, one after and one before all.
  int64_t first_save() const, last_validation() const;
  // The configuration as text, with what came of the values that are left to the program.
  std::string resolved() const;

 private:
  void check_tokens() const;
};

// How far a run is.
struct Place {
  int64_t step = 0;     // steps done: the next one's number
  int64_t samples = 0;  // sequences seen
};

// A run, ready to take its next step: the folder is held, the parameters are there. Its first rank writes what is not
// a checkpoint, and has the folder and the metrics.
struct Run {
  Run(Plan&, std::unique_ptr<Communicator> world, Device, HangWatch*, CheckpointWriter::Mode save_mode);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  Plan& plan;
  HangWatch* watch;  // null: nobody watches
  CheckpointWriter::Mode save_mode;
  Device device;  // that layers and optimizer compute on
  Mesh mesh;
  RankModel model;
  std::unique_ptr<RunFolder> folder;
  std::unique_ptr<ShardedOptimizer> optimizer;
  Place place;
  SpikeDetector spikes;
  int64_t skipped = 0;                // steps in a row, the last one among them
  int64_t saved_step = -1;            // of the newest checkpoint that this process knows of
  std::string start;                  // where the parameters come from, for a person
  std::vector<std::string> warnings;  // of what became of them there
  std::unique_ptr<TokenStream> tokens;
  std::unique_ptr<MetricsWriter> metrics;
  std::unique_ptr<CheckpointWriter> checkpoints;  // ends before what its thread uses goes

  bool first_rank() const { return mesh.world->rank() == 0; }

 private:
  std::optional<StepFolder> find_newest() const;
  std::unique_ptr<TensorSource> check_start(const std::optional<StepFolder>&) const;
  void check_can_go_on(const StepFolder&) const;
  void make_optimizer();
  void start_from(const TensorSource* load);
  void go_on_from(const StepFolder&);
  void read(const TensorSource&, std::span<const ShardView>) const;
  void begin();
  void recall_steps();
};

}  // namespace gf
