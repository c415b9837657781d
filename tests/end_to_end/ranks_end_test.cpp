// SPDX-License-Identifier: Apache-2.0
// Programs under mpirun at their end, which one rank never comes to, and at a start that is not the same on all.
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "end_to_end/many_ranks.h"
#include "io/checkpoint/checkpoint_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class ManyRanksEnd : public ManyRanks {
 protected:
  // Of two ranks, this one's reader gets what its first step takes (two microbatches of two samples), and no more.
  ProgramResult train_stuck(const std::string& rank, Options changes) const {
    changes.insert({"parallel.hang_seconds", "3"});
    return train_on(2, changes, {{"LD_PRELOAD", GF_STUCK_READS}, {"GF_STUCK_RANK", rank}, {"GF_STUCK_AFTER", "4"}});
  }
  // What train_beside() takes, for gf plan instead.
  std::string measure(const std::string& more) const {
    return cat("exec ", GF_BIN_DIR, "/gf plan --measure ", folder_ / "measured.yaml", " \"$@\" ", more);
  }
};

#if !defined(GF_SANITIZED)  // which wants no library before its own
// It has said what it did, and saved it; what it read ahead for steps that it does not take never comes.
TEST_F(ManyRanksEnd, AHangAtTheEndEndsTheJob) {
  const ProgramResult result = train_stuck("1", {{"train.max_minutes", "1e-5"}, {"train.max_steps", "100"}});
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_NE(result.out.find("stopped by train.max_minutes after step 1"), std::string::npos) << result.out;
  EXPECT_NE(result.err.find(" of 2, node "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("has been at this for "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("rank 1 of 2, node "), std::string::npos)
      << "the one that is stuck, and no other: " << result.err;
  EXPECT_NE(result.err.find(": ending the run"), std::string::npos) << result.err;
  const auto newest = newest_checkpoint(checkpoints("0"));
  ASSERT_TRUE(newest) << result.err;
  EXPECT_EQ(newest->step, 1);
}

// An error is told by the rank that it is about before that one waits for its reader.
TEST_F(ManyRanksEnd, AnErrorIsToldBeforeTheEndHangs) {
  std::vector<uint16_t> tokens = random_tokens(400, 65, 2);
  std::fill(tokens.begin() + 20, tokens.end(), uint16_t{65});  // beyond the first window, which is looked at earlier
  const ProgramResult result = train_stuck("0", {{"train.validation_data_file", data_set("validation", tokens)},
                                                 {"train.val_check_interval", "1"},
                                                 {"train.max_steps", "100"}});
  EXPECT_EQ(result.status, 1) << result.err;
  const size_t told = result.err.find("vocabulary of 65"), hung = result.err.find("has been at this for ");
  ASSERT_NE(told, std::string::npos) << result.err;
  ASSERT_NE(hung, std::string::npos) << result.err;
  EXPECT_LT(told, hung) << result.err;
  EXPECT_EQ(result.err.find("vocabulary of 65", told + 1), std::string::npos) << "told twice: " << result.err;
}

TEST_F(ManyRanksEnd, NothingIsReadBeyondTheLastStep) {
  const ProgramResult result = train_stuck("1", {{"train.max_steps", "1"}});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("done: 1 steps"), std::string::npos) << result.out;
}
#endif

TEST_F(ManyRanksEnd, ADryRunIsOneOfAllRanks) {
  const ProgramResult result = train_beside(R"(set -- "$@" --dry-run)", {{"parallel.hang_seconds", "20"}});
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_NE(result.err.find("what is asked for of rank 1 is not that of rank 0: \"a dry run\" and \"a run\""),
            std::string::npos)
      << result.err;
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(ManyRanksEnd, AMeasurementThatHangsEndsTheJob) {
  const std::string fifo = folder_ / "fifo.yaml";
  const ProgramResult result =
      train_beside(cat("mkfifo ", fifo, "; ", measure("-c " + fifo)), {{"parallel.hang_seconds", "3"}}, measure(""));
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_NE(result.err.find("gf plan: rank 0 of 2, node "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("waiting for an all-gather among all 2 ranks"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(folder_ / "measured.yaml"));
}

TEST_F(ManyRanksEnd, AMeasurementIsOneOfAllRanks) {
  for (const auto& [more, what] :
       {std::pair("--help",
                  "what is asked for of rank 1 is not that of rank 0: \"--help or "
                  "--version\" and \"a plan\""),
        {"--train.lr_final=3e-5", "the configuration of rank 1 is not that of rank 0: \"lr_final: 3e-05\""}}) {
    const ProgramResult result = train_beside(measure(more), {{"parallel.hang_seconds", "60"}}, measure(""));
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(folder_ / "measured.yaml"));
  }
}

}  // namespace
}  // namespace gf
