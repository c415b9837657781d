// SPDX-License-Identifier: Apache-2.0
// Runs over several token files: as one they give the bits of the joined file; mixed by weight a run that stops goes on
// with the samples of one that never did, on any number of ranks; and none goes on with other data unasked.
#include <filesystem>

#include "base/error.h"
#include "end_to_end/many_ranks.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/data/training_data.h"
#include "support/binidx_files.h"
#include "support/run_program.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

using Pieces = std::vector<std::string>;

std::vector<uint16_t> part(const std::vector<uint16_t>& tokens, size_t begin, size_t end) {
  return {tokens.begin() + static_cast<std::ptrdiff_t>(begin), tokens.begin() + static_cast<std::ptrdiff_t>(end)};
}

std::string mixture_of(const std::string& a, double weight_a, const std::string& b, const std::string& c,
                       double weight_bc) {
  return cat("[{prefix: ", a, ", weight: ", weight_a, "}, {prefix: [", b, ", ", c, "], weight: ", weight_bc, "}]");
}

class DataLists : public TinyTraining {
 protected:
  std::string mixture(double weight_a, double weight_bc) const { return mixture_of(a_, weight_a, b_, c_, weight_bc); }
  static void expect_refused(const ProgramResult& result, const Pieces& pieces) {
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(count_lines(result.err), 2) << result.err;
    for (const std::string& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << "\"" << piece << "\" is not in: " << result.err;
  }

  const std::string a_ = data_set("a", random_tokens(900, 65, 11)), b_ = data_set("b", random_tokens(700, 65, 12)),
                    c_ = data_set("c", random_tokens(800, 65, 13));
};

TEST_F(DataLists, GiveTheBitsOfTheJoinedFile) {
  const std::vector<uint16_t> tokens = random_tokens(3000, 65), held = random_tokens(400, 65, 2);
  const std::vector<uint16_t> middle = part(tokens, 1000, 1005), rest = part(tokens, 1005, 3000);
  write_binidx(folder_ / "middle", std::vector<int64_t>(middle.begin(), middle.end()), 5);
  write_binidx(folder_ / "rest", std::vector<uint8_t>(rest.begin(), rest.end()), 1);
  const std::string list = cat("[", data_set("first", part(tokens, 0, 1000)), ", ", folder_ / "middle", ", ",
                               folder_ / "rest", "]"),
                    held_list = cat("[", data_set("held1", part(held, 0, 29)), ", ",
                                    data_set("held2", part(held, 29, 400)), "]");
  const Outcome joined = trained({{"train.proj_suffix", "joined"},
                                  {"train.data_file", data_set("joined", tokens)},
                                  {"train.validation_data_file", data_set("held", held)},
                                  {"train.val_check_interval", "4"}});
  ASSERT_NE(joined.metrics[3].find("val_loss"), std::string::npos);
  expect_same(
      trained(
          {{"train.data_file", list}, {"train.validation_data_file", held_list}, {"train.val_check_interval", "4"}}),
      joined);
}

TEST_F(DataLists, AMixtureGoesOnWithTheSameBits) {
  options_["train.data_file"] = mixture(0.3, 0.7);
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  for (const char* steps : {"1", "6", "11"}) trained({{"train.max_steps", steps}});
  expect_same(trained(), whole);
  // Weights are no decoration, and their ratio is what counts.
  EXPECT_FALSE(trained({{"train.proj_suffix", "other"}, {"train.data_file", mixture(0.7, 0.3)}}).metrics ==
               whole.metrics);
  expect_same(trained({{"train.proj_suffix", "scaled"}, {"train.data_file", mixture(3, 7)}}), whole);
}

TEST_F(DataLists, TheWrittenConfigurationIsTheSameRun) {
  options_["train.data_file"] = mixture(0.3, 0.7);
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  trained({{"train.max_steps", "5"}});
  const ProgramResult again = run_program("gf-dist-train", {"-c", run("0") / "config.yaml", "--train.max_steps", "12"},
                                          {{"OMP_NUM_THREADS", "1"}});
  ASSERT_EQ(again.status, 0) << again.err;
  expect_same(outcome("0"), whole);
}

// The banner says how often each source is gone over: 12 steps of 2 samples, 6 of them from a, which has 53 places.
TEST_F(DataLists, TheBannerTellsOfRepetition) {
  const std::string shown = train({{"train.data_file", mixture(1, 3)}, {"train.my_exit_tokens", "0"}}).out;
  const int64_t prime_a = Sampler(900, 16).magic_prime(), prime_b = Sampler(1500, 16).magic_prime();
  for (const std::string& piece :
       {std::string(
            "data     2.40k tokens in 3 documents of 3 files, mixed by weight; train.my_exit_tokens is as many"),
        cat("25.000 %  ", a_, ": 900 tokens, gone over 0.11 times in this run\n"),
        cat("75.000 %  ", b_, " and 1 more: 1.50k tokens, gone over 0.20 times in this run\n"),
        cat("my_exit_tokens: ", 16 * (prime_a + prime_b), "\n"),
        std::string("magic_prime: 0  # each source has its own\n")})
    EXPECT_NE(shown.find(piece), std::string::npos) << piece << " is not in: " << shown;
  EXPECT_EQ(prime_a, 53);
  EXPECT_EQ(prime_b, 89);
  const std::string list = train({{"train.proj_suffix", "1"}, {"train.data_file", cat("[", a_, ", ", b_, "]")}}).out;
  EXPECT_NE(list.find("data     1.60k tokens in 2 documents of 2 files, 89 samples of 16 before one comes again\n"),
            std::string::npos)
      << list;
}

TEST_F(DataLists, WhatIsWrongWithThemIsNamed) {
  const auto before = contents(folder_.path());
  const auto refused = [&](const std::string& list, const Pieces& pieces, Options more = {}) {
    more["train.data_file"] = list;
    expect_refused(train(more), pieces);
  };
  const std::string away = folder_ / "away";
  refused(cat("[", a_, ", ", away, ", ", c_, "]"), {away + ".idx cannot be read"});
  refused("[]", {"train.data_file is an empty list"});
  refused(mixture(1, 0), {"entry 2: the weight is 0"});
  refused(mixture(1, 1e-12), {"the weight 1e-12 is 1e-12 of all"});
  refused(cat("[", a_, ", {prefix: ", b_, ", weigth: 2}]"), {"entry 2", "did you mean weight?"});
  refused(mixture(1, 2), {"train.magic_prime is 89", "--train.magic_prime 0"}, {{"train.magic_prime", "89"}});
  refused(a_, {"train.validation_data_file has weights"}, {{"train.validation_data_file", mixture(1, 2)}});
  refused(mixture(1, 2), {a_ + ": the data has 900 tokens, and ctx_len 512"}, {{"model.ctx_len", "512"}});
  EXPECT_TRUE(contents(folder_.path()) == before) << "files have changed";
  const std::string wide = data_set("wide", std::vector<uint16_t>(300, 65));
  refused(cat("[", a_, ", ", wide, "]"), {wide + ".bin: token 65 at position 0", "vocabulary of 65"});
  refused(a_, {wide + ".bin: token 65"}, {{"train.validation_data_file", cat("[", b_, ", ", wide, "]")}});
}

TEST_F(DataLists, OtherDataIsRefusedUnlessItIsMeant) {
  options_["train.data_file"] = mixture(1, 1);
  options_["train.max_steps"] = "2";
  trained();
  options_["train.max_steps"] = "4";
  const auto before = contents(run("0"));
  const auto refused = [&](const std::string& data, const Pieces& pieces) {
    const ProgramResult result = train({{"train.data_file", data}});
    expect_refused(result, pieces);
    EXPECT_NE(result.err.find("--train.change_data 1"), std::string::npos) << result.err;
    EXPECT_TRUE(contents(run("0")) == before) << "files have changed";
  };
  refused(mixture(1, 2), {"file 1, " + a_, "in source 1 with a share of 0.333333333333, and was 900 tokens",
                          "in source 1 with a share of 0.5 when the run in ", cat("\"prefix\": \"", a_, "\"")});
  refused(cat("[", a_, ", ", b_, ", ", c_, "]"), {"file 1, "});
  refused(a_, {"file 1, "});
  refused(cat("[{prefix: ", a_, ", weight: 1}, {prefix: [", c_, ", ", b_, "], weight: 1}]"),
          {"file 2, " + c_ + ", is 800 tokens", "and was 700 tokens"});
  const std::string longer = data_set("longer", random_tokens(801, 65, 13));
  refused(cat("[{prefix: ", a_, ", weight: 1}, {prefix: [", b_, ", ", longer, "], weight: 1}]"),
          {"file 3, " + longer + ", is 801 tokens", "and was 800 tokens"});

  // The same files by other names are the same data.
  const std::string moved = folder_ / "moved";
  for (const char* end : {".idx", ".bin"}) fs::copy(c_ + end, moved + end);
  const ProgramResult same = train(
      {{"train.data_file", cat("[{prefix: ", a_, ", weight: 1}, {prefix: [", b_, ", ", moved, "], weight: 1}]")}});
  EXPECT_EQ(same.status, 0) << same.err;
  EXPECT_EQ(same.out.find("orders the samples"), std::string::npos) << same.out;

  const ProgramResult meant =
      train({{"train.data_file", mixture(1, 2)}, {"train.max_steps", "6"}, {"train.change_data", "1"}});
  EXPECT_EQ(meant.status, 0) << meant.err;
  EXPECT_NE(meant.out.find("start    step 4 of this run"), std::string::npos) << meant.out;
  EXPECT_NE(meant.out.find("the data is another, which orders the samples: file 1, " + a_), std::string::npos);
  // From there on it is the run's data.
  const ProgramResult after = train({{"train.data_file", mixture(1, 2)}, {"train.max_steps", "8"}});
  EXPECT_EQ(after.status, 0) << after.err;
}

// Nothing was read yet: parameters that were only written may be trained on anything.
TEST_F(DataLists, FreshParametersBelongToNoData) {
  options_["train.data_file"] = mixture(1, 1);
  ASSERT_EQ(train({{"train.train_stage", "1"}}).status, 0);
  EXPECT_EQ(train({{"train.data_file", cat("[", a_, ", ", b_, "]")}}).status, 0);
}

// As before there were lists: a prefix may be another, and where that changes the order it is told.
TEST_F(DataLists, OnePrefixMayBeAnother) {
  trained({{"train.max_steps", "2"}});
  const ProgramResult longer = train({{"train.data_file", data_set("more", random_tokens(3600, 65))}});
  EXPECT_EQ(longer.status, 0) << longer.err;
  EXPECT_NE(longer.out.find("; train.magic_prime was 179 and is 197, which orders the samples"), std::string::npos)
      << longer.out;
}

TEST_F(DataLists, AFileThatShrinksIsNamedAndNoStepIsLost) {
  options_["train.data_file"] = mixture(1, 2);
  options_["train.max_steps"] = "100000";
  options_["train.my_exit_tokens"] = "1000000000";
  Process process("gf-dist-train", arguments(), {{"OMP_NUM_THREADS", "1"}});
  ASSERT_TRUE(process.wait_until([&] { return count_lines(metrics_text("0")) > 5; }));
  fs::resize_file(c_ + ".bin", 100);
  const ProgramResult result = process.wait();
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_NE(result.err.find(c_ + ".bin has become shorter while in use"), std::string::npos) << result.err;
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, count_lines(metrics_text("0")));
}

