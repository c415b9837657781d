// SPDX-License-Identifier: Apache-2.0
// What gf plan finds, gf-dist-train runs; partitions that are measured, and kept.
#include <filesystem>
#include <sstream>

#include "end_to_end/many_ranks.h"
#include "support/files.h"
#include "support/run_program.h"
#include "train/config.h"

namespace gf {
namespace {

// "--key value --key value" as Options.
Options options_in(const std::string& text) {
  std::istringstream words(text);
  Options options;
  for (std::string key, value; words >> key >> value;) options[key.substr(2)] = value;
  return options;
}

std::string line_of(const std::string& text, const std::string& begin) {
  const size_t at = text.find("\n" + begin);
  return at == std::string::npos ? "" : text.substr(at + 1, text.find('\n', at + 1) - at - 1);
}

class ManyRanksPlan : public ManyRanks {
 protected:
  ManyRanksPlan() { options_["train.accumulate_grad_batches"] = "8"; }
  std::string partition_of(const std::string& suffix) const {
    return config_from_text(read_file(run(suffix) / "config.yaml"), "config.yaml").parallel.partition.value_or("auto");
  }
  ProgramResult run_dry(const Options& changes) const {
    std::vector<std::string> words = arguments(changes);
    words.emplace_back("--dry-run");
    return run_on(kRanks, "gf-dist-train", words);
  }
  ProgramResult run_gf_plan(int ranks, const std::vector<std::string>& more) const {
    std::vector<std::string> words = arguments();
    words.insert(words.begin(), "plan");
    words.insert(words.end(), more.begin(), more.end());
    return run_on(ranks, "gf", words);
  }
  static constexpr int kRanks = 4;

