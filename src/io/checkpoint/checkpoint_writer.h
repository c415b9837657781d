// SPDX-License-Identifier: Apache-2.0
// Saves a run's state so that at every moment, whatever fails or is killed, the newest complete checkpoint is whole:
// all is written, read back and synced in step-N.partial, renamed, and only then marked with DONE. step-N.partial is
// made anew by each save, so that nothing that lies there before, a link least of all, decides where is written; only
// what saves have made is removed. A save goes on beside the training: begin() copies the state, a thread of each rank
// writes its part in the time that training leaves, and when all have told one another that they did, a thread of the
// first rank joins the parts. Where the run waits for it, or it has gone on for minutes, it takes what time it needs.
// All ranks make the same calls; a failure on one ends the save with an error on all.
#pragma once
#include <atomic>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "io/checkpoint/checkpoint_index.h"
#include "io/checkpoint/tensor_source.h"
#include "parallel/communicator.h"
#include "parallel/hang_watch.h"
#include "tensor/pinned_memory.h"
#include "tensor/shard_view.h"
#include "tensor/side_stream.h"

namespace gf {

class CheckpointWriter {
 public:
  // `folder` holds the step folders and must exist or have an existing parent; `keep` newest ones stay, all if it is
  // not positive. The communicator must outlive the writer.
  CheckpointWriter(std::filesystem::path folder, Communicator& world, int keep, HangWatch* = nullptr);
  ~CheckpointWriter();  // waits for its thread; a save that did not come to its end is none
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // background: what is saved is copied first, to memory that stays the writer's. at_once: it is written before the
  // call returns, by the calling thread.
  enum class Mode { background, at_once };
  // Each element of each tensor is given by exactly one rank; the views are read until the call returns, those of a
  // GPU until before_change(). Where a save is under way, it comes to its end first. `before_done` runs on the first
  // rank, maybe on a thread.
  void begin(const Attributes&, std::span<const ShardView>, Mode, std::function<void()> before_done = {});
  void before_change() const { copied_.hold_back(); }  // what was viewed may be changed by what is computed next

  // What the ranks must tell one another from time to time while a save is under way: proceed() takes the sum.
  struct Progress {
    int busy = 0, failed = 0;  // ranks
  };
  Progress progress();
  void proceed(const Progress& of_all);
  void finish();  // does so until nothing is under way

  // A whole save.
  void write(const Attributes&, std::span<const ShardView>);
  // Of all that a source has, by one rank: no more of it is in memory at once than a block.
  void write(const Attributes&, const TensorSource&);

  std::optional<int64_t> saved_step() const { return saved_step_; }  // of the last save that came to its end
  // That this rank was at work for it, or waited for a disk; not that its thread waited for the steps beside it.
  double seconds() const { return seconds_; }
  // What saves found in the checkpoints folder that is not theirs, and what became of it: to be told, each once, by the
  // first rank. Nothing while a save is under way.
  std::vector<std::string> take_notes();

 private:
  enum class Phase { idle, writing, publishing };
  using Job = std::function<void()>;
  // Of a thread: in the time that all others leave, or its full share.
  enum class Pace { idle, full };
  void begin_with(const Attributes&, std::vector<ShardView>, Mode, Job before_done, const TensorSource*);
  void start(std::function<bool()> proceed, Pace);
  void go_on(Pace);
  void hurry();
  bool take_result();
  void make_room(std::span<const ShardView>);
  void copy(std::vector<ShardView>&);
  void together(const Job& body);
  void end_with_error();
  void note(std::string);
  void publish();
  void prune() noexcept;
  std::filesystem::path partial_folder() const;

  const std::filesystem::path folder_;
  Communicator& world_;
  const int keep_;
  HangWatch* const watch_;
  bool cleaned_ = false;            // of what earlier processes left
  std::vector<std::string> notes_;  // to be told
  std::set<std::string> noted_;     // all there ever were

  // Of the save under way.
  Phase phase_ = Phase::idle;
  Mode mode_ = Mode::at_once;
  Attributes attributes_;
  Job before_done_;
  int64_t own_bytes_ = 0, all_bytes_ = 0;  // of this rank's part, and of all parts
  std::function<bool()> proceed_;          // some of this rank's work -> whether there is more
  std::future<bool> work_;           // the thread at it, while it is not known to have ended -> whether there is more
  Pace pace_ = Pace::full;           // its
  std::atomic<bool> leave_ = false;  // it is to end, with what is left for another
  Stopwatch since_;                  // the first of them began
  std::exception_ptr error_;
  double seconds_so_far_ = 0;  // written by the thread at work while there is one

  PinnedMemory pinned_;
  Tensor copy_;  // of what is saved, on the CPU
  StreamEvent copied_;
  std::optional<int64_t> saved_step_;
  double seconds_ = 0;
  std::jthread thread_;  // last: it ends before what it uses goes
};

}  // namespace gf
