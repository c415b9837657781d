// SPDX-License-Identifier: Apache-2.0
#include "base/fields.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace gf {
namespace {

struct Turn {
  double base = 10;
  template <class V>
  void visit(V& v) {
    v.type("Turn_Type");
    v("base", base, "base");
  }
};

// A syntax of its own: words with - between them.
struct Words {
  static constexpr const char* kType = "words";
  std::string joined;
  void set(const Setting& s) {
    if (s.kind != Setting::Kind::list) refuse(place(s) + s.path + " is no list of words");
    joined.clear();
    for (const Setting& entry : s.entries) joined += (joined.empty() ? "" : "-") + entry.text;
  }
  std::string text() const { return "[" + joined + "]"; }
};

struct Inner {
  int64_t dim = 768;
  double rate = 6e-4;
  bool flag = false;
  std::string name = "x";
  Auto<int64_t> count;
  Auto<std::string> device;
  std::optional<Turn> turn;
  Words words;
  template <class V>
  void visit(V& v) {
    v.type("Inner_Type", "Wide_Type");
    v("dim", dim, "width");
    v("rate", rate, "rate");
    v("flag", flag, "flag");
    v("name", name, "name");
    v("count", count, "count");
    v("device", device, "device");
    v.section("turn", turn, "turning");
    v("words", words, "words");
  }
};

struct Whole {
  Inner inner;
  template <class V>
  void visit(V& v) {
    v.section("inner", inner, "inner part");
  }
};

Setting text(const std::string& path, const std::string& value) {
  return {.path = path, .kind = Setting::Kind::text, .text = value, .where = "a.yaml:7"};
}
Setting of_kind(const std::string& path, Setting::Kind kind) {
  return {.path = path, .kind = kind, .where = "a.yaml:7"};
}

Whole applied(const std::vector<Setting>& settings) {
  Whole w;
  apply_settings(settings, w);
  return w;
}

TEST(Fields, ListsSectionsBeforeTheirFieldsAbsentOnesToo) {
  Whole w;
  const FieldList list(w);
  std::vector<std::string> paths;
  for (const Field& f : list.fields()) paths.push_back(f.path);
  EXPECT_EQ(paths,
            (std::vector<std::string>{"", "inner", "inner.dim", "inner.rate", "inner.flag", "inner.name", "inner.count",
                                      "inner.device", "inner.turn", "inner.turn.base", "inner.words"}));
}

TEST(Fields, SetsEachType) {
  const Inner i = applied({text("inner.dim", "-12"), text("inner.rate", "1e-08"), text("inner.flag", "True"),
                           text("inner.name", "0"), text("inner.count", "3"), text("inner.device", "gpu")})
                      .inner;
  EXPECT_EQ(i.dim, -12);
  EXPECT_EQ(i.rate, 1e-8);
  EXPECT_TRUE(i.flag);
  EXPECT_EQ(i.name, "0");
  EXPECT_EQ(i.count.value_or(0), 3);
  EXPECT_EQ(i.device.value_or(""), "gpu");
}

TEST(Fields, WholeNumbersMayBeWrittenAsReals) {
  EXPECT_EQ(applied({text("inner.dim", "12.0")}).inner.dim, 12);
  EXPECT_EQ(applied({text("inner.dim", "1e3")}).inner.dim, 1000);
  EXPECT_EQ(applied({text("inner.dim", "+9223372036854775807")}).inner.dim, INT64_MAX);
  for (const char* bad : {"12.5", "1e30", "9223372036854775808", "12 ", "0x10", "", "twelve", "nan"}) {
    expect_refused({"a.yaml:7", "inner.dim", bad, "whole number"}, [&] { applied({text("inner.dim", bad)}); });
  }
}

TEST(Fields, RealsAreFinite) {
  for (const char* bad : {"inf", ".inf", "nan", "1e999", "1,5", "6e", "fast"}) {
    expect_refused({"inner.rate", bad, "a real number", "--inner.rate 6e-04"},
                   [&] { applied({text("inner.rate", bad)}); });
  }
}

TEST(Fields, FlagsAndTextAreChecked) {
  expect_refused({"inner.flag", "\"2\"", "0 or 1"}, [] { applied({text("inner.flag", "2")}); });
  expect_refused({"inner.name", "a?b", "control characters"}, [] { applied({text("inner.name", "a\nb")}); });
  expect_refused({"inner.name", "UTF-8"}, [] { applied({text("inner.name", "\xff")}); });
  EXPECT_EQ(applied({text("inner.name", "gr\xc3\xbc\xc3\x9f")}).inner.name, "gr\xc3\xbc\xc3\x9f");
  // Surrogates, what is longer than it need be, what is beyond the last character; and the last of each kind.
  for (const char* bad :
       {"\xed\xa0\x80", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xe2\x82", "\xe2\x82z"})
    expect_refused({"inner.name", "UTF-8"}, [&] { applied({text("inner.name", bad)}); });
  for (const char* good : {"\xed\x9f\xbf", "\xe0\xa0\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xee\x80\x80"})
    EXPECT_EQ(applied({text("inner.name", good)}).inner.name, good);
  expect_refused({"inner.name", "a list"}, [] { applied({of_kind("inner.name", Setting::Kind::list)}); });
  expect_refused({"inner.dim", "empty"}, [] { applied({of_kind("inner.dim", Setting::Kind::null)}); });
}

TEST(Fields, AutoAndNullLeaveAValueToTheProgram) {
  for (const auto& leave :
       {text("inner.count", "auto"), text("inner.count", "None"), of_kind("inner.count", Setting::Kind::null)}) {
    EXPECT_FALSE(applied({text("inner.count", "3"), leave}).inner.count.has_value());
  }
  EXPECT_EQ(applied({of_kind("inner.name", Setting::Kind::null)}).inner.name, "");
}

TEST(Fields, SomeAreLeftToTheProgram) {
  Whole w;
  const auto all = [&] {
    std::string text;
    const FieldList list(w);
    for (const Field& field : list.fields())
      if (is_auto(field)) text += field.path + " ";
    return text;
  };
  EXPECT_EQ(all(), "inner.count inner.device ");
  w.inner.count.emplace(0);
  w.inner.name = "auto";
  EXPECT_EQ(all(), "inner.device ");
  w.inner.device.emplace("auto");
  EXPECT_EQ(all(), "");
}

TEST(Fields, LaterSettingsWin) {
  EXPECT_EQ(applied({text("inner.dim", "1"), text("inner.dim", "2")}).inner.dim, 2);
}

TEST(Fields, OptionalSectionsComeAndGo) {
  EXPECT_FALSE(applied({}).inner.turn.has_value());
  EXPECT_EQ(applied({of_kind("inner.turn", Setting::Kind::section)}).inner.turn.value().base, 10);
  EXPECT_EQ(applied({text("inner.turn", "{}")}).inner.turn.value().base, 10);
  EXPECT_EQ(applied({text("inner.turn.base", "5")}).inner.turn.value().base, 5);
  EXPECT_FALSE(applied({text("inner.turn.base", "5"), of_kind("inner.turn", Setting::Kind::null)}).inner.turn);
  EXPECT_FALSE(applied({text("inner.turn.base", "5"), text("inner.turn", "none")}).inner.turn);
  // Made again, it has its defaults; kept, what it had.
  EXPECT_EQ(
      applied({text("inner.turn.base", "5"), text("inner.turn", "none"), text("inner.turn", "on")}).inner.turn->base,
      10);
  EXPECT_EQ(applied({text("inner.turn.base", "5"), text("inner.turn", "on")}).inner.turn->base, 5);
  expect_refused({"inner.turn", "10000", "section"}, [] { applied({text("inner.turn", "10000")}); });
  expect_refused({"inner", "none", "section"}, [] { applied({text("inner", "none")}); });
}

TEST(Fields, AValueMayHaveASyntaxOfItsOwn) {
  Setting list = of_kind("inner.words", Setting::Kind::list);
  list.entries = {{.path = "", .text = "a"}, {.path = "", .text = "b"}};
  Whole w = applied({list});
  EXPECT_EQ(w.inner.words.joined, "a-b");
  const FieldList fields(w);
  EXPECT_EQ(value_text(*fields.find("inner.words")), "[a-b]");
  EXPECT_EQ(type_name(*fields.find("inner.words")), "words");
  expect_refused({"a.yaml:7: inner.words is no list"}, [] { applied({text("inner.words", "a")}); });
}

TEST(Fields, TypeNamesAreChecked) {
  EXPECT_EQ(applied({text("inner.__type__", "Wide_Type"), text("inner.dim", "1")}).inner.dim, 1);
  expect_refused({"os.system", "Inner_Type, Wide_Type"}, [] { applied({text("inner.__type__", "os.system")}); });
  expect_refused({"Inner_Type", "Turn_Type"}, [] { applied({text("inner.turn.__type__", "Inner_Type")}); });
  expect_refused({"Inner_Type", "none"}, [] { applied({text("__type__", "Inner_Type")}); });
}

TEST(Fields, UnknownKeysNameTheNearest) {
  const auto unknown = [](const std::string& path, const char* meant) {
    expect_refused({"a.yaml:7: there is no", path.c_str(), meant}, [&] { applied({text(path, "1")}); });
  };
  unknown("inner.dmi", "did you mean inner.dim?");
  unknown("innner.rate", "did you mean inner.rate?");
  unknown("count", "did you mean inner.count?");
  unknown("inner.base", "did you mean inner.turn.base?");
  unknown("inner.trun", "did you mean inner.turn?");
  unknown("inner.dim.more", "there is no inner.dim.more");
  Whole w;
  EXPECT_EQ(FieldList(w).nearest("inner.something_else_entirely"), "");
  EXPECT_EQ(FieldList(w).nearest(std::string(1 << 20, 'x')), "");
}

TEST(Fields, ValuesAreWrittenWithTheFewestDigitsThatReadBack) {
  Whole w;
  w.inner.rate = 0.1 + 0.2;
  const auto written = [&](const char* path) { return value_text(*FieldList(w).find(path)); };
  EXPECT_EQ(written("inner.rate"), "0.30000000000000004");
  EXPECT_EQ(written("inner.dim"), "768");
  EXPECT_EQ(written("inner.flag"), "0");
  EXPECT_EQ(written("inner.count"), "auto");
  EXPECT_EQ(applied({text("inner.rate", written("inner.rate"))}).inner.rate, 0.1 + 0.2);
}

}  // namespace
}  // namespace gf
