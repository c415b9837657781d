// SPDX-License-Identifier: Apache-2.0
// The report: one HTML page with the curves of some runs, their final numbers and their configurations. The page is
// whole in itself (no network, no other file), some 100 KB a run however long it was, with a trace up to 700 KB; the
// tables need no script.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "train/run_history.h"

namespace gf {

// What stands around the runs where they belong together. Runs of one series have one colour and one button.
struct ReportFrame {
  std::string title = {};           // empty: the runs' names
  std::string tables = {};          // above the runs' own
  std::vector<size_t> series = {};  // of each run; empty: each is one
  std::vector<std::string> series_names = {};
};

std::string report_page(std::span<const RunHistory> runs, const ReportFrame& = {});

}  // namespace gf
