// SPDX-License-Identifier: Apache-2.0
// trace.json of a run folder: the traces of all ranks together as a Chrome trace, written at the end of the traced
// steps and read back for the report.
//
// All times count from one moment: ranks of a machine share its clock; the clocks of several are compared at a barrier,
// so that they are apart by no more than it takes to leave that.
#pragma once
#include <filesystem>
#include <optional>

#include "base/trace.h"
#include "parallel/timeline.h"
#include "train/build.h"

namespace gf {

// Takes a trace from its construction on. All ranks make it, and call its functions, at the same steps.
class TraceRecorder {
 public:
  // `nodes`: of each rank.
  TraceRecorder(const Plan&, Communicator& world, std::vector<std::string> nodes);
  // Into the run folder, by the first rank; where that fails, all ranks throw.
  void write() const;

 private:
  const Plan& plan_;
  Communicator& world_;
  std::vector<std::string> nodes_;
  Trace trace_;
};

// Refuses a file that is no whole trace. Nothing where it is of a version that this program does not know.
std::optional<TracedRun> read_trace(const std::filesystem::path&);

}  // namespace gf
