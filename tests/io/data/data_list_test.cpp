// SPDX-License-Identifier: Apache-2.0
#include "io/data/data_list.h"

#include <gtest/gtest.h>

#include "base/yaml.h"
#include "support/expect_error.h"

namespace gf {
namespace {

using Sources = std::vector<DataList::Source>;

struct Whole {
  DataList data;
  template <class V>
  void visit(V& v) {
    v("data", data, "");
  }
};

DataList in_file(const std::string& yaml) {
  Whole w;
  apply_settings(parse_yaml(yaml, "my.yaml"), w);
  return w.data;
}
DataList in_option(const std::string& text) {
  DataList list;
  list.set({.path = "train.data_file", .text = text});
  return list;
}

TEST(DataLists, OnePrefixIsTakenAsItIs) {
  for (const char* prefix : {"data/a", "a b", "a, b", "{a}", "a]", "\"a\"", "~", "gr\xc3\xbc\xc3\x9f"}) {
    EXPECT_EQ(in_option(prefix).sources(), (Sources{{{prefix}, 0}}));
    EXPECT_EQ(in_option(prefix).text(), prefix);
    EXPECT_TRUE(in_option(prefix).is_one_prefix());
  }
  EXPECT_TRUE(in_option("").empty());
  EXPECT_TRUE(in_file("data: null\n").empty());
  EXPECT_TRUE(in_file("data: ''\n").empty());
  EXPECT_EQ(in_file("data: data/a\n"), DataList("data/a"));
}

TEST(DataLists, AListIsReadAsOne) {
  const Sources want{{{"data/a", "b c", "d, e"}, 0}};
  for (const char* yaml :
       {"data: [data/a, b c, 'd, e']\n", "data:\n- data/a\n- b c\n- d, e\n", "data: '[data/a, b c, \"d, e\"]'\n",
        "data: [{prefix: data/a}, {prefix: [b c, \"d, e\"]}]\n", R"({"data": ["data/a", "b c", "d, e"]})"}) {
    EXPECT_EQ(in_file(yaml).sources(), want) << yaml;
    EXPECT_FALSE(in_file(yaml).weighted());
  }
  EXPECT_EQ(in_option("[data/a, b c, 'd, e']").sources(), want);
  EXPECT_EQ(in_option("[data/a, b c, 'd, e']").text(), R"(["data/a", "b c", "d, e"])");
  EXPECT_EQ(in_option("[data/a]"), DataList("data/a"));
}

TEST(DataLists, AListWithWeightsIsSeveralSources) {
  const Sources want{{{"a"}, 0.7}, {{"b", "c"}, 3e-7}};
  EXPECT_EQ(in_option("[{prefix: a, weight: 0.7}, {weight: 3e-7, prefix: [b, c]}]").sources(), want);
  EXPECT_EQ(
      in_file("data:\n  - prefix: a\n    weight: 0.7\n  - prefix:\n    - b\n    - c\n    weight: 3e-7\n").sources(),
      want);
  const DataList one = in_option("[{prefix: a, weight: 2}]");
  EXPECT_TRUE(one.weighted());
  EXPECT_FALSE(one.is_one_prefix());
  EXPECT_EQ(one.text(), R"([{"prefix": "a", "weight": 2}])");
}

TEST(DataLists, ReadBackToThemselves) {
  for (const char* text :
       {"", "data/a", "a, b", "[a]", "['[a']", "[a, b]", R"(["a\"b", 'c\d', "e: f # g", ' h', "{", "-"])",
        "[{prefix: a, weight: 0.1}, {prefix: [b, '[c]'], weight: 0.30000000000000004}]",
        "[{prefix: 'null', weight: 1e-5}, {prefix: '1', weight: 1e5}]"}) {
    const DataList list = in_option(text);
    EXPECT_EQ(in_option(list.text()), list) << text;
    Whole w{list};
    const std::string yaml = write_yaml(FieldList(w));
    EXPECT_EQ(in_file(yaml), list) << yaml;
  }
  // A prefix that looks like a list, given where no list is looked for.
  EXPECT_EQ(DataList("[a, b]").text(), R"(["[a, b]"])");
  EXPECT_EQ(in_option(DataList("[a, b]").text()), DataList("[a, b]"));
}

