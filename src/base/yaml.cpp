// SPDX-License-Identifier: Apache-2.0
#include "base/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace gf {
namespace {

constexpr size_t kMaxDepth = 8;

// Keys as a tree of their parts, in which model.tmix and the tmix of a section model are one.
class KeyTree {
 public:
  size_t section() { return add(true); }  // that has no key itself: a whole document, or an entry of a list
  size_t key(size_t section, std::string_view name) {
    // Of a name of more parts, which no key has, the rest is one.
    for (size_t parts = 1, dot = 0; parts < kMaxDepth && (dot = name.find('.')) != std::string_view::npos; ++parts) {
      section = part(section, name.substr(0, dot));
      name.remove_prefix(dot + 1);
    }
    return part(section, name);
  }
  // -> whether it was not given before.
  bool give(size_t key) {
    const bool first = !given_[key];
    given_[key] = true;
    return first;
  }

 private:
  size_t add(bool given) {
    given_.push_back(given);
    return given_.size() - 1;
  }
  size_t part(size_t section, std::string_view name) {
    const auto [at, is_new] = parts_.try_emplace({section, std::string(name)}, given_.size());
    return is_new ? add(false) : at->second;
  }
  std::map<std::pair<size_t, std::string>, size_t> parts_;
  std::vector<bool> given_;
};

// Listens to the parser's events instead of taking its tree: so each value has its line, a key given twice is seen, and
// no chain of aliases can unfold into more than stands in the file.
class Reader : public YAML::EventHandler {
 public:
  explicit Reader(std::string name) : name_(std::move(name)) {}
  std::vector<Setting> take() { return std::move(settings_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { value(mark, Setting::Kind::null, ""); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    wrong(mark, "an alias (*name), which is not supported here", "the value itself in its place");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& text) override {
    check_tag(mark, tag);
    value(mark, Setting::Kind::text, text);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    check_tag(mark, tag);
    Setting* const list = value(mark, Setting::Kind::list, "");
    push(mark, Level{.in_list = true, .entries = &list->entries});
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    check_tag(mark, tag);
    const bool top = levels_.empty(), listed = !top && levels_.back().entries;
    const std::string prefix = top || listed ? "" : levels_.back().path + ".";
    Setting* const section = value(mark, Setting::Kind::section, "");
    const size_t number = top || levels_.back().in_list ? keys_.section() : levels_.back().key;
    push(mark, Level{.prefix = prefix, .entries = listed ? &section->entries : nullptr, .section = number});
  }
  void OnSequenceEnd() override { levels_.pop_back(); }
  void OnMapEnd() override { levels_.pop_back(); }

 private:
  struct Level {
    std::string prefix{};
    bool in_list = false;
    // Where the values of a list, and of what is in it, go; they do not move while this level lasts. Null: settings_.
    std::vector<Setting>* entries = nullptr;
    bool has_key = false;
    std::string path{}, where{};  // of the key whose value comes next
    size_t section = 0, key = 0;  // of the tree: this one, and that key
  };

  [[noreturn]] void wrong(const YAML::Mark& mark, const std::string& what, const std::string& hint) const {
    refuse(name_.empty() ? what : cat(where(mark), ": ", what), hint);
  }
  std::string where(const YAML::Mark& mark) const { return name_.empty() ? "" : cat(name_, ":", mark.line + 1); }

  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!tag.empty() && tag != "?" && tag != "!") wrong(mark, "a tag, " + shortened(tag), "the value without it");
  }
  void push(const YAML::Mark& mark, Level level) {
    if (levels_.size() == kMaxDepth) wrong(mark, cat("more than ", kMaxDepth, " levels deep"), "--help lists all keys");
    levels_.push_back(std::move(level));
  }

  // A scalar, or the start of a map or list: a key where one is due, else the value of the last key. -> what was set.
  Setting* value(const YAML::Mark& mark, Setting::Kind kind, const std::string& text) {
    if (levels_.empty()) {
      if (kind == Setting::Kind::section || kind == Setting::Kind::null) return nullptr;
      wrong(mark, "a config file holds sections such as model: and train:", "configs/ has examples");
    }
    Level& level = levels_.back();
    std::vector<Setting>& settings = level.entries ? *level.entries : settings_;
    if (level.in_list) return &settings.emplace_back(Setting{"", kind, text, where(mark)});
    if (level.has_key) {
      level.has_key = false;
      return &settings.emplace_back(Setting{level.path, kind, text, level.where});
    }
    if (kind != Setting::Kind::text) wrong(mark, "a key that is not a word", "a key such as model:");
    level.path = level.prefix + text;
    level.where = where(mark);
    level.has_key = true;
    level.key = keys_.key(level.section, text);
    if (!keys_.give(level.key))
      wrong(mark, shortened(level.path) + " stands twice", "only one of them; a.b is the b of the section a");
    return nullptr;
  }

