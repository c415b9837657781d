// SPDX-License-Identifier: Apache-2.0
#include "base/yaml.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace gf {
namespace {

std::string listed(const std::string& yaml) {
  std::string out;
  for (const Setting& s : parse_yaml(yaml, "f")) {
    const char* kinds[] = {"=", " null", " section", " list"};
    out += s.path + kinds[static_cast<int>(s.kind)] + s.text + " @" + s.where + "\n";
  }
  return out;
}

TEST(Yaml, ListsSettingsWithTheirLines) {
  EXPECT_EQ(listed("# c\nmodel:\n  rope: {base: 1e4}\n  alibi: {}\n  n: null\n\ntrain: {a: [1, {b: 2}], c: 'x y'}\n"),
            "model section @f:2\nmodel.rope section @f:3\nmodel.rope.base=1e4 @f:3\nmodel.alibi section @f:4\n"
            "model.n null @f:5\ntrain section @f:7\ntrain.a list @f:7\ntrain.c=x y @f:7\n");
}

std::string tree(const std::vector<Setting>& entries) {
  std::string out;
  for (const Setting& s : entries) {
    const char* kinds[] = {"", "null", "section", "list"};
    out += cat(" ", s.path, s.path.empty() ? "" : "=", kinds[static_cast<int>(s.kind)], s.text, "@", s.where);
    if (!s.entries.empty()) out += cat(" (", tree(s.entries), " )");
  }
  return out;
}

TEST(Yaml, AListHasItsEntries) {
  const auto all = parse_yaml("a:\n- 1\n- {b: 2, c: [x,\n  ~]}\n- [[], {}]\nd: e\n", "f");
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(tree(all),
            " a=list@f:1 ( 1@f:2 section@f:3 ( b=2@f:3 c=list@f:3 ( x@f:3 null@f:4 ) ) "
            "list@f:5 ( list@f:5 section@f:5 ) ) d=e@f:6");
}

TEST(Yaml, AListMayStandAlone) {
  EXPECT_EQ(tree({parse_yaml_list("[a, {b: 'c, d'}]", "--list")}), " list=list@ ( a@ section@ ( b=c, d@ ) )");
  for (const char* bad : {"[a", "a", "{a: b}", "", "[a]]", "[a] b", "[&x a, *x]", "[!t a]", "[{a: 1, a: 2}]"})
    expect_refused({"--list"}, [&] { parse_yaml_list(bad, "--list"); });
}

TEST(Yaml, JsonIsRead) {
  EXPECT_EQ(
      listed("{\n\t\"model\":{\"n_layer\":12,\"tmix\":\"x060\"},\n\t\"train\":{\"lr_init\":6e-4,\"x\":null}\n}\n"),
      "model section @f:2\nmodel.n_layer=12 @f:2\nmodel.tmix=x060 @f:2\n"
      "train section @f:3\ntrain.lr_init=6e-4 @f:3\ntrain.x null @f:3\n");
}

TEST(Yaml, AnEmptyFileSetsNothing) {
  for (const char* empty : {"", "\n\n", "# nothing\n", "---\n", "{}", "null"}) EXPECT_EQ(listed(empty), "") << empty;
}

TEST(Yaml, QuotedWordsAreText) {
  EXPECT_EQ(listed("a: 'null'\nb: \"~\"\n"), "a=null @f:1\nb=~ @f:2\n");
}

void refused(const std::string& yaml, const std::vector<std::string>& pieces) {
  expect_refused(pieces, [&] { parse_yaml(yaml, "my.yaml"); });
}

TEST(Yaml, BadFilesAreRefusedWithTheirLine) {
  refused("model:\n  a: 1\n  a: 2\n", {"my.yaml:3", "model.a", "twice"});
  refused("model: {a: 1}\nmodel: {b: 1}\n", {"my.yaml:2", "model", "twice"});
  refused("m.a: 1\nm: {a: 2}\n", {"my.yaml:2: m.a stands twice"});
  refused("m: {a: {b: 1}}\nm.a.b: 2\n", {"my.yaml:2: m.a.b stands twice"});
  refused("m: {a.b: 1,\n a: {b: 2}}\n", {"my.yaml:2: m.a.b stands twice"});
  refused("a: 1\nb: [1,\nc: 2\n", {"my.yaml:"});
  refused("a: b: c\n", {"my.yaml:1"});
  refused("a:\n\t- b\n", {"my.yaml:2"});
  refused("- 1\n- 2\n", {"my.yaml:1", "sections"});
  refused("just words\n", {"my.yaml:1", "sections"});
  refused("? {a: 1}\n: 2\n", {"my.yaml:1", "key"});
  refused("a: 1\n---\nb: 2\n", {"my.yaml", "more than one document"});
  refused("a: !!python/object:os.system x\n", {"my.yaml:1", "python/object"});
  refused("a: &x {b: 1}\nc: *x\n", {"my.yaml:2", "alias"});
  refused("a:\n- {b: 1,\n   b: 2}\n", {"my.yaml:3: b stands twice"});
  refused("a:\n- {m.b: 1,\n   m: {b: 2}}\n", {"my.yaml:3: b stands twice"});
  refused("a:\n- ? [1]\n  : 2\n", {"my.yaml:2", "key"});
}

TEST(Yaml, OtherKeysOfASectionMayStandElsewhere) {
  EXPECT_EQ(listed("m.a: 1\nm: {b: 2}\nm.c: {}\nm.c.d: 3\nb: 4\n"),
            "m.a=1 @f:1\nm section @f:2\nm.b=2 @f:2\nm.c section @f:3\nm.c.d=3 @f:4\nb=4 @f:5\n");
  EXPECT_EQ(tree(parse_yaml("l: [{a: 1}, {a: 1}, {b: [{a: 1}]}]", "f").at(0).entries),
            " section@f:1 ( a=1@f:1 ) section@f:1 ( a=1@f:1 ) section@f:1 ( b=list@f:1 ( section@f:1 ( a=1@f:1 ) ) )");
}

TEST(Yaml, HostileFilesAreBounded) {
  refused("a: &a {b: *a}\n", {"my.yaml:1"});
  std::string laughs = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 60; ++i) laughs += cat("a", i, ": &a", i, " [*a", i - 1, ", *a", i - 1, "]\n");
  refused(laughs, {"alias"});
  refused(std::string(100000, '['), {"my.yaml:1"});
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  refused(deep, {"levels deep"});
  refused(std::string((1 << 20) + 1, '#'), {"1048576"});
  refused(std::string("a: \0b", 5), {"not a text file"});
  refused(
      "\x7f"
      "ELF\x02\x01",
      {"not a text file"});
}

