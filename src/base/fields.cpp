// SPDX-License-Identifier: Apache-2.0
#include "base/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/text.h"

namespace gf {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;  // clang 14 cannot tell

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

bool is_none(std::string_view text) {
  return is_one_of(text, {"none", "None", "null", "~", "false", "False"});
}

// parse(): false, and nothing changed, where the text is not of the type.
bool parse(std::string_view text, double& out) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return false;
  return out = value, true;
}

// 12, and also 12.0 and 1e3.
bool parse(std::string_view text, int64_t& out) {
  if (text.starts_with('+')) text.remove_prefix(1);
  int64_t value;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size()) return out = value, true;
  constexpr double kExact = int64_t{1} << 53;
  double real;
  if (!parse(text, real) || std::abs(real) > kExact || real != std::trunc(real)) return false;
  return out = static_cast<int64_t>(real), true;
}

bool parse(std::string_view text, bool& out) {
  const bool yes = is_one_of(text, {"1", "true", "True"});
  if (!yes && !is_one_of(text, {"0", "false", "False"})) return false;
  return out = yes, true;
}

bool parse(std::string_view text, std::string& out) {
  if (!is_plain_text(text)) return false;
  return out = text, true;
}

template <class T>
bool parse(std::string_view text, Auto<T>& out) {
  if (is_one_of(text, {"auto", "none", "None"})) return out.reset(), true;
  T value;
  return parse(text, value) && (out.emplace(std::move(value)), true);
}

// Where null stands for a value: no text, or left to the program.
bool parse_null(std::string& out) {
  return out.clear(), true;
}
template <class T>
bool parse_null(Auto<T>& out) {
  return out.reset(), true;
}
template <class T>
bool parse_null(T&) {
  return false;
}

std::string expected(const Field& field) {
  const std::string type = type_name(field);
  if (type == "int") return "a whole number";
  if (type == "real") return "a real number";
  if (type == "0|1") return "0 or 1";
  if (type == "int|auto") return "a whole number or auto";
  return "text in UTF-8 without control characters";
}

std::string shown(const Setting& s) {
  switch (s.kind) {
    case Setting::Kind::null:
      return "empty";
    case Setting::Kind::section:
      return "a section";
    case Setting::Kind::list:
      return "a list";
    case Setting::Kind::text:
      break;
  }
  return cited(s.text);
}

void set_value(const Field& field, const Setting& s) {
  const auto set =
      Overloaded{[](const Section&) { return false; }, [&](const OwnSyntax& own) { return own.set(s), true; },
                 [&](auto* target) {
                   if (s.kind == Setting::Kind::null) return parse_null(*target);
                   return s.kind == Setting::Kind::text && parse(s.text, *target);
                 }};
  if (!std::visit(set, field.target)) {
    refuse(cat(place(s), s.path, " is ", shown(s), " and must be ", expected(field)),
           cat("--", s.path, " ", value_text(field).empty() ? "..." : value_text(field)));
  }
}

// True where the section came or went.
bool set_section(const Section& section, const Setting& s) {
  const bool on = s.kind == Setting::Kind::section || is_one_of(s.text, {"on", "{}", "true", "True"});
  const bool off = s.kind == Setting::Kind::null || is_none(s.text);
  if (s.kind == Setting::Kind::list || (s.kind == Setting::Kind::text && !section.set_present) || on == off) {
    refuse(cat(place(s), s.path, " is ", shown(s), " and must be a section",
               section.set_present ? " ({} for its defaults) or none" : ""),
           "--help lists its keys");
  }
  if (!section.set_present || section.present == on) return false;
  section.set_present(on);
  return true;
}

void check_type(const FieldList& list, const Setting& s) {
  const size_t end = s.path.rfind('.');
  const Field* field = list.find(end == std::string::npos ? "" : s.path.substr(0, end));
  if (!field) return;  // the section itself is unknown, and the next setting says so
  const auto* section = std::get_if<Section>(&field->target);
  const std::vector<std::string> types = section ? section->types : std::vector<std::string>{};
  if (s.kind == Setting::Kind::text && std::find(types.begin(), types.end(), s.text) != types.end()) return;
  refuse(cat(place(s), s.path, " is ", shown(s),
             ", and the types known there are: ", types.empty() ? "none" : joined(types)));
}

