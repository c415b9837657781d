// SPDX-License-Identifier: Apache-2.0
// The report: one HTML page with the curves of some runs, their final numbers and their configurations. The page is
// whole in itself (no network, no other file), some 100 KB a run however long it was, with a trace up to 700 KB; the
// tables need no script.
#pragma once
#include <span>
#include <string>

#include "train/run_history.h"

namespace gf {

std::string report_page(std::span<const RunHistory> runs);

}  // namespace gf