TEST_F(DataLists, InfoAndEvalTakeThemAsOne) {
  const ProgramResult info = run_program("gf", {"data", "info", a_, b_, c_, "--ctx-len", "16"});
  EXPECT_EQ(info.status, 0) << info.err;
  EXPECT_EQ(info.out,
            "files: 3\ntokens: 2400\ndocuments: 3\nsequences: 3\ndtype: uint16\nlargest_token: 64\n"
            "ctx_len: 16\nmagic_prime: 149\nmy_exit_tokens: 2384\n");
  trained({{"train.max_steps", "2"}});
  const std::vector<uint16_t> tokens = random_tokens(400, 65, 2);
  const auto eval = [&](const std::string& data) {
    return run_program("gf", {"eval", "--checkpoint", run("0"), "--data", data});
  };
  const ProgramResult joined = eval(data_set("held", tokens)),
                      list = eval(cat("[", data_set("held1", part(tokens, 0, 29)), ", ",
                                      data_set("held2", part(tokens, 29, 400)), "]"));
  EXPECT_EQ(joined.status, 0) << joined.err;
  EXPECT_EQ(list.out, joined.out) << list.err;
  expect_refused(eval(mixture(1, 1)), {"--data has weights"});
  expect_refused(eval(cat("[", a_, ", ", a_, "]")), {"--data: entry 2: ", "is named by entry 1 already"});
}

