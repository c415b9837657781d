// SPDX-License-Identifier: Apache-2.0
#include "train/parameter_groups.h"

#include <algorithm>
#include <charconv>
#include <regex>

#include "base/error.h"
#include "base/text.h"
#include "base/yaml.h"

namespace gf {
namespace {

constexpr const char* kHint = "[{match: 'blocks\\.[0-7]\\..*', freeze: 1}, {match: 'emb\\..*', lr_scale: 0.1}]";
constexpr size_t kLongest = 1000;       // of an expression
constexpr double kLongestOut = 10'000;  // of one written out

// Roughly how long an expression is once its repetitions, a{3,5}, are written out, as they are compiled: each may
// repeat what has others in it. What is looked ahead at is gone through anew at each place, within another such look
// too, so that it counts as a repetition. Brackets and escapes are not told from others, which only makes it longer.
double written_out(const std::string& match) {
  constexpr double kLookAhead = 10;
  double length = static_cast<double>(match.size());
  for (size_t at = 0; at < match.size(); ++at) {
    const std::string_view rest = std::string_view(match).substr(at);
    if (rest.starts_with("(?=") || rest.starts_with("(?!")) length *= kLookAhead;
    if (rest[0] != '{') continue;
    double most = 1, number = 0;
    for (const char c : rest.substr(1)) {
      if (c != ',' && (c < '0' || c > '9')) break;
      number = c == ',' ? 0 : 10 * number + (c - '0');
      most = std::max(most, number);
    }
    length *= most;
  }
  return length;
}

// Expressions come from a file, and names are matched where no signal is heard. A matcher that goes back takes a time
// exponential in the length of the name, as for (.*)*x; this one follows all ways at once, and has no back-references.
std::regex compiled(const std::string& match) {
  if (match.size() > kLongest)
    refuse(cat("the expression has ", match.size(), " characters, more than ", kLongest), "more and shorter entries");
  if (const double length = written_out(match); length > kLongestOut)
    refuse(cat(in_quotes(match), " is an expression of ", length, " characters with its repetitions written out",
               match.find("(?") == std::string::npos ? "" : ", and ten for each that is looked ahead at",
               ", more than ", kLongestOut),
           "fewer repetitions: * and + are without a limit");
  try {
    return std::regex(match, std::regex::ECMAScript | std::regex::nosubs | std::regex_constants::__polynomial);
  } catch (const std::regex_error& e) {
    if (e.code() == std::regex_constants::error_complexity || e.code() == std::regex_constants::error_backref)
      refuse(cat(in_quotes(match), " has a back-reference, as \\1 is, and there are none here"),
             "what it stands for, written out, or more entries");
    refuse(cat(in_quotes(match), " is no regular expression: ", e.what()), kHint);
  }
}

// Which expression matches a name first; as many as there are: none.
class Matcher {
 public:
  explicit Matcher(const std::vector<ParameterGroups::Group>& groups) {
    for (const auto& g : groups) expressions_.push_back(compiled(g.match));
  }
  size_t operator()(std::string_view name) const {
    const auto matches = [&](const std::regex& e) { return std::regex_match(name.begin(), name.end(), e); };
    return static_cast<size_t>(std::ranges::find_if(expressions_, matches) - expressions_.begin());
  }

 private:
  std::vector<std::regex> expressions_;
};

// An entry as it is written.
struct Entry {
  std::string match;
  bool freeze = false;
  double lr_scale = 1;

