// SPDX-License-Identifier: Apache-2.0
#include "io/data/data_list.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/text.h"
#include "base/yaml.h"

namespace gf {
namespace {

constexpr const char* kHint =
    "PREFIX, or [PREFIX, PREFIX], or [{prefix: PREFIX, weight: 0.7}, {prefix: [PREFIX, PREFIX], weight: 0.3}]";

// Two such lists, quoted, leave room in a config file for the rest of it.
constexpr size_t kMostBytes = 400'000;

std::string shown(const Setting& s) {
  constexpr const char* kKinds[] = {"", "empty", "a section", "a list"};
  return s.kind == Setting::Kind::text ? s.text.empty() ? "empty" : "no text in UTF-8 without control characters"
                                       : kKinds[static_cast<int>(s.kind)];
}

std::string name_of(const Setting& s) {
  if (s.kind != Setting::Kind::text || s.text.empty() || !is_plain_text(s.text)) refuse("a prefix is " + shown(s));
  return s.text;
}

// The value of the key `prefix`.
struct Names {
  static constexpr const char* kType = "prefixes";
  std::vector<std::string> names;
  void set(const Setting& s) {
    names.clear();
    if (s.kind != Setting::Kind::list) return names.push_back(name_of(s));
    for (const Setting& entry : s.entries) names.push_back(name_of(entry));
  }
  std::string text() const { return joined(names); }
};

// An entry that is a section.
struct Entry {
  Names prefix;
  double weight = 0;

  template <class V>
  void visit(V& v) {
    v("prefix", prefix, "one, or a list");
    v("weight", weight, "of the samples that come from there");
  }
};

DataList::Source source_of(const Setting& entry) {
  if (entry.kind != Setting::Kind::section) return {{name_of(entry)}, 0};
  std::vector<Setting> keys = entry.entries;
  for (Setting& key : keys) key.where.clear();  // whoever catches the message says where
  Entry e;
  apply_settings(keys, e);
  if (e.prefix.names.empty()) refuse("there is no prefix");
  const bool weighted = std::ranges::count(keys, "weight", &Setting::path) > 0;
  if (weighted && !(e.weight > 0)) refuse(cat("the weight is ", e.weight, " and must be above 0"));
  return {e.prefix.names, e.weight};
}

// Calls body(number, entry) for each; what is refused there is told with its place.
template <class Body>
void for_entries(const Setting& s, Body&& body) {
  for (size_t i = 0; i < s.entries.size(); ++i) {
    try {
      body(i + 1, s.entries[i]);
    } catch (const Error& e) {
      const std::string& where = s.entries[i].where.empty() ? s.where : s.entries[i].where;
      refuse(cat(where, where.empty() ? "" : ": ", s.path, ": entry ", i + 1, ": ", e.what()), kHint);
    }
  }
}

std::vector<DataList::Source> sources_of(const Setting& s) {
  std::vector<DataList::Source> sources;
  std::map<std::string, size_t> seen;
  size_t bytes = 0;
  for_entries(s, [&](size_t number, const Setting& entry) {
    DataList::Source source = source_of(entry);
    if (number > 1 && (source.weight > 0) != (sources[0].weight > 0)) {
      const auto weight = [](double w) { return w > 0 ? cat("weight ", w) : "no weight"; };
      refuse(cat(weight(source.weight), ", and entry 1 has ", weight(sources[0].weight),
                 ": either all have one, or none has"));
    }
    for (const std::string& prefix : source.prefixes) {
      const auto [first, fresh] = seen.emplace(std::filesystem::path(prefix).lexically_normal(), number);
      if (!fresh)
        refuse(cat(prefix, " is named by entry ", first->second, " already: a weight says what is to come often"));
      bytes += prefix.size() + 4;
    }
    if (number == 1 || source.weight > 0)
      sources.push_back(std::move(source));
    else
      sources[0].prefixes.insert(sources[0].prefixes.end(), source.prefixes.begin(), source.prefixes.end());
  });
  if (sources.empty()) refuse(cat(place(s), s.path, " is an empty list"), kHint);
  if (bytes > kMostBytes)
    refuse(cat(place(s), s.path, " names ", seen.size(), " files in ", bytes, " bytes, more than ", kMostBytes),
           "fewer and larger files, or shorter names");
  return sources;
}

std::string flow_list(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (const std::string& name : names) quoted.push_back(in_quotes(name));
  return "[" + joined(quoted) + "]";
}

std::string flow_entry(const DataList::Source& source) {
  char digits[32];
  const std::string weight(digits, std::to_chars(digits, digits + sizeof digits, source.weight).ptr);
  const bool one = source.prefixes.size() == 1;
  return cat("{\"prefix\": ", one ? in_quotes(source.prefixes[0]) : flow_list(source.prefixes),
             ", \"weight\": ", weight, "}");
}

}  // namespace

DataList::DataList(const std::string& prefix) {
  if (!prefix.empty()) sources_.push_back({{prefix}, 0});
}

const std::vector<std::string>& DataList::prefixes(const std::string& key) const {
  if (weighted())
    refuse(cat(key, " has weights, and is read from its beginning to its end"),
           cat(key, " [PREFIX, PREFIX], without weights"));
  GF_CHECK(!empty(), key, " names no data");
  return sources_[0].prefixes;
}

void DataList::set(const Setting& s) {
  const bool text = s.kind == Setting::Kind::text;
  if (s.kind == Setting::Kind::section || (text && !is_plain_text(s.text)))
    refuse(cat(place(s), s.path, " is ", shown(s), " and must be a prefix or a list of them"), kHint);
  if (text && s.text.starts_with('[')) {
    Setting list = parse_yaml_list(s.text, place(s) + s.path);
    list.path = s.path;
    list.where = s.where;
    sources_ = sources_of(list);
  } else if (s.kind == Setting::Kind::list) {
    sources_ = sources_of(s);
  } else {
    *this = DataList(s.text);  // null is no data, as no text is
  }
}

// As JSON, which is YAML too, so that whatever reads a config.yaml line by line can take it.
std::string DataList::text() const {
  if (empty()) return "";
  if (is_one_prefix() && !sources_[0].prefixes[0].starts_with('[')) return sources_[0].prefixes[0];
  if (!weighted()) return flow_list(sources_[0].prefixes);
  std::vector<std::string> entries;
  for (const Source& source : sources_) entries.push_back(flow_entry(source));
  return "[" + joined(entries) + "]";
}

}  // namespace gf
