// SPDX-License-Identifier: Apache-2.0
// A JSON object that somebody else wrote, told value by value. No tree is made of it: of a line of small numbers that
// would take many times the line's memory, and of one that is nested deep enough more stack than there is, to print it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace gf {

inline constexpr int kDeepestJson = 128;  // levels; other readers take no more either, and no data has nearly as many

struct JsonValue {
  enum class Kind { null, boolean, integer, real, text, list, object };
  Kind kind = Kind::null;
  int64_t integer = 0;
  double real = 0;     // of an integer, too
  std::string text{};  // of a text; of a real number, as it is written
  bool is_number() const { return kind == Kind::integer || kind == Kind::real; }
};

const char* name_of(JsonValue::Kind);  // "a number", "text", "a list"
std::string shown(const JsonValue&);   // for messages: a number or text itself, of bearable length; of others the kind

// Who is told what stands in an object.
class JsonObjectReader {
 public:
  virtual ~JsonObjectReader() = default;
  virtual void key(const std::string&) = 0;  // of the object itself; its value is what comes next
  virtual void value(JsonValue) = 0;         // of a list or an object inside, that it is one
  virtual void item(JsonValue) {}            // in the list that the last value was
};

// Refuses, with what is wrong alone, a text that is not one JSON object or is nested deeper than that. What a reader
// throws ends it.
void read_json_object(std::string_view, JsonObjectReader&);

}  // namespace gf
