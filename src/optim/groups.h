// SPDX-License-Identifier: Apache-2.0
// The published optimizer groups: how each kind of parameter scales the learning rate, and whether it decays.
#pragma once
#include "model/parameter.h"

namespace gf {

struct Group {
  double lr_scale = 1;
  bool decays = false;
};

struct GroupRules {
  bool layerwise_lr = true;  // false: one rate for all
  int64_t train_stage = 3;   // 2 trains mixes and bonuses at twice, decays at three times the rate
};

Group group_of(const ParameterSpec&, const GroupRules&);

}  // namespace gf
