// SPDX-License-Identifier: Apache-2.0
// Training where a mask says which tokens count: the loss is the mean over these in the whole step, on any ranks, over
// any list of files, after any stop; and what of a mask is refused. That its values are right, the golden cases show.
#include "base/error.h"
#include "base/random.h"
#include "end_to_end/many_ranks.h"
#include "support/files.h"

namespace gf {
namespace {

class Masks : public ManyRanks {
 protected:
  Masks() {
    options_["train.loss_mask"] = "1";
    mark(data(), marks(3000, 0.3));
  }
  std::string data() const { return options_.at("train.data_file"); }

  // About this share of the tokens, in a way that differs from microbatch to microbatch.
  static std::string marks(size_t tokens, double share) {
    const Random random(7, "marks");
    std::string all(tokens, '\0');
    for (size_t i = 0; i < tokens; ++i) all[i] = random.unit(i) < share && random.unit(i / 50) < 0.7 ? '\1' : '\0';
    return all;
  }
  static void mark(const std::string& prefix, const std::string& marks) { write_file(prefix + ".mask.bin", marks); }

  std::string held_out(const std::string& name, const std::string& marks) const {
    const std::string prefix = data_set(name, random_tokens(marks.size(), 65, 2));
    mark(prefix, marks);
    return prefix;
  }

