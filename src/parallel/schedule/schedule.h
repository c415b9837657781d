// SPDX-License-Identifier: Apache-2.0
// A schedule is data: the order in which one pipeline rank runs its forward and backward passes. It says nothing
// about communication.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace gf {

struct Compute {
  enum class Pass : uint8_t { forward, backward } pass;
  int microbatch;
  bool operator==(const Compute&) const = default;
};

struct PipeShape {
  int ranks, rank, microbatches;
};

using PlanFn = std::vector<Compute> (*)(const PipeShape&);

PlanFn find_schedule(std::string_view name);  // refuses another name, listing the known ones
std::vector<std::string_view> schedule_names();

// The most microbatches whose activations the plan keeps at one time.
int peak_in_flight(const std::vector<Compute>&);

}  // namespace gf