  template <class V>
  void visit(V& v) {
    v("match", match, "regular expression for whole names");
    v("freeze", freeze, "1: not trained");
    v("lr_scale", lr_scale, "times the learning rate");
  }
};

ParameterGroups::Group group_of(const Setting& setting) {
  if (setting.kind != Setting::Kind::section) refuse("it is no section", kHint);
  std::vector<Setting> keys = setting.entries;
  for (Setting& key : keys) key.where.clear();  // whoever catches the message says where
  Entry e;
  try {
    apply_settings(keys, e);
  } catch (const Error& wrong) {
    refuse(wrong.what(), kHint);  // these keys are no options
  }
  const bool scaled = std::ranges::count(keys, "lr_scale", &Setting::path) > 0;
  if (e.match.empty()) refuse("there is no match", kHint);
  if (!e.freeze && !scaled) refuse("it says neither freeze: 1 nor lr_scale", kHint);
  if (e.freeze && scaled) refuse(cat("freeze: 1 and lr_scale ", e.lr_scale, ": what is frozen has no rate"), kHint);
  if (!(e.lr_scale > 0)) refuse(cat("lr_scale is ", e.lr_scale, " and must be above 0"), "freeze: 1");
  compiled(e.match);
  return {e.match, {e.freeze, e.lr_scale}};
}

std::vector<ParameterGroups::Group> groups_of(const Setting& s) {
  std::vector<ParameterGroups::Group> groups;
  for (const Setting& entry : s.entries) {
    try {
      groups.push_back(group_of(entry));
    } catch (const Error& e) {
      const std::string& where = entry.where.empty() ? s.where : entry.where;
      refuse(cat(where, where.empty() ? "" : ": ", s.path, ": entry ", groups.size() + 1, ": ", e.what()), e.hint());
    }
  }
  return groups;
}

std::string text_of(const ParameterGroups::Group& g) {
  char digits[32];
  const std::string scale(digits, std::to_chars(digits, digits + sizeof digits, g.tuning.lr_scale).ptr);
  return cat("{\"match\": ", in_quotes(g.match), ", ", g.tuning.frozen ? "\"freeze\": 1" : "\"lr_scale\": " + scale,
             "}");
}

}  // namespace

TuningRule ParameterGroups::rule() const {
  if (groups_.empty()) return {};
  return [groups = groups_, matcher = Matcher(groups_)](std::string_view name) {
    const size_t group = matcher(name);
    return group < groups.size() ? groups[group].tuning : Tuning();
  };
}

std::vector<int64_t> ParameterGroups::check(const std::vector<std::string>& names) const {
  const Matcher matcher(groups_);
  std::vector<int64_t> counts(groups_.size());
  int64_t frozen = 0;
  for (const std::string& name : names) {
    const size_t group = matcher(name);
    if (group == groups_.size()) continue;
    ++counts[group];
    frozen += groups_[group].tuning.frozen ? 1 : 0;
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > 0) continue;
    const std::regex alone = compiled(groups_[i].match);
    const bool taken = std::ranges::any_of(names, [&](const auto& name) { return std::regex_match(name, alone); });
    refuse(cat("train.groups: entry ", i + 1, ", ", in_quotes(groups_[i].match), ", ",
               taken ? "matches only parameters that entries before it match too, and the first one decides"
                     : cat("matches no parameter; there are ", names.size(), ", from ", names.front(), " to ",
                           names.back())),
           taken ? "it before those, or not at all" : "an expression for whole names, in which . is any character");
  }
  if (frozen == std::ssize(names))
    refuse(cat("train.groups freezes all ", names.size(), " parameters: there is nothing to train"), kHint);
  return counts;
}

std::string ParameterGroups::difference(const ParameterGroups& a, const ParameterGroups& b,
                                        const std::vector<std::string>& names) {
  const TuningRule one = a.rule(), other = b.rule();
  const auto frozen = [](const TuningRule& rule, const std::string& name) { return rule && rule(name).frozen; };
  const auto found =
      std::ranges::find_if(names, [&](const auto& name) { return frozen(one, name) != frozen(other, name); });
  return found == names.end() ? "" : *found;
}

void ParameterGroups::set(const Setting& s) {
  const auto wrong = [&] { refuse(cat(place(s), s.path, " must be a list of groups"), kHint); };
  if (s.kind == Setting::Kind::section) wrong();
  if (s.kind == Setting::Kind::list) {
    groups_ = groups_of(s);
  } else if (s.text.empty()) {
    groups_.clear();
  } else {
    if (!s.text.starts_with('[')) wrong();
    Setting list = parse_yaml_list(s.text, place(s) + s.path);
    list.path = s.path;
    list.where = s.where;
    groups_ = groups_of(list);
  }
}

std::string ParameterGroups::text() const {
  if (empty()) return "";
  std::vector<std::string> entries;
  for (const Group& g : groups_) entries.push_back(text_of(g));
  return "[" + joined(entries) + "]";
}

}  // namespace gf
