// SPDX-License-Identifier: Apache-2.0
// How long layers take, by kind: measured on this machine, or reckoned from what their ops do. Either way a stack with
// layers of each kind takes the passes of a real one; what its hooks tell is where each layer begins and ends.
#pragma once
#include <vector>

#include "train/config.h"
#include "train/planner/hardware.h"

namespace gf {

// Of the model's layers the first `most` of each kind, from the embedding to the head.
std::vector<LayerSpec> sample_layers(const ModelConfig&, int64_t most);

// Over tensors without memory, on the configuration's device and in its precision: of each op the longer of its
// operations at the speed that products reach, and of its bytes, each read or written once, at the memory's. So at
// least as fast as any real machine of these figures.
LayerTimes reckoned_times(const Config&, const RankSpeed&);

// Medians of passes with random numbers, for about so many seconds; and of the optimizer's update, a parameter. Refuses
// where that takes more than `room` bytes of memory.
struct LayerMeasurement {
  LayerTimes layers;
  double update = 0;
};
LayerMeasurement measure_layers(const Config&, double seconds, size_t room);

// In the fixed measure of layer_costs(), a third for each pass: for comparing, not for telling a time.
LayerTimes fixed_times(const ModelConfig&);

// Whether the hardware file has this run's layers measured; else why not, for a person.
std::string why_not_measured(const Hardware&, const Config&);
// Those, or reckoned ones.
LayerTimes times_on(const Hardware&, const Config&);

// Of each layer of layout_of(), without what train.groups leaves out: no gradients of frozen weights, nor of inputs
// below which nothing is trained.
std::vector<PassSeconds> trained_times(const Config&, const LayerTimes&);
// Likewise, forward and backward: what balanced_partition() takes.
std::vector<double> costs_of(const Config&, const LayerTimes&);
std::vector<double> trained_costs(const Config&);  // in the measure of layer_costs()

}  // namespace gf
