// SPDX-License-Identifier: Apache-2.0
// gf plan, as a person runs it. That its best layouts run is tested in tests/end_to_end/plan_test.cpp.
#include <gtest/gtest.h>

#include "support/files.h"
#include "support/run_program.h"
#include "support/temp_folder.h"
#include "train/planner/hardware.h"

namespace gf {
namespace {

const std::string kConfigs = std::string(GF_SOURCE_DIR) + "/configs/";

class GfPlan : public testing::Test {
 protected:
  using Words = std::vector<std::string>;
  static ProgramResult plan(const Words& more, const Words& model = {"-c", kConfigs + "L24D2048ctx2048minipile.yaml",
                                                                     "-c", kConfigs + "goldfinch.yaml"}) {
    Words words = {"plan"};
    words.insert(words.end(), model.begin(), model.end());
    words.insert(words.end(), more.begin(), more.end());
    return run_program("gf", words, {{"OMP_NUM_THREADS", "1"}, {"OMP_WAIT_POLICY", "passive"}});
  }
  static void has(const std::string& text, std::initializer_list<const char*> pieces) {
    for (const char* piece : pieces) EXPECT_NE(text.find(piece), std::string::npos) << piece << " is not in:\n" << text;
  }
  static void refused(const Words& more, std::initializer_list<const char*> pieces) {
    const ProgramResult r = plan(more);
    EXPECT_EQ(r.status, 2) << r.out << r.err;
    has(r.err, pieces);
  }
  TempFolder folder_;
};

TEST_F(GfPlan, PlansForShippedHardware) {
  for (const char* name : {"h100.yaml", "a100.yaml"}) {
    SCOPED_TRACE(name);
    const ProgramResult r = plan({"--hardware", kConfigs + "hardware/" + name, "--ranks", "16", "--top", "4"});
    ASSERT_EQ(r.status, 0) << r.err;
    has(r.out, {"16 ranks of 32", "reckoned from operations and bytes", "128 sequences of 2048 tokens", "pipeline data",
                "and ", " slower ones", "step     ", " predicted, ", "best     --parallel.pipeline "});
  }
}

TEST_F(GfPlan, DrawsTheLayoutThatIsSaid) {
  const ProgramResult r =
      plan({"--hardware", kConfigs + "hardware/h100.yaml", "--ranks", "8", "--layout", "--parallel.pipeline", "4",
            "--parallel.schedule", "zero_bubble", "--train.accumulate_grad_batches", "8"});
  ASSERT_EQ(r.status, 0) << r.err;
  has(r.out, {"pipeline 4 x data 2; zero 2; zero_bubble", "to fill and drain", "  rank 0    F0F1F2F3", "  rank 3    ",
              "b0", "w0"});
}

TEST_F(GfPlan, SimulatesRanksThatNobodyHas) {
  const ProgramResult r = plan({"--hardware", kConfigs + "hardware/h100.yaml", "--simulate", "16384",
                                "--train.accumulate_grad_batches", "4096", "--parallel.pipeline", "8"});
  ASSERT_EQ(r.status, 0) << r.err;
  has(r.out, {"16384 ranks of 16384, 8 on a node", "one pipeline is simulated", "2048"});
}

TEST_F(GfPlan, MeasuresThisMachineAndPlansForIt) {
  const Words model = {"-c",
                       kConfigs + "goldfinch.yaml",
                       "--model.n_layer",
                       "6",
                       "--model.n_embd",
                       "32",
                       "--model.head_size",
                       "16",
                       "--model.ctx_len",
                       "32",
                       "--model.vocab_size",
                       "65",
                       "--train.micro_bsz",
                       "2"};
  const std::string file = folder_ / "mine.yaml";
  const ProgramResult measured = plan({"--measure", file}, model);
  ASSERT_EQ(measured.status, 0) << measured.err;
  has(measured.out,
      {"milliseconds", "key_expand", "measured, 1 rank at once, 1 thread each", "best     --parallel.pipeline 1"});
  const Hardware h = load_hardware(file);
  EXPECT_EQ(h.ranks(), 1);
  EXPECT_GT(h.rank.flops, 1e6);
  EXPECT_GT(h.rank.fresh_bandwidth, 1e6);
  EXPECT_FALSE(h.within_node) << "one rank has nobody to talk to";
  ASSERT_TRUE(h.measured);
  EXPECT_EQ(h.measured->model.n_embd, 32);
  EXPECT_EQ(h.measured->micro_bsz, 2);
  const ProgramResult again = plan({"--hardware", file}, model);
  ASSERT_EQ(again.status, 0) << again.err;
  has(again.out, {"layers   measured"});
  Words other = model;
  other.back() = "4";
  has(plan({"--hardware", file}, other).out, {"layers   reckoned", "they were measured with train.micro_bsz 2, not 4"});
  const ProgramResult two =
      plan({"--hardware", file, "--simulate", "2", "--train.accumulate_grad_batches", "2"}, model);
  EXPECT_EQ(two.status, 2);
  has(two.err, {"says nothing of the link between nodes"});
}

TEST_F(GfPlan, SaysWhatIsWrong) {
  const std::string h100 = kConfigs + "hardware/h100.yaml";
  refused({}, {"neither --hardware nor --measure is given", "configs/hardware/h100.yaml"});
  refused({"--hardware", h100, "--measure", folder_ / "x.yaml"}, {"both --hardware and --measure"});
  refused({"--measure", folder_ / "x.yaml", "--ranks", "2"}, {"--ranks is given with --measure", "mpirun"});
  refused({"--hardware", h100, "--ranks", "64"}, {"--ranks is 64, and the hardware has 32", "--simulate 64"});
  for (const char* option : {"--ranks", "--simulate"})
    refused({"--hardware", h100, option, "0"}, {option, " is 0 and must be from 1 to 16384"});
  refused({"--hardware", h100, "--simulate", "16385"}, {"--simulate is 16385", "16384"});
  refused({"--hardware", h100, "--ranks", "2", "--simulate", "2"}, {"both --ranks and --simulate"});
  refused({"--hardware", h100, "--ranks", "-1"}, {"--ranks is -1"});
  refused({"--hardware", h100, "--top", "0"}, {"--top is 0"});
  refused({"--hardware", folder_ / "nowhere.yaml"}, {"nowhere.yaml"});
  refused({"--hardware", h100, "--ranks", "29"}, {"no layout of 29 ranks"});
  refused({"--hardware", h100, "--ranks", "3", "--layout", "--parallel.pipeline", "2"}, {"parallel.pipeline 2"});
  refused({"--hardware", h100, "--model.n_embd", "2049"}, {"model.n_embd is 2049"});
  refused({"--hardware", h100, "--hardwear", "x"}, {"there is no option --hardwear", "gf plan --help"});
  // A model that no rank has room for: the table is printed, and what would help is said.
  const ProgramResult r = plan({"--hardware", h100, "--ranks", "1", "--train.micro_bsz", "128",
                                "--train.accumulate_grad_batches", "1", "--train.grad_cp", "0"});
  EXPECT_EQ(r.status, 2);
  has(r.out, {"these do not fit into a rank's memory"});
  has(r.err, {"no layout fits", "80.0 GB", "--train.grad_cp 1"});
}

TEST_F(GfPlan, HelpListsItsOptions) {
  const ProgramResult r = run_program("gf", {"plan", "--help"});
  EXPECT_EQ(r.status, 0);
  has(r.out, {"usage: gf plan [-c FILE]", "--hardware FILE", "--measure FILE", "--simulate N", "--layout", "--top K",
              "--parallel.pipeline"});
}

}  // namespace
}  // namespace gf
