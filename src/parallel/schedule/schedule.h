// SPDX-License-Identifier: Apache-2.0
// A schedule is data: the order in which one pipeline rank runs its passes over the microbatches of a step. It says
// nothing about communication, which lower() (lowering.h) adds to any of them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gf {

// One pass of one microbatch through one of the rank's pieces of the model.
struct Compute {
  // backward is backward_input (the gradients that the stage below waits for) and backward_weight at once.
  enum class Pass : uint8_t { forward, backward, backward_input, backward_weight } pass;
  int microbatch = 0;
  int piece = 0;
  bool operator==(const Compute&) const = default;
  bool is_forward() const { return pass == Pass::forward; }
  // After it the microbatch's activations are no longer kept.
  bool releases() const { return pass == Pass::backward || pass == Pass::backward_weight; }
};

std::string_view name_of(Compute::Pass);                         // as in the code: "backward_input"
std::optional<Compute::Pass> pass_named(std::string_view name);  // nothing for any other name
std::string name_of(const Compute&);  // "backward of microbatch 3", with its piece where it is not 0

// Of one rank in its pipeline. The model is cut into ranks * pieces stages; piece i of rank r is stage i * ranks + r.
struct PipeShape {
  int ranks = 1, rank = 0, microbatches = 1, pieces = 1;
};

using PlanFn = std::vector<Compute> (*)(const PipeShape&);

struct ScheduleEntry {
  std::string_view name;
  PlanFn plan;
  bool takes_pieces;  // more than one a rank
};
const ScheduleEntry& find_schedule(std::string_view name);  // refuses another name, listing the known ones
std::vector<std::string_view> schedule_names();

// The most microbatches (of pieces) whose activations the plan keeps at one time.
int peak_in_flight(const std::vector<Compute>&);

}  // namespace gf
