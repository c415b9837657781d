// SPDX-License-Identifier: Apache-2.0
// All layouts that a run could have on so many ranks, each with its forecast.
#pragma once
#include <string>
#include <vector>

#include "train/config.h"
#include "train/planner/forecast.h"

namespace gf {

struct PlannedLayout {
  Config config;  // its section parallel says the layout
  RankShare share;
  LayoutForecast forecast;
  bool fits = true;  // every rank into the hardware's memory

  std::string options() const;  // that make gf-dist-train run it
};

// The layout that the config's section parallel says, cut by the layers' times where it does not say how.
PlannedLayout plan_layout(const Config&, int64_t ranks, const Hardware&, const LayerTimes&, StageNeeds&);

// Pipeline x data x zero x schedule x pieces, as far as the batch and the layers allow. What of the section parallel is
// given stays, be it the default; the rest is tried. Those that fit first, the fastest first; then by memory.
std::vector<PlannedLayout> plan_layouts(const Config&, const GivenKeys& given, int64_t ranks, const Hardware&,
                                        const LayerTimes&);

}  // namespace gf