TEST(DataLists, WhatIsWrittenIsAlsoJson) {
  Whole w{in_option("[{prefix: 'a b', weight: 0.5}, {prefix: [c, d], weight: 1}]")};
  EXPECT_EQ(write_yaml(FieldList(w)),
            "data: [{\"prefix\": \"a b\", \"weight\": 0.5}, {\"prefix\": [\"c\", \"d\"], \"weight\": 1}]\n");
}

void refused(const std::string& list, const std::vector<std::string>& pieces) {
  std::vector<std::string> all = pieces;
  all.push_back("train.data_file");
  expect_refused(all, [&] { in_option(list); });
}

TEST(DataLists, RefuseWhatIsNoList) {
  refused("[]", {"empty list", "[PREFIX, PREFIX]"});
  refused("[a, b", {"train.data_file: ", "try: a list as in YAML"});
  refused("[a] b", {"train.data_file: "});
  refused("[&x a, *x]", {"alias"});
  refused("[a, !!x b]", {"tag"});
  refused("[a, '']", {"entry 2: a prefix is empty"});
  refused("[a, null]", {"entry 2: a prefix is empty"});
  refused("[a, [b]]", {"entry 2: a prefix is a list"});
  refused("a\nb", {"control characters"});
  refused("[a, \"b\\nc\"]", {"entry 2: a prefix is no text", "control characters"});
  expect_refused({"my.yaml:2: data is a section and must be a prefix or a list"},
                 [] { in_file("\ndata: {prefix: a}\n"); });
  expect_refused({"my.yaml:3: data: entry 2: a prefix is empty"}, [] { in_file("data:\n- a\n- ''\n- b\n"); });
  expect_refused({"my.yaml:1: data: ", "entry 1: a prefix is empty"}, [] { in_file("data: '[\"\"]'\n"); });
}

TEST(DataLists, RefuseWrongEntries) {
  refused("[a, {prefx: b}]", {"entry 2: there is no prefx; did you mean prefix?", "{prefix: PREFIX, weight: 0.7}"});
  refused("[{prefix: a, wieght: 0.3}]", {"entry 1: there is no wieght; did you mean weight?"});
  refused("[{prefix: a, prefix: b}]", {"prefix stands twice"});
  refused("[{weight: 0.3}]", {"entry 1: there is no prefix"});
  refused("[{prefix: [], weight: 0.3}]", {"entry 1: there is no prefix"});
  refused("[{prefix: {a: b}}]", {"entry 1", "a prefix is a section"});
  refused("[{prefix: [a, [b]]}]", {"entry 1", "a prefix is a list"});
  refused("[{prefix: a, weight: much}]", {"entry 1: weight is \"much\" and must be a real number"});
}

TEST(DataLists, RefuseWrongWeights) {
  refused("[{prefix: a, weight: 0}]", {"entry 1: the weight is 0 and must be above 0"});
  refused("[{prefix: a, weight: 1}, {prefix: b, weight: -2.5}]", {"entry 2: the weight is -2.5"});
  for (const char* bad : {"nan", ".nan", "inf", "1e999"})
    refused(cat("[{prefix: a, weight: ", bad, "}]"), {"entry 1: weight", bad, "a real number"});
  refused("[{prefix: a, weight: 0.7}, b]",
          {"entry 2: no weight, and entry 1 has weight 0.7", "either all have one, or none has"});
  refused("[a, {prefix: b, weight: 0.7}]", {"entry 2: weight 0.7, and entry 1 has no weight"});
}

TEST(DataLists, RefuseAPrefixTwice) {
  refused("[data/a, b, ./data//a]", {"entry 3: ./data//a is named by entry 1 already", "a weight says"});
  refused("[{prefix: a, weight: 1}, {prefix: [b, a], weight: 2}]", {"entry 2: a is named by entry 1 already"});
  refused("[{prefix: [a, a]}]", {"entry 1: a is named by entry 1 already"});
}

TEST(DataLists, RefuseMoreThanAConfigFileHolds) {
  std::string many;
  for (int i = 0; i < 4000; ++i) many += cat(i ? ", " : "[", "data/", std::string(100, 'x'), i);
  refused(many + "]", {"4000 files", "400000"});
}

TEST(DataLists, WeightsWhereTheyMeanNothing) {
  EXPECT_EQ(in_option("[a, b]").prefixes("--data"), (std::vector<std::string>{"a", "b"}));
  expect_refused({"--data has weights", "--data [PREFIX, PREFIX]"},
                 [] { in_option("[{prefix: a, weight: 1}]").prefixes("--data"); });
}

}  // namespace
}  // namespace gf
