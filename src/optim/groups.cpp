// SPDX-License-Identifier: Apache-2.0
#include "optim/groups.h"

#include <algorithm>

namespace gf {

Group group_of(const ParameterSpec& spec, const GroupRules& rules) {
  if (rules.layerwise_lr) {
    const bool stage2 = rules.train_stage == 2;
    switch (spec.role) {
      case Role::lora:
        return {1, false};
      case Role::mix:
        return {stage2 ? 2.0 : 1.0, false};
      case Role::decay:
        return {stage2 ? 3.0 : 2.0, false};
      case Role::bonus:
        return {stage2 ? 2.0 : 1.0, false};
      case Role::matrix:
      case Role::vector:
        break;
    }
  }
  // Whatever has two real dimensions decays, as published.
  const auto dims = spec.shape.dims();
  return {1, std::count_if(dims.begin(), dims.end(), [](int64_t d) { return d != 1; }) >= 2};
}

}  // namespace gf
