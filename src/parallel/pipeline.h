// SPDX-License-Identifier: Apache-2.0
// Runs a schedule's passes over one step's microbatches.
#pragma once
#include <functional>
#include <span>

#include "parallel/communicator.h"
#include "parallel/schedule/schedule.h"
#include "parallel/stage.h"

namespace gf {

class Pipeline {
 public:
  Pipeline(Stage& stage, Communicator& pipe, PlanFn plan) : stage_(stage), pipe_(pipe), plan_(plan) {}

  // The step's loss, on the last stage. Calls grads_ready(begin, end) for each range of the stage's flat gradients
  // that nothing will add to any more.
  double run(std::span<const Batch> microbatches, const std::function<void(int64_t begin, int64_t end)>& grads_ready);

 private:
  Stage& stage_;
  Communicator& pipe_;
  PlanFn plan_;
};

}  // namespace gf
