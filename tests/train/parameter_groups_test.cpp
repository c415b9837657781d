// SPDX-License-Identifier: Apache-2.0
#include "train/parameter_groups.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "base/yaml.h"
#include "support/expect_error.h"

namespace gf {
namespace {

struct Whole {
  ParameterGroups groups;
  template <class V>
  void visit(V& v) {
    v("groups", groups, "");
  }
};

ParameterGroups in_file(const std::string& yaml) {
  Whole w;
  apply_settings(parse_yaml(yaml, "my.yaml"), w);
  return w.groups;
}
ParameterGroups in_option(const std::string& text) {
  ParameterGroups groups;
  groups.set({.path = "train.groups", .text = text});
  return groups;
}

const std::vector<std::string> kNames{"emb.weight", "blocks.0.att.key.weight", "blocks.1.att.key.weight",
                                      "blocks.10.att.key.weight", "head.weight"};

TEST(ParameterGroups, TheFirstEntryThatMatchesAWholeNameDecides) {
  const ParameterGroups groups = in_file(R"(groups:
- {match: 'blocks\.[01]\..*', freeze: true}
- match: "blocks.*"
  lr_scale: 0.1
)");
  const TuningRule rule = groups.rule();
  EXPECT_TRUE(rule("blocks.0.att.key.weight").frozen);
  EXPECT_TRUE(rule("blocks.1.att.key.weight").frozen);
  EXPECT_FALSE(rule("blocks.10.att.key.weight").frozen) << "the point is a point";
  EXPECT_EQ(rule("blocks.10.att.key.weight").lr_scale, 0.1);
  EXPECT_EQ(rule("emb.weight").lr_scale, 1);
  EXPECT_FALSE(rule("emb.weight").frozen);
  EXPECT_EQ(groups.check(kNames), (std::vector<int64_t>{2, 1}));
  EXPECT_FALSE(in_option("[{match: emb, lr_scale: 2}]").rule()("emb.weight").lr_scale == 2) << "not the whole name";
}

TEST(ParameterGroups, ReadBackToThemselves) {
  for (const char* text :
       {"", R"([{"match": "blocks\\.[0-7]\\..*", "freeze": 1}, {"match": ".*\"x", "lr_scale": 1e-07}])"}) {
    Whole w;
    w.groups = in_option(text);
    EXPECT_EQ(w.groups.text(), text);
    Whole again;
    apply_settings(parse_yaml(write_yaml(FieldList(w)), "written"), again);
    EXPECT_EQ(again.groups.text(), text);
  }
  EXPECT_TRUE(in_file("groups: null\n").empty());
  EXPECT_TRUE(in_file("groups: []\n").empty());
  EXPECT_FALSE(in_option("").rule());
}

TEST(ParameterGroups, WhatCannotBeIsRefused) {
  const auto refused = [](const std::string& entry, const std::vector<std::string>& pieces) {
    expect_refused(pieces, [&] { in_file("groups:\n- {match: a, lr_scale: 1}\n- " + entry + "\n"); });
  };
  refused("{freeze: 1}", {"my.yaml:3", "groups", "entry 2", "no match"});
  refused("{match: b}", {"entry 2", "neither freeze: 1 nor lr_scale"});
  refused("{match: b, freeze: 0}", {"neither"});
  refused("{match: b, freeze: 1, lr_scale: 0.5}", {"freeze: 1", "0.5", "no rate"});
  refused("{match: b, lr_scale: 0}", {"lr_scale is 0", "above 0", "freeze: 1"});
  refused("{match: b, lr_scale: -1}", {"lr_scale is -1"});
  const std::string hint = "[try: [{match: ";  // an entry's keys are no options, to be given by themselves
  for (const char* bad : {"inf", ".nan", "1e999", "fast", "[1]"})
    refused(cat("{match: b, lr_scale: ", bad, "}"), {"entry 2: lr_scale is ", "must be a real number", hint});
  refused("{match: b, freeze: 2}", {"freeze is \"2\" and must be 0 or 1", hint});
  refused("{match: b, lr_scael: 1}", {"lr_scael", "lr_scale", hint});
  refused("{match: '(', lr_scale: 1}", {"\"(\"", "no regular expression"});
  refused("{match: " + std::string(2000, 'a') + ", lr_scale: 1}", {"2000 characters", "1000"});
  refused("b", {"entry 2", "section"});
  expect_refused({"train.groups", "list"}, [] { in_option("blocks.*"); });
  expect_refused({"groups", "list"}, [] { in_file("groups: {match: a, freeze: 1}\n"); });
}