struct Part {
  std::string text;
  template <class V>
  void visit(V& v) {
    v("text", text, "");
  }
};
struct Mark {
  template <class V>
  void visit(V&) {}
};
struct Whole {
  Part part;
  double real = 0.1;
  std::optional<Part> other;
  std::optional<Mark> mark;
  template <class V>
  void visit(V& v) {
    v.section("part", part, "");
    v("real", real, "");
    v.section("other", other, "");
    v.section("mark", mark, "");
  }
};

std::string written(Whole w) {
  return write_yaml(FieldList(w));
}

TEST(Yaml, WrittenFilesReadBackToThemselves) {
  EXPECT_EQ(written({}), "part:\n  text: \"\"\nreal: 0.1\nother: null\nmark: null\n");
  for (const char* text : {"",
                           "x060",
                           "auto",
                           "null",
                           "~",
                           "None",
                           "true",
                           "No",
                           "1e5",
                           "0",
                           " a ",
                           "a: b",
                           "# c",
                           "a #b",
                           "\"q\"",
                           "back\\slash",
                           "'",
                           "- x",
                           "*a",
                           "&a",
                           "!t",
                           "{}",
                           "[",
                           "%",
                           "@",
                           "gr\xc3\xbc\xc3\x9f",
                           "data/mini-pile_1.0",
                           ".",
                           "-",
                           "yes",
                           "nan"}) {
    Whole w;
    w.part.text = text;
    w.other.emplace().text = text;
    w.mark.emplace();
    w.real = 1.0 / 3;
    Whole back;
    apply_settings(parse_yaml(written(w), "written"), back);
    EXPECT_EQ(back.part.text, text);
    EXPECT_EQ(back.other.value().text, text);
    EXPECT_EQ(back.real, w.real);
    EXPECT_EQ(written(back), written(w));
  }
}

TEST(Yaml, NullTakesAwayWhatAnEarlierFileHad) {
  Whole w;
  w.other.emplace();
  apply_settings(parse_yaml(written({}), "written"), w);
  EXPECT_FALSE(w.other.has_value());
}

}  // namespace
}  // namespace gf
