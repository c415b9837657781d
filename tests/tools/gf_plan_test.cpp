// SPDX-License-Identifier: Apache-2.0
// gf plan, as a person runs it. That its best layouts run is tested in tests/end_to_end/plan_test.cpp.
#include <gtest/gtest.h>

#include <cctype>
#include <set>
#include <sstream>

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
    has(r.out, {"16 ranks of 32", "machine  each rank on a GPU, in bf16\n", "reckoned from operations and bytes",
                "128 sequences of 2048 tokens", "pipeline data", "and ", " slower ones", "step     ", " predicted, ",
                "best     --parallel.pipeline "});
  }
}

// Of a model that an H100 has room for; all that is printed of this layout.
TEST_F(GfPlan, ReckonsInThePrecisionThatItNames) {
  const std::string text = read_file(kConfigs + "hardware/h100.yaml");
  const auto layout = [&](const std::string& file, const Words& more) {
    Words words = {"--hardware", file, "--ranks", "8", "--layout", "--parallel.pipeline", "2", "--parallel.data", "4"};
    words.insert(words.end(), more.begin(), more.end());
    return plan(words);
  };
  const auto with = [&](const std::string& accelerator, const std::string& precision) {
    std::string changed = text;
    for (const auto& [key, line] : {std::pair("accelerator: ", accelerator), {"  precision: ", precision}}) {
      const size_t at = changed.find(key);
      changed.replace(at, changed.find('\n', at) + 1 - at, line);
    }
    const std::string file = folder_ / "changed.yaml";
    write_file(file, changed);
    return file;
  };
  const std::string h100 = kConfigs + "hardware/h100.yaml", silent = with("", "");
  const ProgramResult bf16 = layout(h100, {});
  ASSERT_EQ(bf16.status, 0) << bf16.err;
  // Said by the run, for figures of which the file says nothing: the same plan.
  const Words gpu = {"--train.accelerator", "gpu", "--train.precision", "bf16"};
  const ProgramResult as_said = layout(silent, gpu);
  ASSERT_EQ(as_said.status, 0) << as_said.err;
  has(as_said.out, {"machine  each rank on a GPU, in bf16; the hardware file does not say"});
  EXPECT_EQ(as_said.out.substr(as_said.out.find("\nplan ")), bf16.out.substr(bf16.out.find("\nplan ")));
  // Nobody says anything: as for a CPU.
  const ProgramResult cpu = layout(silent, {});
  ASSERT_EQ(cpu.status, 0) << cpu.err;
  has(cpu.out, {"machine  each rank on a CPU, in float32; the hardware file does not say"});
  EXPECT_NE(cpu.out.substr(cpu.out.find("\nplan ")), bf16.out.substr(bf16.out.find("\nplan ")));
  const ProgramResult of_cpus = layout(with("accelerator: cpu\n", "  precision: 32\n"), {});
  ASSERT_EQ(of_cpus.status, 0) << of_cpus.err;
  has(of_cpus.out, {"machine  each rank on a CPU, in float32\n"});
  // What the figures are not of is refused.
  const std::vector<std::pair<std::string, Words>> mixtures = {{h100, {"--train.precision", "32"}},
                                                               {h100, {"--train.accelerator", "cpu"}},
                                                               {with("accelerator: cpu\n", "  precision: 32\n"), gpu}};
  for (const auto& [file, more] : mixtures) {
    const ProgramResult r = layout(file, more);
    EXPECT_EQ(r.status, 2) << r.out;
    has(r.err, {".yaml: its figures are of accelerator ", "rank.precision ", ", and train.accelerator is ",
                "--train.accelerator auto --train.precision auto"});
  }
  refused({"--measure", folder_ / "x.yaml", "--train.accelerator", "gpu"},
          {"x.yaml: its figures are of accelerator cpu and rank.precision 32, and train.accelerator is gpu"});
}