  std::string name_;
  std::vector<Level> levels_;
  std::vector<Setting> settings_;
  KeyTree keys_;
};

// What a YAML reader might take for something else than the text it is stands in quotes.
bool needs_quotes(const std::string& text) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '/' || c == '.' || c == '-'; };
  if (text.empty() || !std::all_of(text.begin(), text.end(), plain)) return true;
  if (!std::isalpha(static_cast<unsigned char>(text[0]))) return true;
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return std::isupper(c); }) || text == "null" ||
         text == "true" || text == "false" || text == "yes" || text == "no" || text == "on" || text == "off";
}

bool is_below(const Field& field, const std::string& section) {
  return section.empty() ? !field.path.empty() : field.path.starts_with(section + ".");
}

// Throws what is wrong with it as YAML, too.
std::vector<Setting> parse_document(const std::string& text, const std::string& name) {
  std::istringstream in(text);
  Reader reader(name), second(name);
  YAML::Parser parser(in);
  parser.HandleNextDocument(reader);
  if (parser.HandleNextDocument(second)) refuse(name + " holds more than one document", "a file for each");
  return reader.take();
}

}  // namespace

std::string in_quotes(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::vector<Setting> parse_yaml(const std::string& text, const std::string& name) {
  const auto control = [](unsigned char c) { return c < 0x20 && c != '\t' && c != '\n' && c != '\r'; };
  if (text.size() > kLongestYaml)
    refuse(cat(name, " is larger than ", kLongestYaml, " bytes, too large for a config file"));
  if (std::any_of(text.begin(), text.end(), control)) refuse(name + " is not a text file", "a YAML or JSON file");
  try {
    return parse_document(text, name);
  } catch (const YAML::Exception& e) {
    refuse(cat(name, ":", e.mark.line + 1, ": ", parser_message(e.msg)), "a YAML or JSON file like those in configs/");
  }
}

Setting parse_yaml_list(const std::string& text, const std::string& what) {
  const std::string hint =
      "a list as in YAML: [a, b], with names in quotes that have other than letters, digits and ./-_";
  std::vector<Setting> all;
  try {
    all = parse_document("list: " + text, "");
  } catch (const YAML::Exception& e) {
    refuse(cat(what, ": ", parser_message(e.msg)), hint);
  } catch (const Error& e) {
    refuse(cat(what, ": ", e.what()), hint);
  }
  if (all.size() != 1 || all[0].kind != Setting::Kind::list) refuse(what + " is no list", hint);
  return std::move(all[0]);
}

std::string write_yaml(const FieldList& list, const std::map<std::string, std::string>& notes) {
  std::string out, absent;  // absent: the section whose fields are left out
  for (const Field& field : list.fields()) {
    if (field.path.empty() || (!absent.empty() && is_below(field, absent))) continue;
    const auto dots = std::count(field.path.begin(), field.path.end(), '.');
    out += std::string(static_cast<size_t>(2 * dots), ' ') + field.path.substr(field.path.rfind('.') + 1) + ":";
    if (const auto* section = std::get_if<Section>(&field.target)) {
      const Field* next = &field + 1;
      const bool empty = next == list.fields().data() + list.fields().size() || !is_below(*next, field.path);
      if (!section->present) absent = field.path;
      out += !section->present ? " null" : empty ? " {}" : "";
    } else {
      const bool own = std::holds_alternative<OwnSyntax>(field.target);
      const std::string value = value_text(field);
      const bool text = own ? !value.starts_with('[') : type_name(field).starts_with("text");
      out += " " + (text && needs_quotes(value) ? in_quotes(value) : value);
    }
    if (const auto note = notes.find(field.path); note != notes.end()) out += "  # " + note->second;
    out += "\n";
  }
  return out;
}

}  // namespace gf