// Stopped on one number of data ranks and gone on with on another: the samples of one rank that never stopped.
TEST_F(ManyRanks, AMixtureGoesOnWithItsSamplesOnAnotherNumberOfRanks) {
  const std::string a = data_set("a", random_tokens(900, 65, 11)), b = data_set("b", random_tokens(700, 65, 12)),
                    c = data_set("c", random_tokens(800, 65, 13));
  options_["train.data_file"] = mixture_of(a, 0.3, b, c, 0.7);
  trained({{"train.proj_suffix", "one"}});
  for (const auto& [ranks, steps] : {std::pair(2, "2"), {4, "3"}, {1, "4"}, {2, "5"}}) {
    const ProgramResult result = train_on(ranks, {{"train.max_steps", steps}, {"parallel.zero", "1"}});
    ASSERT_EQ(result.status, 0) << result.out << result.err;
  }
  expect_close("0", "one");
  // What is wrong with the data is told once, and all ranks end.
  const ProgramResult other =
      train_on(2, {{"train.data_file", mixture_of(a, 0.7, b, c, 0.3)}, {"train.max_steps", "6"}});
  EXPECT_EQ(other.status, 2) << other.err;
  const size_t told = other.err.find("with a share of 0.7, and was 900 tokens");
  ASSERT_NE(told, std::string::npos) << other.err;
  EXPECT_EQ(other.err.find("with a share of 0.7, and was 900 tokens", told + 1), std::string::npos) << other.err;
}

}  // namespace
}  // namespace gf
