// SPDX-License-Identifier: Apache-2.0
// What the report shows of a trace: tables of where the time of the traced steps went, and one step as data for the
// page's script to draw.
#pragma once
#include <string>

#include "parallel/timeline.h"

namespace gf {

std::string trace_section(const TracedRun&, const TraceSummary&);  // HTML; the drawing goes in by the script
// JSON. `most_spans`: ranks beyond these are not drawn.
std::string trace_data(const TracedRun&, const TraceSummary&, size_t most_spans = 20'000);

}  // namespace gf
