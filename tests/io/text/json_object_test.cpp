// SPDX-License-Identifier: Apache-2.0
#include "io/text/json_object.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace gf {
namespace {

class Told final : public JsonObjectReader {
 public:
  std::string all;
  void key(const std::string& name) override { all += " " + name; }
  void value(JsonValue v) override { all += "=" + shown(v); }
  void item(JsonValue v) override { all += "," + shown(v); }
};

std::string told(const std::string& text) {
  Told reader;
  read_json_object(text, reader);
  return reader.all;
}

TEST(JsonObject, TellsTheObjectsOwnValuesAndTheItemsOfItsLists) {
  EXPECT_EQ(told("{}"), "");
  EXPECT_EQ(told(R"({"a": null, "b": true, "c": "t\u00e4", "d": -5, "e": 2.50, "f": 1e3})"),
            " a=null b=a boolean c=\"t\u00e4\" d=-5 e=2.50 f=1e3");
  EXPECT_EQ(told(R"({"a": [], "b": [1, "x", [2, 3], {"c": 4}, null], "d": {"e": [5], "f": 6}, "g": 7})"),
            " a=a list b=a list,1,\"x\",a list,an object,null d=an object g=7");
}

TEST(JsonObject, IntegersAreThoseOf64Bits) {
  struct Numbers final : JsonObjectReader {
    std::vector<JsonValue> all;
    void key(const std::string&) override {}
    void value(JsonValue v) override { all.push_back(std::move(v)); }
  } reader;
  read_json_object(R"({"a": 9223372036854775807, "b": -9223372036854775808, "c": 9223372036854775808, "d": 2.0})",
                   reader);
  ASSERT_EQ(reader.all.size(), 4u);
  EXPECT_EQ(reader.all[0].integer, INT64_MAX);
  EXPECT_EQ(reader.all[1].integer, INT64_MIN);
  EXPECT_EQ(reader.all[1].real, -9223372036854775808.0);
  EXPECT_EQ(reader.all[2].kind, JsonValue::Kind::real);
  EXPECT_EQ(shown(reader.all[2]), "9223372036854775808");
  EXPECT_EQ(reader.all[3].kind, JsonValue::Kind::real);
}

TEST(JsonObject, WhatIsNoneIsRefused) {
  const auto refused = [](const std::string& text, const std::string& what) {
    expect_refused({what}, [&] { told(text); });
  };
  refused("", "no JSON: column 1: ");
  refused("{\"a\": 1", "no JSON: column 8: ");
  refused("{} {}", "no JSON: column 4: ");
  refused("{\"a\": 1e999}", "no JSON: number overflow");
  refused("{\"a\": \"\xff\"}", "no JSON");
  refused("[1]", "a JSON object is wanted, and this is a list");
  refused("17", "a JSON object is wanted, and this is a number");
}

TEST(JsonObject, DepthIsBounded) {
  const auto nested = [](size_t deep, const std::string& open, const std::string& close) {
    std::string text = "{\"a\":";
    for (size_t i = 0; i < deep; ++i) text += open;
    text += "1";
    for (size_t i = 0; i < deep; ++i) text += close;
    return text + "}";
  };
  EXPECT_EQ(told(nested(127, "[", "]")).substr(0, 9), " a=a list");
  EXPECT_EQ(told(nested(127, "{\"a\":", "}")), " a=an object");
  for (const size_t deep : {size_t{128}, size_t{1000000}}) {
    expect_refused({"nested deeper than 128 levels"}, [&] { told(nested(deep, "[", "]")); });
    expect_refused({"nested deeper than 128 levels"}, [&] { told(nested(deep, "{\"a\":", "}")); });
  }
}

}  // namespace
}  // namespace gf
