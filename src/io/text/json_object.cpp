// SPDX-License-Identifier: Apache-2.0
#include "io/text/json_object.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace gf {
namespace {

using Kind = JsonValue::Kind;

class Events final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Events(JsonObjectReader& reader) : reader_(reader) {}

  bool null() override { return tell({Kind::null}); }
  bool boolean(bool) override { return tell({Kind::boolean}); }
  bool number_integer(number_integer_t n) override { return tell({Kind::integer, n, static_cast<double>(n)}); }
  bool number_unsigned(number_unsigned_t n) override {
    if (n > INT64_MAX) return tell({Kind::real, 0, static_cast<double>(n), std::to_string(n)});
    return tell({Kind::integer, static_cast<int64_t>(n), static_cast<double>(n)});
  }
  bool number_float(number_float_t x, const string_t& written) override { return tell({Kind::real, 0, x, written}); }
  bool string(string_t& text) override { return tell({Kind::text, 0, 0, std::move(text)}); }
  bool binary(binary_t&) override { return true; }  // JSON has none
  bool start_object(size_t) override { return enter(Kind::object); }
  bool start_array(size_t) override { return enter(Kind::list); }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool key(string_t& name) override {
    if (depth_ == 1) reader_.key(name);
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    std::string_view what = e.what();  // [json.exception.parse_error.101] parse error at line 1, column 5: ...
    for (const std::string_view before : {"] ", "line 1, "})
      if (const size_t at = what.find(before); at != std::string_view::npos) what.remove_prefix(at + before.size());
    refuse("no JSON: " + parser_message(what));
  }

 private:
  bool tell(JsonValue v) {
    if (depth_ == 0 && v.kind != Kind::object) refuse(cat("a JSON object is wanted, and this is ", name_of(v.kind)));
    if (depth_ == 1) reader_.value(std::move(v));
    if (depth_ == 2 && in_list_) reader_.item(std::move(v));
    return true;
  }
  bool enter(Kind kind) {
    tell({kind});
    if (++depth_ > kDeepestJson) refuse(cat("it is nested deeper than ", kDeepestJson, " levels"));
    if (depth_ == 2) in_list_ = kind == Kind::list;
    return true;
  }

  JsonObjectReader& reader_;
  int depth_ = 0;
  bool in_list_ = false;  // at depth 2
};

}  // namespace

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::null:
      return "null";
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
    case Kind::real:
      return "a number";
    case Kind::text:
      return "text";
    case Kind::list:
      return "a list";
    case Kind::object:
      return "an object";
  }
  return "unknown";
}

std::string shown(const JsonValue& v) {
  if (v.kind == Kind::integer) return std::to_string(v.integer);
  if (v.kind == Kind::real) return shortened(v.text);
  return v.kind == Kind::text ? cited(v.text) : name_of(v.kind);
}

void read_json_object(std::string_view text, JsonObjectReader& reader) {
  Events events(reader);
  nlohmann::json::sax_parse(text.begin(), text.end(), &events);
}

}  // namespace gf
