// SPDX-License-Identifier: Apache-2.0
#include "parallel/schedule/schedule.h"

#include <algorithm>

#include "base/error.h"

namespace gf {

#define SCHEDULE(name) std::vector<Compute> plan_##name(const PipeShape&);
#include "parallel/schedule/schedules.def"
#undef SCHEDULE

namespace {
struct Entry {
  std::string_view name;
  PlanFn plan;
};
constexpr Entry kSchedules[] = {
#define SCHEDULE(name) {#name, plan_##name},
#include "parallel/schedule/schedules.def"
#undef SCHEDULE
};
}  // namespace

std::vector<std::string_view> schedule_names() {
  std::vector<std::string_view> names;
  for (const Entry& e : kSchedules) names.push_back(e.name);
  return names;
}

PlanFn find_schedule(std::string_view name) {
  for (const Entry& e : kSchedules)
    if (e.name == name) return e.plan;
  std::string known;
  for (const Entry& e : kSchedules) known += cat(" ", e.name);
  refuse(cat("parallel.schedule is \"", name, "\", and there is no such schedule"), cat("one of:", known));
}

int peak_in_flight(const std::vector<Compute>& plan) {
  int live = 0, peak = 0;
  for (const Compute& c : plan) {
    live += c.pass == Compute::Pass::forward ? 1 : -1;
    peak = std::max(peak, live);
  }
  return peak;
}

}  // namespace gf