// A matcher that goes back tries 2^n ways through a name of n characters.
TEST(ParameterGroups, AnExpressionIsMatchedInBoundedTime) {
  const std::vector<std::string> names{"blocks.10.att.time_maa_rkvw_w1.weight", std::string(100, 'a')};
  for (const char* match : {"(.*)*x", "((a|.)*)*x", "(?=(.*)*x).*"})
    expect_refused({"entry 1", "matches no parameter"}, [&] {
      in_option(cat("[{match: '", match, "', freeze: 1}, {match: '.*', lr_scale: 1}]")).check(names);
    });
  const auto refused = [](const std::string& match, const std::vector<std::string>& pieces) {
    expect_refused(pieces, [&] { in_option(cat("[{match: '", match, "', freeze: 1}]")); });
  };
  refused("(a)\\1", {"entry 1", "back-reference"});
  refused("\\1", {"back-reference"});
  refused("(a?){30000}", {"entry 1", "330000 characters with its repetitions written out", "more than 10000"});
  refused("((a{1,100}){100}){100}", {"more than 10000"});
  refused("(?=.*(?=.*(?=.*(?!.*x)))).*", {"looked ahead", "more than 10000"});
}

// As other programs understand them.
TEST(ParameterGroups, ExpressionsAreThoseOfECMAScript) {
  const auto matching = [](const std::string& match) {
    const TuningRule rule = in_option(cat("[{match: '", match, "', freeze: 1}]")).rule();
    std::vector<std::string> names;
    for (const std::string& name : kNames)
      if (rule(name).frozen) names.push_back(name.substr(0, name.find(".att")));
    return joined(names);
  };
  EXPECT_EQ(matching("emb\\..*|blocks\\.[0-7]\\..*"), "emb.weight, blocks.0, blocks.1");
  EXPECT_EQ(matching("blocks\\.(8|9|10|11)\\..*"), "blocks.10");
  EXPECT_EQ(matching("emb\\..*|blocks\\.([0-9]|1[0-9]|2[0-2])\\..*"), "emb.weight, blocks.0, blocks.1, blocks.10");
  EXPECT_EQ(matching("blocks.[0-7].*"), "blocks.0, blocks.1, blocks.10");
  EXPECT_EQ(matching("(?!blocks|head).*"), "emb.weight");
  EXPECT_EQ(matching("blocks\\.\\d{2}\\..*?\\bkey\\.(?:weight|bias)"), "blocks.10");
}

TEST(ParameterGroups, EachMustDecideAboutSomething) {
  expect_refused({"entry 2", "\"blocks\\\\.2.*\"", "matches no parameter", "emb.weight", "head.weight"},
                 [] { in_option("[{match: 'emb.*', freeze: 1}, {match: 'blocks\\.2.*', freeze: 1}]").check(kNames); });
  expect_refused({"entry 2", "the first one decides"},
                 [] { in_option("[{match: '.*', lr_scale: 2}, {match: 'emb.*', freeze: 1}]").check(kNames); });
  expect_refused({"freezes all 5 parameters"}, [] { in_option("[{match: '.*', freeze: 1}]").check(kNames); });
}

TEST(ParameterGroups, OnlyWhatIsFrozenMakesADifference) {
  const ParameterGroups none, slow = in_option("[{match: '.*', lr_scale: 0.5}]"),
                              frozen = in_option("[{match: 'blocks\\.1\\..*', freeze: 1}]");
  EXPECT_EQ(ParameterGroups::difference(none, slow, kNames), "");
  EXPECT_EQ(ParameterGroups::difference(none, frozen, kNames), "blocks.1.att.key.weight");
  EXPECT_EQ(ParameterGroups::difference(frozen, frozen, kNames), "");
}

}  // namespace
}  // namespace gf
