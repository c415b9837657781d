// SPDX-License-Identifier: Apache-2.0
// A run's folder: where its files lie, and the right to write there, which one process at a time has.
#pragma once
#include <filesystem>
#include <string>

#include "io/files.h"
#include "parallel/communicator.h"

namespace gf {

// Paths only; nothing is touched. Every rank may have one.
class RunPaths {
 public:
  explicit RunPaths(std::filesystem::path root) : root_(std::move(root)) {}
  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path config() const { return root_ / "config.yaml"; }
  std::filesystem::path metrics() const { return root_ / "metrics.jsonl"; }
  std::filesystem::path trace() const { return root_ / "trace.json"; }
  std::filesystem::path positions() const { return root_ / "positions.jsonl"; }  // losses by position, of gf eval
  std::filesystem::path report() const { return root_ / "report.html"; }
  std::filesystem::path checkpoints() const { return root_ / "checkpoints"; }
  std::filesystem::path lock() const { return root_ / "lock"; }

 private:
  std::filesystem::path root_;
};

// Creates the folder, proves that it can be written, and holds it until the object goes. The system gives the lock back
// when a process ends, however it ends. In a parallel run, rank 0 has it.
class RunFolder : public RunPaths {
 public:
  explicit RunFolder(RunPaths);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  // False where the file system has no locks (some Lustre mounts): then a second run is not kept out.
  bool is_exclusive() const { return exclusive_; }

 private:
  File create_locked();
  bool exclusive_ = false;
  File lock_;
};

// "process 4711 on node7", where a process of this machine holds the folder at this moment. Empty where nobody does, or
// one of another machine, or where that cannot be known. Nothing is made or changed.
std::string holder_on_this_machine(const RunPaths&);

// Collective, once the first rank holds the folder: refuses on all ranks where one does not see what that one makes
// there, as on nodes that each have a disk of their own by this name. Their parts of a checkpoint would not be found.
void check_all_see(const RunPaths&, Communicator& ranks);

}  // namespace gf
