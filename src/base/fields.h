// SPDX-License-Identifier: Apache-2.0
// Configuration structs without boilerplate. A struct lists each field once:
//     template <class V> void visit(V& v) { v("n_layer", n_layer, "layers"); v.section("rope", rope, "rotary ..."); }
// and FieldList turns that into plain data, from which the options, their help, YAML in and out and the error for an
// unknown key all follow (base/yaml.h, tools/train_command_line.h). What a value may be is up to the struct's owner.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace gf {

// A value that may be left to the program: empty means, and is written as, `auto`.
template <class T>
struct Auto : std::optional<T> {
  using std::optional<T>::optional;
};

// A section of a config; an optional one is a std::optional of a struct.
struct Section {
  std::vector<std::string> types;  // the __type__ names it goes by
  bool present = true;
  std::function<void(bool)> set_present;  // empty for a section that is always there
};

// One thing that a file or the command line sets.
struct Setting {
  enum class Kind { text, null, section, list };
  std::string path;
  Kind kind = Kind::text;
  std::string text{};
  std::string where{};             // "my.yaml:12"; empty for the command line
  std::vector<Setting> entries{};  // of a list, without paths; of a section in a list, its keys
};
std::string place(const Setting&);  // "my.yaml:12: ", to stand before a message

// A value with a syntax of its own, such as a list: a class with kType, its name in the help; set(const Setting&),
// which refuses what it cannot take; and text(), which set() takes for the same value. Where that begins with [, it is
// a YAML list.
struct OwnSyntax {
  const char* type;
  std::function<void(const Setting&)> set;
  std::function<std::string()> text;
};

using Target =
    std::variant<Section, int64_t*, double*, bool*, std::string*, Auto<int64_t>*, Auto<std::string>*, OwnSyntax>;

struct Field {
  std::string path;  // "model.rope.base"; empty for the whole
  std::string help;
  Target target;
};

// All fields and sections of a config, a section before its own fields. Holds pointers into the config. The fields of
// an absent section can be read, as their defaults, and writing them changes nothing.
class FieldList {
 public:
  template <class Config>
  explicit FieldList(Config& config) {
    fields_.push_back({"", "", Section{}});
    config.visit(*this);
  }
  FieldList(FieldList&&) = default;

  const std::vector<Field>& fields() const& { return fields_; }
  const std::vector<Field>& fields() && = delete;
  const Field* find(std::string_view path) const;
  // The known path that was most likely meant; empty where none is near.
  std::string nearest(std::string_view path) const;

  // What visit() calls.
  template <class T>
  void operator()(const char* name, T& value, const char* help) {
    if constexpr (requires { T::kType; })
      fields_.push_back(
          {prefix_ + name, help,
           OwnSyntax{T::kType, [&value](const Setting& s) { value.set(s); }, [&value] { return value.text(); }}});
    else
      fields_.push_back({prefix_ + name, help, Target(&value)});
  }
  template <class... Names>
  void type(Names... names) {
    std::get<Section>(fields_[section_].target).types = {names...};
  }
  template <class S>
  void section(const char* name, S& part, const char* help) {
    enter(name, help, Section{}, part);
  }
  template <class S>
  void section(const char* name, std::optional<S>& part, const char* help) {
    Section here{{}, part.has_value(), [&part](bool present) {
                   if (!present) part.reset();
                   if (present && !part) part.emplace();
                 }};
    if (part) return enter(name, help, std::move(here), *part);
    const auto defaults = std::make_shared<S>();
    kept_.push_back(defaults);
    enter(name, help, std::move(here), *defaults);
  }

 private:
  template <class S>
  void enter(const char* name, const char* help, Section section, S& part) {
    const auto outer = std::pair(prefix_, section_);
    section_ = fields_.size();
    fields_.push_back({prefix_ + name, help, std::move(section)});
    prefix_ += std::string(name) + ".";
    part.visit(*this);
    std::tie(prefix_, section_) = outer;
  }

  std::vector<Field> fields_;
  std::vector<std::shared_ptr<void>> kept_;  // defaults of absent sections
  std::string prefix_;
  size_t section_ = 0;
};

// Sets fields in the given order, later ones over earlier ones. A key under an absent section makes the section; null
// or `none` removes it. Refuses unknown keys and values that are not of the field's type. `list` is called again
// whenever a section comes or goes.
void apply_settings(std::span<const Setting> settings, const std::function<FieldList()>& list);

template <class Config>
void apply_settings(std::span<const Setting> settings, Config& config) {
  apply_settings(settings, [&] { return FieldList(config); });
}

// The value as text that apply_settings() takes for the same value: shortest digits, `auto`, 0 or 1. Empty for a
// section.
std::string value_text(const Field&);
// "int", "real", "0|1", "text", "int|auto", "text|auto", that of an own syntax; "section".
std::string type_name(const Field&);
// Of a kind that may be left to the program, and is.
bool is_auto(const Field&);
// Printable UTF-8: anything else could not be written to a config file and read back.
bool is_plain_text(std::string_view);

}  // namespace gf
