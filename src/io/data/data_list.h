// SPDX-License-Identifier: Apache-2.0
// Which token files are meant: a prefix, a list of prefixes that are read as one, or a list of sources with weights.
// Written as  data/a   or  [data/a, data/b]   or  [{prefix: data/a, weight: 0.7}, {prefix: [data/b, data/c], weight:
// 0.3}], in a config file as a YAML list, on a command line as one value. No file is looked at here.
#pragma once
#include <string>
#include <vector>

#include "base/fields.h"

namespace gf {

class DataList {
 public:
  // Prefixes whose files are one after another.
  struct Source {
    std::vector<std::string> prefixes;
    double weight = 0;  // above 0; 0 where the list has no weights, and so one source
    bool operator==(const Source&) const = default;
  };

  DataList() = default;
  DataList(const std::string& prefix);  // as it is, even where it begins like a list; empty: nothing
  DataList(const char* prefix) : DataList(std::string(prefix)) {}

  const std::vector<Source>& sources() const { return sources_; }
  bool empty() const { return sources_.empty(); }
  bool weighted() const { return !empty() && sources_[0].weight > 0; }
  bool is_one_prefix() const { return sources_.size() == 1 && !weighted() && sources_[0].prefixes.size() == 1; }
  // Of a list without weights, which has to be there; those who have no use for weights refuse them, as `key`.
  const std::vector<std::string>& prefixes(const std::string& key) const;
  bool operator==(const DataList&) const = default;

  // As a config's value (base/fields.h). Refused are weights that are not above 0, or that some entries have and others
  // have not; an empty list; a prefix that is named twice.
  static constexpr const char* kType = "prefixes";
  void set(const Setting&);
  std::string text() const;

 private:
  std::vector<Source> sources_;
};

}  // namespace gf