void refuse_unknown(const FieldList& list, const Setting& s) {
  const std::string meant = list.nearest(s.path);
  std::string what = place(s) + "there is no " + shortened(s.path, 80);
  if (!meant.empty()) what += "; did you mean " + meant + "?";
  refuse(what, "--help lists all keys");
}

// Makes the absent sections above a path; true where there were any.
bool open_sections(const FieldList& list, const std::string& path) {
  for (const Field& field : list.fields()) {
    const auto* section = std::get_if<Section>(&field.target);
    if (section && !section->present && path.starts_with(field.path + ".")) return section->set_present(true), true;
  }
  return false;
}

// Edit distance with transpositions of neighbours.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string_view last_part(std::string_view path) {
  return path.substr(path.rfind('.') + 1);
}

}  // namespace

std::string place(const Setting& s) {
  return s.where.empty() ? "" : s.where + ": ";
}

bool is_plain_text(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i++]);
    if (c < 0x20 || c == 0x7f || (c >= 0x80 && (c < 0xc2 || c > 0xf4))) return false;
    // Of the second byte: less would be longer than it need be, more a surrogate or beyond the last character.
    unsigned least = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, most = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    for (int more = (c >= 0xc2) + (c >= 0xe0) + (c >= 0xf0); more > 0; --more, ++i) {
      const unsigned next = i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
      if (next < least || next > most) return false;
      least = 0x80, most = 0xbf;
    }
  }
  return true;
}

const Field* FieldList::find(std::string_view path) const {
  const auto at = std::find_if(fields_.begin(), fields_.end(), [&](const Field& f) { return f.path == path; });
  return at == fields_.end() ? nullptr : &*at;
}

std::string FieldList::nearest(std::string_view path) const {
  if (path.size() > 80) return "";
  size_t best = 2 + last_part(path).size() / 4;
  std::string name;
  for (const Field& field : fields_) {
    if (field.path.empty()) continue;
    // The right name in another section counts as one mistake, whatever the sections are called.
    const size_t d = std::min(distance(path, field.path), 1 + distance(last_part(path), last_part(field.path)));
    if (d < best) best = d, name = field.path;
  }
  return name;
}

void apply_settings(std::span<const Setting> settings, const std::function<FieldList()>& relist) {
  auto list = std::make_unique<FieldList>(relist());
  const auto renew = [&] { list = std::make_unique<FieldList>(relist()); };
  for (const Setting& s : settings) {
    if (last_part(s.path) == "__type__") {
      check_type(*list, s);
      continue;
    }
    if (s.path.empty() || !list->find(s.path)) refuse_unknown(*list, s);
    while (open_sections(*list, s.path)) renew();
    const Field& field = *list->find(s.path);
    if (const auto* section = std::get_if<Section>(&field.target)) {
      if (set_section(*section, s)) renew();
    } else {
      set_value(field, s);
    }
  }
}

std::string value_text(const Field& field) {
  const auto number = [](auto value) {
    char digits[32];
    return std::string(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  };
  return std::visit(
      Overloaded{[](const Section&) { return std::string(); }, [](const OwnSyntax& own) { return own.text(); },
                 [&](const bool* v) { return std::string(*v ? "1" : "0"); }, [](const std::string* v) { return *v; },
                 [](const Auto<std::string>* v) { return v->value_or("auto"); },
                 [&](const Auto<int64_t>* v) { return *v ? number(**v) : "auto"; },
                 [&](const auto* v) { return number(*v); }},
      field.target);
}

bool is_auto(const Field& field) {
  const auto* number = std::get_if<Auto<int64_t>*>(&field.target);
  const auto* text = std::get_if<Auto<std::string>*>(&field.target);
  return (number && !**number) || (text && !**text);
}

std::string type_name(const Field& field) {
  constexpr const char* kNames[] = {"section", "int", "real", "0|1", "text", "int|auto", "text|auto"};
  static_assert(std::size(kNames) + 1 == std::variant_size_v<Target>);
  if (const auto* own = std::get_if<OwnSyntax>(&field.target)) return own->type;
  return kNames[field.target.index()];
}

}  // namespace gf
