// SPDX-License-Identifier: Apache-2.0
// What a run will need, before it needs it.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "base/process_memory.h"
#include "optim/sharded_optimizer.h"
#include "parallel/partition.h"
#include "train/config.h"

namespace gf {

struct MemoryForecast {
  bool on_gpu = false;  // then of the GPU's memory; what is on the CPU is little beside the copy
  size_t program = 0;   // what the process holds already
  // Not reckoned but seen: the buffers of oneDNN's products and the heap between them, on few threads.
  static constexpr size_t libraries = 13'000'000;
  // Left free beside all that is told: on more threads libraries take up to 80 MB, and HDF5 survives no lack of memory.
  static constexpr size_t spare = 28'000'000;
  size_t parameters = 0, gradients = 0, optimizer = 0;
  size_t reductions = 0;           // what other ranks' gradients come into, to be summed up
  size_t activations = 0;          // of the microbatches in flight, with their gradients and scratch
  int64_t validation_windows = 0;  // looked at together
  size_t validation = 0;           // for these
  size_t copy = 0;                 // of what the rank saves, so that training can go on meanwhile; 0: it waits
  size_t saving = 0;               // what HDF5 takes to index a checkpoint
  bool validates_after_saving = false;
  // What a save took stays with the process, the copy for the next one, and so meets each validation after it. A
  // validation gives back what it took, and the last save comes after it.
  bool meets() const { return validates_after_saving && validation > 0; }
  size_t passing() const {  // of validation and saving the most at a time
    return meets() ? validation + saving + copy : std::max(validation, saving + copy);
  }
  size_t total() const { return program + taken(passing()); }
  // That has to be free: a signal or the clock may begin a save at any time.
  size_t more() const { return taken(validation + saving + copy) + (on_gpu ? 0 : spare); }
  // Passes keep their memory from one to the next, whatever else is done in between.
  size_t taken(size_t beside) const {
    const size_t kept = parameters + gradients + optimizer + reductions + activations;
    return on_gpu ? kept + validation : libraries + kept + beside;
  }
  void fit(size_t available) {  // without the copy, if that is what does not fit
    if (!on_gpu && more() > available) copy = 0;
  }
};

// A rank's share of a run.
struct RankShare {
  int stage = 0;  // its place in the pipeline, with parallel.pieces stages
  int data_ranks = 1, data_rank = 0;
  Partition partition;
  Sharding sharding;
  int64_t microbatches = 1;
  int64_t validation_windows = 0;  // of a whole validation on this rank, 0 for none
  bool validates_after_saving = false;
};

// Of some layers as one stage.
struct StageNeed {
  // Of each layer, and of these what stages of one rank have in common.
  struct Numbers {
    int64_t trained = 0, frozen = 0;
    bool shared = false;  // with other stages
  };
  std::vector<Numbers> numbers;
  Numbers shared;
  int64_t tensors = 0;
  bool goes_back = true;  // it has a backward pass: else no microbatch stays in flight
  size_t pass = 0;        // bytes that a microbatch in flight keeps, with what crosses the cuts
  size_t validation = 0;  // for these windows at a time
};

// Of the layers [begin, end) of layout_of(). Runs a microbatch forward and backward over tensors without memory: the
// sums are those of the real pass.
StageNeed need_of_stage(const Config&, size_t begin, size_t end, int64_t validation_windows);
// Of a rank with these stages, but for the program.
MemoryForecast forecast_memory(const Config&, const RankShare&, const std::vector<StageNeed>&);
// Of this share's own.
MemoryForecast forecast_memory(const Config&, const RankShare&);
// Threads that a training program starts beside those that compute: one reads data ahead, one writes checkpoints, one
// watches.
inline constexpr int kTrainingThreads = 3;
// Refuses a run that needs more than is `available`; the hint says what would fit.
void check_memory(const Config&, const RankShare&, const MemoryForecast&, const AvailableMemory& available);

// What windows take, `batch` of them at a time, forward, with the loss.
size_t evaluation_bytes(const ModelConfig&, int64_t batch, int64_t length, bool masked = false);
// Refuses windows that take more memory than there is.
void check_evaluation_memory(const ModelConfig&, int64_t batch, int64_t length, const std::string& hint,
                             bool masked = false);

struct LayerCount {
  std::string kind;    // "8 x x060c2 + x060", "embedding"
  int64_t parameters;  // of all of them
};
// Parameters by kind of layer, lowest first.
std::vector<LayerCount> count_parameters(const ModelConfig&);

}  // namespace gf
