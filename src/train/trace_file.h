// SPDX-License-Identifier: Apache-2.0
// trace.json of a run folder: the traces of all ranks together as a Chrome trace, written step by step, so that a long
// one takes no more memory than a short one, and read back for the report.
//
// All times count from one moment: ranks of a machine share its clock; the clocks of several are compared at a barrier,
// so that they are apart by no more than it takes to leave that.
#pragma once
#include <filesystem>
#include <optional>

#include "base/trace.h"
#include "io/partial_file.h"
#include "parallel/timeline.h"
#include "train/build.h"

namespace gf {

// Takes a trace from its construction on, into a file that gets its name with publish(). All ranks make it, and call
// its functions, at the same steps; where one fails, all ranks throw.
class TraceRecorder {
 public:
  // `nodes`: of each rank.
  TraceRecorder(const Plan&, Communicator& world, const std::vector<std::string>& nodes);
  // What was recorded since the last time, into the run folder, by the first rank.
  void write();
  // The same, of what is still under way too: it was the last time.
  void publish();

 private:
  void write(bool all);

  Communicator& world_;
  std::optional<PartialFile> file_;  // of the first rank
  Trace trace_;
};

// Refuses a file that is no whole trace. Nothing where it is of a version that this program does not know.
std::optional<TracedRun> read_trace(const std::filesystem::path&);

}  // namespace gf
