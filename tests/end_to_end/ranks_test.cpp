// SPDX-License-Identifier: Apache-2.0
// gf-dist-train under mpirun: the mathematics of one rank, whatever the layout; and what goes wrong on one rank.
#include "base/error.h"
#include "end_to_end/many_ranks.h"
#include "support/run_program.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

TEST_F(ManyRanks, TrainTheModelOfOneRank) {
  options_["train.validation_data_file"] = data_set("validation", random_tokens(400, 65, 2));
  options_["train.val_check_interval"] = "2";
  trained({{"train.proj_suffix", "one"}});
  struct Layout {
    int ranks;
    const char *pipeline, *zero, *schedule, *pieces;
    bool same_bits;
  };
  // The key expansion of GOLD stages is shared where there are two of them: not in two stages of this model.
  for (const Layout& l : {Layout{2, "2", "auto", "one_f_one_b", "1", true},
                          {3, "3", "auto", "zero_bubble", "1", true},
                          {2, "2", "auto", "interleaved", "2", false},
                          {2, "1", "0", "gpipe", "1", false},
                          {2, "1", "1", "one_f_one_b", "1", false},
                          {4, "2", "2", "zero_bubble", "1", false},
                          {4, "1", "3", "one_f_one_b", "1", false}}) {
    const std::string suffix = cat(l.ranks, "-", l.pipeline, "-", l.zero, "-", l.schedule);
    SCOPED_TRACE(suffix);
    const ProgramResult result = train_on(l.ranks, {{"train.proj_suffix", suffix},
                                                    {"parallel.pipeline", l.pipeline},
                                                    {"parallel.zero", l.zero},
                                                    {"parallel.schedule", l.schedule},
                                                    {"parallel.pieces", l.pieces}});
    ASSERT_EQ(result.status, 0) << result.out << result.err;
    expect_close(suffix, "one");
    EXPECT_TRUE(metrics(suffix)[1].contains("val_loss"));
    if (l.same_bits) {
      EXPECT_TRUE(state(suffix) == state("one"));
    }
  }
}

// From one layout to another, up and down.
TEST_F(ManyRanks, GoOnOnAnotherLayout) {
  trained({{"train.proj_suffix", "one"}});
  struct Leg {
    int ranks;
    const char *pipeline, *zero;
  };
  const std::vector<std::pair<Leg, Leg>> pairs = {{{1, "1", "0"}, {2, "2", "0"}}, {{2, "2", "0"}, {1, "1", "0"}},
                                                  {{2, "1", "1"}, {4, "2", "2"}}, {{4, "2", "2"}, {2, "1", "3"}},
                                                  {{4, "1", "3"}, {3, "3", "0"}}, {{3, "3", "0"}, {4, "1", "1"}}};
  int number = 0;
  for (const auto& [first, second] : pairs) {
    const std::string suffix = cat("pair", number++);
    SCOPED_TRACE(suffix);
    for (const auto& [leg, steps] : {std::pair(first, "2"), std::pair(second, "5")}) {
      const ProgramResult result = train_on(leg.ranks, {{"train.proj_suffix", suffix},
                                                        {"parallel.pipeline", leg.pipeline},
                                                        {"parallel.zero", leg.zero},
                                                        {"train.max_steps", steps}});
      ASSERT_EQ(result.status, 0) << result.out << result.err;
    }
    expect_close(suffix, "one");
  }
}

TEST_F(ManyRanks, TellOnceWhatIsWrong) {
  const auto refused = [&](int ranks, const Options& changes, const std::string& what, const Environment& e = {}) {
    const ProgramResult result = train_on(ranks, changes, e);
    EXPECT_EQ(result.status, 2) << result.err;
    const size_t at = result.err.find(what);
    EXPECT_NE(at, std::string::npos) << what << " is not in: " << result.err;
    EXPECT_EQ(result.err.find(what, at + 1), std::string::npos) << "told twice: " << result.err;
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  };
  refused(3, {{"parallel.pipeline", "2"}}, "parallel.pipeline 2 does not make the 3 ranks");
  refused(2, {{"parallel.data", "3"}}, "parallel.pipeline 1 x parallel.data 3 does not make the 2 ranks");
  refused(2, {{"parallel.pipeline", "2"}, {"parallel.partition", "0-1,3-5"}}, "block 2 should come next, and 3 does");
  refused(2, {{"parallel.pipeline", "2"}, {"parallel.pieces", "2"}}, "parallel.pieces is 2");
  refused(4, {{"model.n_layer", "3"}, {"parallel.pipeline", "4"}}, "4 stages, and model.n_layer 3");
  refused(3, {}, "which 3 data ranks cannot share evenly");
  refused(2, {{"train.data_file", folder_ / "nowhere"}}, "nowhere.idx cannot be read");
}

}  // namespace
}  // namespace gf