// The defaults too, on the command line and in a file.
TEST_F(GfPlan, WhatIsSaidStays) {
  const std::string file = folder_ / "said.yaml";
  write_file(file, "parallel: {pieces: 1, schedule: gpipe}\n");
  const auto rows = [&](const Words& more) {
    Words words = {"--hardware", kConfigs + "hardware/h100.yaml", "--ranks", "8", "--top", "100"};
    words.insert(words.end(), more.begin(), more.end());
    const ProgramResult r = plan(words);
    EXPECT_EQ(r.status, 0) << r.err;
    std::vector<std::vector<std::string>> all;  // pipeline, data, zero, schedule, pieces
    std::istringstream lines(r.out.substr(r.out.find("pipeline data")));
    std::string line;
    for (std::getline(lines, line); std::getline(lines, line) && !line.starts_with("plan ");) {
      std::istringstream words_of(line);
      std::vector<std::string> row(5);
      for (std::string& word : row) words_of >> word;
      if (std::isdigit(static_cast<unsigned char>(row[0][0]))) all.push_back(row);
    }
    EXPECT_GT(all.size(), 1u) << r.out;
    return all;
  };
  for (const auto& row : rows({"--parallel.pipeline", "1"})) EXPECT_EQ(row[0], "1");
  for (const auto& row : rows({"--parallel.schedule", "one_f_one_b"})) EXPECT_EQ(row[3], "one_f_one_b");
  // Several pieces, of the schedules that take them: the default one does not, and was not asked for.
  std::set<std::string> with_pieces;
  for (const auto& row : rows({"--parallel.pieces", "3"})) {
    EXPECT_EQ(row[4], "3");
    with_pieces.insert(row[3]);
  }
  EXPECT_EQ(with_pieces, (std::set<std::string>{"gpipe", "interleaved"}));
  for (const auto& row : rows({"-c", file})) EXPECT_EQ(row[3] + row[4], "gpipe1");
  std::set<std::string> schedules;
  for (const auto& row : rows({})) schedules.insert(row[3]);
  EXPECT_EQ(schedules.size(), 4u) << "what is not said is tried";
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
  EXPECT_EQ(h.accelerator.value_or("auto"), "cpu");
  EXPECT_EQ(h.rank.precision.value_or("auto"), "32");
  EXPECT_GT(h.rank.flops, 1e6);
  EXPECT_GT(h.rank.fresh_bandwidth, 1e6);
  EXPECT_FALSE(h.within_node) << "one rank has nobody to talk to";
  ASSERT_TRUE(h.measured);
  EXPECT_EQ(h.measured->model.n_embd, 32);
  EXPECT_EQ(h.measured->micro_bsz, 2);
  const ProgramResult again = plan({"--hardware", file}, model);
  ASSERT_EQ(again.status, 0) << again.err;
  has(again.out, {"machine  each rank on a CPU, in float32\n", "layers   measured"});
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
  // Nor may the file give more, unless --ranks says how many of them.
  std::string text = read_file(h100);
  const size_t nodes = text.find("\nnodes: ") + 1;
  text.replace(nodes, text.find('\n', nodes) - nodes, "nodes: 1048576");
  const std::string vast = folder_ / "vast.yaml";
  write_file(vast, text);
  refused({"--hardware", vast},
          {"vast.yaml: nodes times ranks_per_node is 8388608 and must be from 1 to 16384", "--ranks 16"});
  has(plan({"--hardware", vast, "--ranks", "16", "--layout"}).out, {"16 ranks of 8388608, 8 on a node"});
  refused({"--hardware", h100, "--ranks", "2", "--simulate", "2"}, {"both --ranks and --simulate"});
  refused({"--hardware", h100, "--ranks", "-1"}, {"--ranks is -1"});
  refused({"--hardware", h100, "--top", "0"}, {"--top is 0"});
  refused({"--hardware", folder_ / "nowhere.yaml"}, {"nowhere.yaml"});
  refused({"--hardware", h100, "--ranks", "29"}, {"no layout of 29 ranks"});
  refused({"--hardware", h100, "--ranks", "3", "--layout", "--parallel.pipeline", "2"}, {"parallel.pipeline 2"});
  refused({"--hardware", h100, "--ranks", "4", "--layout", "--parallel.pipeline", "4", "--parallel.schedule",
           "interleaved", "--parallel.pieces", "8"},
          {"parallel.pipeline 4 times parallel.pieces 8 is 32 stages, and model.n_layer 24",
           "--parallel.pipeline 3 at most, or --parallel.pieces 6 at most"});
  for (const Words& more : {Words{"--parallel.schedule", "one_f_one_b"}, {"--layout", "--parallel.pipeline", "2"}}) {
    Words words = {"--hardware", h100, "--ranks", "4", "--parallel.pieces", "3"};
    words.insert(words.end(), more.begin(), more.end());
    refused(words, {"parallel.pieces is 3, and parallel.schedule one_f_one_b has one a rank"});
  }
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
