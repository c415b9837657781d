// SPDX-License-Identifier: Apache-2.0
// The ranks that a launcher (mpirun, srun) started, over MPI. Only the thread that made the World calls MPI
// (MPI_THREAD_FUNNELED, which every MPI has and none makes slower): operations are non-blocking and make progress when
// that thread polls them or waits.
#pragma once
#include <memory>
#include <optional>
#include <thread>

#include "parallel/communicator.h"
#include "parallel/hang_watch.h"
#include "parallel/rank_origin.h"

namespace gf {

// What the environment says of how this process was started.
struct Launch {
  static bool by_launcher();  // MPI will find the other ranks
  // Refuses where no launcher started this process, and there should be more: by srun without PMIx, or by none in a
  // Slurm job of several tasks.
  static void check_alone();
  // Refuses where MPI found this process alone and the launcher says that there are more.
  static void check_size(int found);
};

// At most one in a process, and once: MPI cannot begin again.
class World {
 public:
  World();   // begins MPI where a launcher started this process
  ~World();  // ends it, where end() has not
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  std::unique_ptr<Communicator> communicator(HangWatch*) const;  // of all ranks; the watch must outlive it
  void check_complete() const;  // refuses where this process is alone, and should not be
  int rank() const { return rank_; }
  int size() const { return size_; }
  RankOrigin& origin() { return *origin_; }
  const RankOrigin& origin() const { return *origin_; }

  // Ends MPI, and with it the talk of the ranks: waits until all of them are here.
  void end();
  // Ends all ranks, from any state and any thread. Does not return.
  [[noreturn]] void end_all(int status) const;

 private:
  void begin();
  const std::thread::id thread_ = std::this_thread::get_id();  // that uses MPI
  bool mpi_ = false;
  int rank_ = 0, size_ = 1;
  std::optional<RankOrigin> origin_;
};

}  // namespace gf
