// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/schedule.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace gf {

#define SCHEDULE(name, takes_pieces) std::vector<Compute> plan_##name(const PipeShape&);
#include "parallel/schedule/schedules.def"
#undef SCHEDULE

namespace {
constexpr ScheduleEntry kSchedules[] = {
#define SCHEDULE(name, takes_pieces) {#name, plan_##name, takes_pieces},
#include "parallel/schedule/schedules.def"
#undef SCHEDULE
};

constexpr std::pair<Compute::Pass, std::string_view> kPasses[] = {{Compute::Pass::forward, "forward"},
                                                                  {Compute::Pass::backward, "backward"},
                                                                  {Compute::Pass::backward_input, "backward_input"},
                                                                  {Compute::Pass::backward_weight, "backward_weight"}};
}  // namespace

std::string_view name_of(Compute::Pass pass) {
  return std::ranges::find(kPasses, pass, &std::pair<Compute::Pass, std::string_view>::first)->second;
}

std::optional<Compute::Pass> pass_named(std::string_view name) {
  for (const auto& [pass, text] : kPasses)
    if (text == name) return pass;
  return {};
}

std::string name_of(const Compute& c) {
  const char* pass = "forward";
  if (c.pass == Compute::Pass::backward) pass = "backward";
  if (c.pass == Compute::Pass::backward_input) pass = "input gradients";
  if (c.pass == Compute::Pass::backward_weight) pass = "weight gradients";
  return cat(pass, " of microbatch ", c.microbatch, c.piece > 0 ? cat(" in piece ", c.piece) : "");
}

std::vector<std::string_view> schedule_names() {
  std::vector<std::string_view> names;
  for (const ScheduleEntry& e : kSchedules) names.push_back(e.name);
  return names;
}

const ScheduleEntry& find_schedule(std::string_view name) {
  for (const ScheduleEntry& e : kSchedules)
    if (e.name == name) return e;
  std::string known;
  for (const ScheduleEntry& e : kSchedules) known += cat(" ", e.name);
  refuse(cat("parallel.schedule is ", cited(name), ", and there is no such schedule"), cat("one of:", known));
}

int peak_in_flight(const std::vector<Compute>& plan) {
  int live = 0, peak = 0;
  for (const Compute& c : plan) {
    if (c.is_forward()) ++live;
    if (c.releases()) --live;
    peak = std::max(peak, live);
  }
  return peak;
}

}  // namespace gf