  void expect_refused(const Options& changes, const std::vector<std::string>& pieces, int status = 2) const {
    const ProgramResult result = train(changes);
    EXPECT_EQ(result.status, status) << result.err;
    for (const std::string& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << "\"" << piece << "\" is not in: " << result.err;
  }
};

TEST_F(Masks, MarkingEveryTokenGivesTheBitsOfNone) {
  mark(data(), std::string(3000, '\1'));
  Outcome with = trained({{"train.proj_suffix", "with"}});
  const Outcome without = trained({{"train.proj_suffix", "without"}, {"train.loss_mask", "0"}});
  for (std::string& line : with.metrics) {
    const std::string targets = ", \"targets\": 128";  // 8 sequences of 16
    ASSERT_NE(line.find(targets), std::string::npos) << line;
    line.erase(line.find(targets), targets.size());
  }
  expect_same(with, without);
}

TEST_F(Masks, CountTheTargetsOfAllRanks) {
  options_["train.validation_data_file"] = held_out("held", marks(500, 0.4));
  options_["train.val_check_interval"] = "2";
  trained({{"train.proj_suffix", "one"}});
  const auto one = metrics("one");
  for (const auto& [name, ranks, pipeline, zero] :
       {std::tuple("data", 4, "1", "1"), {"both", 4, "2", "3"}, {"pipeline", 2, "2", "1"}}) {
    const ProgramResult result =
        train_on(ranks, {{"train.proj_suffix", name}, {"parallel.pipeline", pipeline}, {"parallel.zero", zero}});
    ASSERT_EQ(result.status, 0) << name << ": " << result.err << result.out;
    expect_close(name, "one");
    const auto got = metrics(name);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_EQ(got[i].at("targets"), one[i].at("targets")) << name << " " << i;
    // A mean over positions, whose order is another where data ranks share them: roundings of doubles, and of each
    // position's own loss in float after steps that are not the same bits.
    const double want = one[1].at("val_loss");
    EXPECT_NEAR(got[1].at("val_loss").get<double>(), want, 2e-5 * want) << name;
  }
  EXPECT_NE(one[0].at("targets"), one[1].at("targets"));
}

TEST_F(Masks, ValidationIsWhatGfEvalSays) {
  options_["train.validation_data_file"] = held_out("held", marks(500, 0.4));
  options_["train.val_check_interval"] = "5";
  trained();
  const auto last = metrics("0").back();
  const ProgramResult result = run_program(
      "gf", {"eval", "--masked", "--checkpoint", run("0"), "--data", options_.at("train.validation_data_file")});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto got = nlohmann::json::parse(result.out);
  const double want = last.at("val_loss");
  EXPECT_NEAR(got.at("loss").get<double>(), want, 1e-6 * want);  // batches of other sizes
  EXPECT_EQ(got.at("acc"), last.at("val_acc"));
}

TEST_F(Masks, ARunThatStopsGoesOn) {
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  trained({{"train.proj_suffix", "stopped"}, {"train.max_steps", "2"}});
  expect_same(trained({{"train.proj_suffix", "stopped"}}), whole);
}

TEST_F(Masks, ListsOfFilesHaveOneEach) {
  const std::vector<uint16_t> tokens = random_tokens(3000, 65);
  const std::string all = marks(3000, 0.3);
  std::string list = "[";
  for (const auto& [name, begin, end] : {std::tuple("a", 0, 1100), {"b", 1100, 1103}, {"c", 1103, 3000}}) {
    const std::string prefix = data_set(name, {tokens.begin() + begin, tokens.begin() + end});
    mark(prefix, all.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
    list += (begin ? ", " : "") + prefix;
  }
  const Outcome joined = trained({{"train.proj_suffix", "joined"}});
  expect_same(trained({{"train.proj_suffix", "list"}, {"train.data_file", list + "]"}}), joined);
  const std::string a = folder_ / "a", c = folder_ / "c";
  const Options weighted{{"train.data_file", cat("[{prefix: ", a, ", weight: 2}, {prefix: ", c, ", weight: 1}]")},
                         {"train.proj_suffix", "weighted"}};
  EXPECT_EQ(trained(weighted).metrics.size(), 5u);
  // The same tokens marked otherwise are other data.
  mark(c, std::string(1897, '\1'));
  Options more = weighted;
  more["train.max_steps"] = "6";
  expect_refused(more, {"of the mask", "--train.change_data 1"});
}

// A step whose samples have nothing marked has no mean, and changes nothing.
TEST_F(Masks, AStepWithoutTargetsIsSkipped) {
  options_["train.micro_bsz"] = "1";
  options_["train.accumulate_grad_batches"] = "1";
  options_["train.max_steps"] = "12";
  std::string few(3000, '\0');
  for (size_t i = 0; i < few.size(); ++i) few[i] = i / 16 % 3 == 0 ? '\1' : '\0';
  mark(data(), few);
  trained();
  int skipped = 0, taken = 0;
  for (const auto& step : metrics("0")) {
    const bool nothing = step.at("targets") == 0;
    EXPECT_EQ(step.contains("skipped"), nothing) << step;
    EXPECT_EQ(step.at("loss").is_null(), nothing) << step;
    (nothing ? skipped : taken) += 1;
  }
  EXPECT_GT(skipped, 0);
  EXPECT_GT(taken, 0);
  mark(data(), std::string(3000, '\0'));
  expect_refused({{"train.proj_suffix", "none"}}, {"10 steps in a row", "marked"}, 1);
}

TEST_F(Masks, BadOnesAreRefused) {
  mark(data(), std::string(2999, '\1'));
  expect_refused({}, {data() + ".mask.bin", "2999 bytes", "3000 tokens"});
  std::filesystem::remove(data() + ".mask.bin");
  expect_refused({}, {data() + ".mask.bin", "No such file", "gf data tokenize"});
  std::string wrong(3000, '\1');
  wrong[1234] = '1';
  mark(data(), wrong);
  expect_refused({{"train.my_exit_tokens", "3000"}, {"train.warmup_steps", "0"}, {"train.max_steps", "0"}},
                 {"byte 49 at position 1234"});
  mark(data(), marks(3000, 0.3));
  const std::string short_one = held_out("short", marks(500, 1));
  mark(short_one, marks(499, 1));
  expect_refused({{"train.validation_data_file", short_one}}, {short_one + ".mask.bin", "499 bytes", "500 tokens"});
  const std::string none = held_out("none", std::string(500, '\0'));
  expect_refused({{"train.validation_data_file", none}}, {none, "mark no token"});
  EXPECT_FALSE(std::filesystem::exists(run("0")));
}

TEST_F(Masks, ARunKeepsToWhatItCounted) {
  trained();
  expect_refused({{"train.loss_mask", "0"}, {"train.max_steps", "6"}},
                 {"train.loss_mask is 0", "was begun with 1", "--train.loss_mask 1"});
}

}  // namespace
}  // namespace gf
