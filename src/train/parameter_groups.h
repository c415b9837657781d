// SPDX-License-Identifier: Apache-2.0
// Which parameters a run freezes, or trains at a rate of their own: train.groups. A list of entries, each with a
// regular expression (ECMAScript) that has to match a parameter's whole published name; the first entry that matches
// one decides about it, and what none matches is trained as usual.
#pragma once
#include <string>
#include <vector>

#include "base/fields.h"
#include "model/parameter.h"

namespace gf {

class ParameterGroups {
 public:
  struct Group {
    std::string match;
    Tuning tuning;
  };

  bool empty() const { return groups_.empty(); }
  const std::vector<Group>& groups() const { return groups_; }
  TuningRule rule() const;  // empty where there are no groups

  // Of each group, how many of these parameters it decides about. Refuses one that decides about none, and a list that
  // freezes them all.
  std::vector<int64_t> check(const std::vector<std::string>& names) const;
  // The first of the names that one list freezes and the other trains; empty where there is none.
  static std::string difference(const ParameterGroups&, const ParameterGroups&, const std::vector<std::string>& names);

  // As a config's value (base/fields.h). Refused are unknown keys, an expression that is none, an entry that says
  // neither freeze nor lr_scale, or both, a rate that is not above 0.
  static constexpr const char* kType = "groups";
  void set(const Setting&);
  std::string text() const;

 private:
  std::vector<Group> groups_;
};

}  // namespace gf
