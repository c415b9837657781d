// SPDX-License-Identifier: Apache-2.0
// What a run of one layout will be: memory, bytes sent, idle time, and on given hardware the time of a step. One
// pipeline is simulated, pass by pass; its data ranks do alike, and the time of what they tell each other is added.
#pragma once
#include <string>

#include "parallel/schedule/simulation.h"
#include "train/planner/fitting.h"
#include "train/planner/hardware.h"
#include "train/planner/traffic.h"

namespace gf {

// Of one rank of the pipeline.
struct RankForecast {
  int64_t parameters = 0;
  MemoryForecast memory;
  SentBytes sent;
  PassSeconds pass;  // a microbatch through all its pieces
};

// In this order, of the slowest rank.
struct StepSeconds {
  double gather = 0;    // of new parameters, as far as the first passes wait for it
  double pipeline = 0;  // all passes, and what of reducing gradients goes on after the last
  double update = 0;    // norm, AdamW
  double all() const { return gather + pipeline + update; }
};

struct LayoutForecast {
  std::vector<RankForecast> ranks;  // of the pipeline
  Simulation simulation;
  StepSeconds step;  // without hardware in the measure of the layers' times, messages being free
  double tokens_per_s = 0;
  std::string placement;  // what goes within a node and what between nodes, where there are several

  void fit(size_t room);  // see MemoryForecast
  // Shares of the ranks' time that they stand idle: while the pipeline fills and drains, and because the dearest stage
  // takes longer than the others.
  double fill() const;
  double unevenness() const { return simulation.bubble() - fill(); }
  const RankForecast& neediest() const;  // of memory
  SentBytes most_sent() const;           // each by the rank that sends most
  int64_t most_parameters() const;
};

// The config's section parallel says the pipeline; `share` is any rank's.
LayoutForecast forecast_layout(const Config&, RankShare share, const LayerTimes&, StageNeeds&,
                               const Hardware* = nullptr);

}  // namespace gf
