// SPDX-License-Identifier: Apache-2.0
// Saves a run's state so that at every moment, whatever fails or is killed, the newest complete checkpoint is whole:
// all is written and synced in step-N.partial, checked, renamed, and only then marked with DONE.
// All ranks call write() together; a failure on one ends the call with an error on all.
#pragma once
#include <filesystem>
#include <functional>
#include <span>

#include "io/checkpoint/checkpoint_index.h"
#include "parallel/communicator.h"
#include "tensor/shard_view.h"

namespace gf {

class CheckpointWriter {
 public:
  // `folder` holds the step folders and must exist or have an existing parent; `keep` newest ones stay, all if it is
  // not positive. The communicator must outlive the writer.
  CheckpointWriter(std::filesystem::path folder, Communicator& world, int keep);

  // Each element of each tensor is given by exactly one rank. The views are read until the call returns.
  void write(const Attributes&, std::span<const ShardView>);

 private:
  void together(const Attributes&, std::span<const ShardView>, const std::function<void()>& body);
  void check_names(std::span<const ShardView>) const;
  void prepare(int64_t step) const;
  void publish(const Attributes&) const;
  void prune(int64_t step) const noexcept;
  std::filesystem::path partial_folder(int64_t step) const;

  std::filesystem::path folder_;
  Communicator& world_;
  int keep_;
};

}  // namespace gf
