// SPDX-License-Identifier: Apache-2.0
// Plans for people.
#pragma once
#include <span>
#include <string>

#include "train/planner/layouts.h"

namespace gf {

// What one layout will be: idle time, and of each rank of the pipeline its blocks, parameters, memory, share of the
// work and what it sends in a step; with hardware the time of a step. Long pipelines are shortened.
std::string layout_text(const Config&, const RankShare&, const LayoutForecast&, const Hardware* = nullptr);

// A line a layout, at most `top` of those that fit and of those that do not.
std::string table_of(std::span<const PlannedLayout>, size_t top);

}  // namespace gf