  std::string hardware() const {
    const std::string path = folder_ / "hardware.yaml";
    write_file(path,
               "ranks_per_node: 4\nrank: {flops: 1e10, memory: 8e9, memory_bandwidth: 1e10}\n"
               "within_node: {bandwidth: 1e9, latency: 1e-5, overlaps: 0}\n");
    return path;
  }
};

TEST_F(ManyRanksPlan, TheBestLayoutRuns) {
  const std::string h100 = std::string(GF_SOURCE_DIR) + "/configs/hardware/h100.yaml";
  for (const Options& also :
       {Options{}, {{"parallel.pipeline", "2"}}, {{"parallel.schedule", "interleaved"}}, {{"parallel.pieces", "3"}}}) {
    std::vector<std::string> words = arguments(also);
    words.insert(words.begin(), "plan");
    words.insert(words.end(), {"--hardware", h100, "--ranks", std::to_string(kRanks)});
    const ProgramResult planned = run_program("gf", words, {{"OMP_NUM_THREADS", "1"}});
    ASSERT_EQ(planned.status, 0) << planned.err;
    const std::string best = line_of(planned.out, "best     ");
    ASSERT_FALSE(best.empty()) << planned.out;
    // The plan of the dry run is that of gf plan, but for the times that it was not told of.
    const ProgramResult dry = run_dry(options_in(best.substr(9)));
    ASSERT_EQ(dry.status, 0) << best << "\n" << dry.out << dry.err;
    EXPECT_EQ(line_of(dry.out, "plan     "), line_of(planned.out, "plan     "));
    EXPECT_FALSE(std::filesystem::exists(run("0"))) << "a dry run changes nothing";
  }
}

TEST_F(ManyRanksPlan, DryRunSaysWhatEachRankWillBe) {
  const ProgramResult dry = run_dry({{"parallel.pipeline", "2"}, {"parallel.hardware", hardware()}});
  ASSERT_EQ(dry.status, 0) << dry.err;
  for (const char* piece : {"plan     pipeline 2 x data 2; zero 1; one_f_one_b, at most 2 microbatches in flight",
                            "idle     ", "  rank  blocks", "  0     0-", "  1     ", "step     ", " predicted, "})
    EXPECT_NE(dry.out.find(piece), std::string::npos) << piece << "\n" << dry.out;
  // A rank with two pieces keeps parts of microbatches; banner and plan say so alike.
  const ProgramResult pieces =
      run_dry({{"parallel.pipeline", "2"}, {"parallel.schedule", "interleaved"}, {"parallel.pieces", "2"}});
  ASSERT_EQ(pieces.status, 0) << pieces.err;
  for (const char* line : {"schedule interleaved: ", "plan     "})
    EXPECT_NE(line_of(pieces.out, line).find(" pieces of microbatches in flight"), std::string::npos) << pieces.out;
  const ProgramResult without = run_dry({{"parallel.pipeline", "2"}});
  EXPECT_EQ(without.out.find(" predicted, "), std::string::npos);
  EXPECT_NE(without.out.find("plan     pipeline 2"), std::string::npos);
  const ProgramResult missing = run_dry({{"parallel.hardware", folder_ / "nowhere.yaml"}});
  EXPECT_EQ(missing.status, 2);
  EXPECT_NE(missing.err.find("nowhere.yaml"), std::string::npos) << missing.err;
}

// Measured once, the cut is part of the run.
TEST_F(ManyRanksPlan, AMeasuredCutIsKept) {
  const Options measured = {{"parallel.pipeline", "2"}, {"parallel.partition", "measured"}};
  const auto with = [&](Options more) {
    more.insert(measured.begin(), measured.end());
    return more;
  };
  const ProgramResult first = train_on(2, with({{"train.max_steps", "2"}}));
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_NE(first.out.find("# by measured times"), std::string::npos) << first.out;
  const std::string cut = partition_of("0");
  EXPECT_EQ(cut.substr(0, 2), "0-") << cut;
  // A run that never stopped, with that cut, has the same bits as one that went on and would measure again.
  const ProgramResult second = train_on(2, measured);
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_NE(second.out.find("\"" + cut + "\"  # as this run began"), std::string::npos) << second.out;
  ASSERT_EQ(
      train_on(2, {{"train.proj_suffix", "whole"}, {"parallel.pipeline", "2"}, {"parallel.partition", cut}}).status, 0);
  EXPECT_TRUE(state("0") == state("whole"));
  // One that no measurement would find is kept too, by `measured` and by `auto`.
  const std::string odd = "0,1-5";
  for (const char* word : {"measured", "auto"}) {
    const Options run_of = {{"train.proj_suffix", word}, {"parallel.pipeline", "2"}};
    const auto train = [&](const std::string& partition, const std::string& steps) {
      Options o = run_of;
      o["parallel.partition"] = partition, o["train.max_steps"] = steps;
      return train_on(2, o);
    };
    ASSERT_EQ(train(odd, "1").status, 0);
    const ProgramResult on = train(word, "2");
    ASSERT_EQ(on.status, 0) << on.err;
    EXPECT_NE(on.out.find("\"" + odd + "\"  # as this run began"), std::string::npos) << on.out;
    EXPECT_EQ(partition_of(word), odd);
    // What is said by hand has the last word.
    ASSERT_EQ(train("0-1,2-5", "3").status, 0);
    EXPECT_EQ(partition_of(word), "0-1,2-5");
  }
  const ProgramResult one = train({{"parallel.partition", "measured"}, {"train.proj_suffix", "one"}});
  ASSERT_EQ(one.status, 0) << one.err;
  EXPECT_NE(one.out.find("# one stage: nothing to cut"), std::string::npos) << one.out;
}

// Times that a hardware file has are taken instead: a head that is said to take very long gets a stage of its own.
TEST_F(ManyRanksPlan, GivenTimesCut) {
  const std::string path = folder_ / "times.yaml";
  std::string text = read_file(hardware());
  text +=
      "measured:\n  micro_bsz: 2\n  update: 1e-9\n  layers:\n    lower: {forward: 1e-3}\n    upper: {forward: 1e-3}\n"
      "    head: {forward: 1}\n";
  text += "  model: {tmix: x060c2, tmix2: gold, n_layer: 6, n_embd: 32, head_size: 16, ctx_len: 16, vocab_size: 65}\n";
  write_file(path, text);
  const ProgramResult r =
      run_dry({{"parallel.pipeline", "2"}, {"parallel.partition", "measured"}, {"parallel.hardware", path}});
  ASSERT_EQ(r.status, 0) << r.err;
  EXPECT_NE(r.out.find("partition: \"0-5,head\"  # by the times of parallel.hardware"), std::string::npos) << r.out;
}

// Measured by two ranks at once, with the link between them.
TEST_F(ManyRanksPlan, MeasuresAllRanksAtOnce) {
  const std::string file = folder_ / "two.yaml";
  const ProgramResult r = run_gf_plan(2, {"--measure", file});
  ASSERT_EQ(r.status, 0) << r.out << r.err;
  EXPECT_NE(r.out.find("measured, 2 ranks at once, 1 thread each"), std::string::npos) << r.out;
  EXPECT_EQ(r.out.find("milliseconds"), r.out.rfind("milliseconds")) << "said once:\n" << r.out;
  const std::string written = read_file(file);
  for (const char* piece : {"ranks_per_node: 2", "within_node:\n", "bandwidth: ", "overlaps: 0", "between_nodes: null"})
    EXPECT_NE(written.find(piece), std::string::npos) << piece << "\n" << written;
  const ProgramResult wrong = run_gf_plan(2, {"--measure", folder_ / "no/such/folder.yaml"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_EQ(wrong.err.find("gf plan: "), wrong.err.rfind("gf plan: ")) << "told once:\n" << wrong.err;
}

}  // namespace
}  // namespace gf
