// SPDX-License-Identifier: Apache-2.0
// gf ablate as a whole: runs of gf-dist-train so small that each takes a fraction of a second.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <map>
#include <memory>
#include <regex>
#include <tuple>

#include "io/metrics.h"
#include "io/run_folder.h"
#include "support/files.h"
#include "support/process.h"
#include "support/run_program.h"
#include "support/tiny_ablation.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class Ablate : public TinyAblation {};

TEST_F(Ablate, TrainsEachVariantFromEachSeedAndReports) {
  const ProgramResult result = ablate();
  ASSERT_EQ(result.status, 0) << result.err;
  std::map<std::string, double> last;
  for (const char* name : {"finch-s1", "finch-s2", "goldfinch-s1", "goldfinch-s2"}) {
    const auto steps = read_metrics(run(name) / "metrics.jsonl");
    ASSERT_EQ(steps.size(), 6u) << name;
    EXPECT_EQ(steps[5].tokens, 6 * 2 * 16);
    ASSERT_TRUE(steps[5].val_loss) << name;
    last[name] = *steps[5].val_loss;
    EXPECT_TRUE(fs::exists(run(name).string() + ".log"));
  }
  EXPECT_NE(last["finch-s1"], last["finch-s2"]);
  const Rows rows = csv();
  ASSERT_EQ(rows.size(), 2u);
  for (const char* name : {"finch", "goldfinch"}) {
    const auto& row = rows.at(name);
    const double a = last[cat(name, "-s1")], b = last[cat(name, "-s2")];
    EXPECT_NEAR(std::stod(row.at("val_loss")), (a + b) / 2, 1e-6) << "six digits";
    EXPECT_NEAR(std::stod(row.at("val_loss_deviation")), std::abs(a - b) / std::sqrt(2.0), 1e-6);
    EXPECT_EQ(row.at("runs_done"), "2");
    EXPECT_GT(std::stod(row.at("peak_memory_bytes")), 1e6);
    EXPECT_GT(std::stod(row.at("tokens_per_s")), 0);
    EXPECT_GT(std::stod(row.at("training_flops_per_token")), 6 * std::stod(row.at("parameters")) / 2);
  }
  EXPECT_EQ(rows.at("finch").at("cache_bytes_per_token"), "0");
  EXPECT_EQ(rows.at("goldfinch").at("cache_bytes_per_token"), "6") << "two numbers of 2 bytes, and 2 for the token";
  const std::string page = read_file(out() / "report.html");
  for (const char* piece :
       {"<h2>Variants</h2>", "finch-s1", "goldfinch-s2", "\"series_name\":\"goldfinch\"", "&plusmn;", "2 of 2"})
    EXPECT_NE(page.find(piece), std::string::npos) << piece;

  EXPECT_NE(result.out.find("[2/4] finch-s2: training loss "), std::string::npos) << result.out;

  // What is done is left alone.
  const std::string before = read_file(run("finch-s1") / "metrics.jsonl");
  const ProgramResult again = ablate();
  EXPECT_EQ(again.status, 0);
  EXPECT_NE(again.out.find("[4/4] goldfinch-s2: done already"), std::string::npos) << again.out;
  EXPECT_EQ(read_file(run("finch-s1") / "metrics.jsonl"), before);

  // What lies in its folder decides about no file outside of it.
  fs::remove(out() / "report.lock");
  fs::create_symlink(folder_ / "nothing", out() / "report.lock");
  EXPECT_EQ(ablate().status, 0);
  EXPECT_FALSE(fs::exists(folder_ / "nothing"));
  write("victim", "precious");
  for (const char* name : {"report.html", "report.csv"}) {
    fs::remove(out() / name);
    fs::create_symlink(folder_ / "victim", out() / name);
    const ProgramResult linked = ablate();
    EXPECT_EQ(linked.status, 2);
    EXPECT_NE(linked.err.find(cat(name, " is a symbolic link")), std::string::npos) << linked.err;
  }
  EXPECT_EQ(read_file(folder_ / "victim"), "precious");
}

// Runs of the same names are there from other settings: they are not what is asked for, in whatever way it is asked.
TEST_F(Ablate, FinishedRunsOfOtherSettingsAreRefused) {
  const std::string slow = "--train.lr_init=1e-4";
  ASSERT_EQ(ablate({slow}).status, 0);
  const std::string report = read_file(out() / "report.csv");
  const auto other = [&](const std::vector<std::string>& more, const std::vector<std::string>& pieces) {
    for (const char* way : {"--dry-run", "--only=goldfinch", "--seeds=2"}) {
      std::vector<std::string> all = more;
      all.emplace_back(way);
      const ProgramResult result = ablate(all);
      EXPECT_EQ(result.status, 2) << result.out;
      expect_no_run(way, result);
      for (const auto& piece : pieces)
        EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
      EXPECT_NE(result.err.find("remove " + run("finch-s1").string()), std::string::npos) << result.err;
    }
  };
  other({}, {"variant finch, seed 1: train.lr_init is 6e-04", "was begun with 1e-04"});
  other({slow, "--model.n_embd=64"}, {"model.n_embd is 64", "was begun with 32"});
  other({slow, "--model.dropout=0.1"}, {"model.dropout is 0.1", "was begun with 0"});
  other({slow, "--train.micro_bsz=4"}, {"devices * micro_bsz * accumulate_grad_batches is 4", "was begun with 2"});
  other({slow, "--train.val_check_interval=2"}, {"train.val_check_interval is 2", "was begun with 3"});
  write_byte_tokens(folder_ / "elsewhere", std::string(4000, 'x'));
  const std::string elsewhere = folder_ / "elsewhere";
  other({slow, "--train.data_file=" + elsewhere}, {"train.data_file is " + elsewhere});
  other({slow, "--train.max_steps=5"}, {"end at step 5", "at step 6 already"});
  fs::remove(run("finch-s1") / "config.yaml");  // the checkpoint has it too
  other({}, {"variant finch, seed 1: train.lr_init is 6e-04"});
  EXPECT_EQ(read_file(out() / "report.csv"), report);

  // What changes no result may differ, and so may the number of steps where there are more to come.
  const ProgramResult same = ablate({slow, "--train.log_every_n_steps=1", "--train.micro_bsz=1",
                                     "--train.accumulate_grad_batches=2", "--train.max_minutes=9", "--seeds=1"});
  EXPECT_EQ(same.status, 0) << same.err;
  EXPECT_NE(same.out.find("goldfinch-s1: done already"), std::string::npos) << same.out;
  const ProgramResult longer = ablate({slow, "--train.max_steps=7", "--only=finch", "--seeds=2"});
  EXPECT_EQ(longer.status, 0) << longer.err;
  EXPECT_EQ(read_metrics(run("finch-s2") / "metrics.jsonl").size(), 7u);
}

// As elements of a job array do: each its own, and the last report has them all.
TEST_F(Ablate, RunsOneByOneGiveTheSameRuns) {
  ASSERT_EQ(ablate({"--only", "goldfinch", "--seeds", "2"}).status, 0);
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "1");
  EXPECT_EQ(csv().at("goldfinch").at("val_loss_deviation"), "");
  EXPECT_EQ(csv().at("finch").at("val_loss"), "");
  EXPECT_FALSE(fs::exists(run("finch-s1")));
  ASSERT_EQ(ablate({"--only", "finch", "--only", "goldfinch", "--seeds=5"}).status, 0);
  EXPECT_TRUE(fs::exists(run("finch-s5")));
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "2");
  const ProgramResult rest = ablate();
  ASSERT_EQ(rest.status, 0);
  EXPECT_NE(rest.out.find("goldfinch-s2: done already"), std::string::npos);
  EXPECT_EQ(csv().at("finch").at("runs_done"), "3") << "that of --seeds=5 too";
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "3");
  EXPECT_NE(read_file(out() / "report.html").find("finch-s5"), std::string::npos);
}

// Whoever trained it: a seed that was added stays in the means. What only looks like one does not count.
TEST_F(Ablate, TheReportHasAllRunsThatAreThere) {
  ASSERT_EQ(ablate({"--only", "goldfinch", "--seeds", "1,2,30"}).status, 0);
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "3");
  const std::string loss = csv().at("goldfinch").at("val_loss");
  fs::copy(run("goldfinch-s30"), run("goldfinch-s030"), fs::copy_options::recursive);
  fs::copy(run("goldfinch-s30"), run("goldfinch-sx"), fs::copy_options::recursive);
  fs::create_directories(run("goldfinch-s31"));
  ASSERT_EQ(ablate({"--only", "goldfinch"}).status, 0);
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "3");
  EXPECT_EQ(csv().at("goldfinch").at("val_loss"), loss);
  // It is checked as the others are.
  fs::copy(run("goldfinch-s30"), run("finch-s30"), fs::copy_options::recursive);
  const ProgramResult other = ablate({"--dry-run"});
  EXPECT_EQ(other.status, 2) << other.out;
  EXPECT_NE(other.err.find("variant finch, seed 30: model.tmix is "), std::string::npos) << other.err;
}

// Under the same name, and as many.
TEST_F(Ablate, RunsOnOtherTokensAreRefused) {
  ASSERT_EQ(ablate({"--seeds=1"}).status, 0);
  const std::string report = read_file(out() / "report.csv"), data = folder_ / "data",
                    before = read_file(data + ".bin");
  write_file(data + ".bin", before.substr(2) + before.substr(0, 2));  // the first of them comes last
  for (const char* way : {"--dry-run", "--only=goldfinch", "--seeds=2"}) {
    const ProgramResult result = ablate({way});
    EXPECT_EQ(result.status, 2) << result.out;
    expect_no_run(way, result);
    for (const std::string piece :
         {"variant finch, seed 1: train.data_file: ", "fingerprint", "the data as it was; or ", "remove "})
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
  }
  EXPECT_EQ(read_file(out() / "report.csv"), report);
  write_file(data + ".bin", before);
  EXPECT_EQ(ablate({"--dry-run"}).status, 0);
}

// Reports that are made at once wait for one another, and the last one has all runs.
TEST_F(Ablate, RunsAtOnceGiveOneReport) {
  std::vector<std::unique_ptr<Process>> all;
  for (const char* name : {"finch", "goldfinch"})
    for (const char* seed : {"1", "2"})
      all.push_back(std::make_unique<Process>("gf", words({"--only", name, "--seeds", seed}),
                                              std::map<std::string, std::string>{{"OMP_NUM_THREADS", "1"}}));
  for (const auto& process : all) {
    const ProgramResult result = process->wait();
    EXPECT_EQ(result.status, 0) << result.err;
  }
  EXPECT_EQ(csv().at("finch").at("runs_done"), "2");
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "2");
}

TEST_F(Ablate, GoesOnWhereItWasStopped) {
  const std::vector<std::string> long_runs{"--train.max_steps=400", "--train.val_check_interval=200", "--seeds=1"};
  Process process("gf", words(long_runs), {{"OMP_NUM_THREADS", "1"}});
  ASSERT_TRUE(process.wait_until([&] {
    const fs::path metrics = run("goldfinch-s1") / "metrics.jsonl";
    return fs::exists(metrics) && !read_file(metrics).empty();
  }));
  process.send(SIGTERM);
  const ProgramResult stopped = process.wait();
  EXPECT_EQ(stopped.status, 75) << stopped.err;
  EXPECT_NE(stopped.out.find("run the same command to go on"), std::string::npos) << stopped.out;
  const size_t steps = read_metrics(run("goldfinch-s1") / "metrics.jsonl").size();
  EXPECT_LT(steps, 400u);
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "0");
  const ProgramResult done = ablate(long_runs);
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_NE(done.out.find("finch-s1: done already"), std::string::npos) << done.out;
  EXPECT_EQ(read_metrics(run("goldfinch-s1") / "metrics.jsonl").size(), 400u);
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "1");
}

// As the training of a gf ablate that was killed does: it is asked to stop, and still saving when that is begun again.
TEST_F(Ablate, WaitsForAProcessOfThisMachineThatHasTheFolder) {
  const RunPaths paths(run("finch-s1"));
  auto held = std::make_unique<RunFolder>(paths);
  const auto begin = [&] {
    return std::make_unique<Process>("gf", words({"--seeds=1"}),
                                     std::map<std::string, std::string>{{"OMP_NUM_THREADS", "1"}});
  };
  const std::string who = read_file(paths.lock()), line = cat("[1/2] finch-s1: waits for ", who, " to end");
  const auto waits = [&](Process& process) {
    return process.wait_until([&] { return process.out().find(line) != std::string::npos; });
  };
  const auto asked = begin();
  ASSERT_TRUE(waits(*asked)) << asked->wait().err;
  asked->send(SIGTERM);
  EXPECT_EQ(asked->wait().status, 75);
  const auto patient = begin();
  ASSERT_TRUE(waits(*patient)) << patient->wait().err;
  EXPECT_FALSE(fs::exists(paths.metrics()));
  held.reset();
  const ProgramResult result = patient->wait();
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(csv().at("finch").at("runs_done"), "1");
  EXPECT_EQ(result.out.find(line), result.out.rfind(line)) << result.out;
  // Nobody knows when one of another machine ends.
  fs::remove_all(paths.root());
  held = std::make_unique<RunFolder>(paths);
  write_file(paths.lock(), "process 1 on elsewhere");
  const ProgramResult refused = ablate({"--seeds=1"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("in use by process 1 on elsewhere"), std::string::npos) << refused.err;
}

TEST_F(Ablate, ARunThatFailsTakesNoOtherWithIt) {
  fs::create_directories(out());
  write("in_the_way", "");
  fs::copy(folder_ / "in_the_way", run("finch-s1"));  // a file where the run folder should be
  const ProgramResult result = ablate();
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("1 of 4 runs failed"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("finch-s1 ended with status 2"), std::string::npos) << result.err;
  EXPECT_EQ(csv().at("finch").at("runs_done"), "1");
  EXPECT_EQ(csv().at("goldfinch").at("runs_done"), "2");
}

// It would wait for a reader that never comes, and hear no signal.
TEST_F(Ablate, ANamedPipeForALogIsAnError) {
  fs::create_directories(out());
  const std::string pipe = run("finch-s1").string() + ".log";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const ProgramResult result = ablate({"--only", "finch", "--seeds", "1"});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find(pipe + ": it is not a regular file"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(run("finch-s1")));
}

TEST_F(Ablate, ADryRunTrainsNothing) {
  const ProgramResult result = ablate({"--dry-run", "--only", "goldfinch"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("run --only goldfinch --seeds 2  # 6 steps in "), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("run --only finch"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(Ablate, SeedsMayStandWithBlanks) {
  const ProgramResult result = ablate({"--dry-run", "--only=finch", "--seeds", "1, 3"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("run --only finch --seeds 3  # 6 steps"), std::string::npos) << result.out;
}

// As in a fresh clone: the published files, whose data is nowhere, and who need not know how long the runs would be.
TEST_F(Ablate, ADryRunTellsOfCostsWithoutData) {
  const auto dry = [&](const std::string& size, const std::string& ablation, const std::string& data) {
    const std::string configs = cat(GF_SOURCE_DIR, "/configs/"), out = folder_ / "out";
    return run_program(
        "gf", {"ablate", "-c", configs + size, "-a", cat(configs, "ablations/", ablation), "--train.data_file=" + data,
               "--train.validation_data_file=" + data, "--train.proj_dir=" + out, "--dry-run"});
  };
  using Row = std::pair<const char*, const char*>;  // a variant and its parameters
  const std::string none = folder_ / "none", small = folder_ / "small";
  write_byte_tokens(small, std::string(10'000, 'x'));
  for (const auto& [size, ablation, rows] :
       {std::tuple("L24D2048ctx2048minipile.yaml", "published-1.5B.yaml",
                   std::vector<Row>{{"llama", "1473454080"}, {"finch", "1599873024"}, {"goldfinch", "1445257216"}}),
        {"L12D768ctx1024minipile.yaml", "published-L12.yaml",
         std::vector<Row>{{"finchc2", "191056896"}, {"llama", "185637888"}, {"goldfinch_1_6", "189169152"}}}}) {
    const ProgramResult result = dry(size, ablation, none);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.err.find(cat("train.data_file ", none.substr(0, 20))), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("is not there"), std::string::npos) << result.err;
    for (const auto& [name, parameters] : rows) {
      EXPECT_TRUE(std::regex_search(result.out, std::regex(cat("(^|\n)", name, " +", parameters, " "))))
          << name << ": " << result.out;
      EXPECT_NE(
          result.out.find(cat("\nrun --only ", name, " --seeds 1337  # not checked: in ", folder_.path().string())),
          std::string::npos)
          << result.out;
    }
    // Data that is there is checked, and this is too little for a single step.
    const ProgramResult little = dry(size, ablation, small);
    EXPECT_EQ(little.status, 2) << little.out;
    EXPECT_NE(little.err.find("warm-up and wait take"), std::string::npos) << little.err;
    expect_no_run("--dry-run", little);
  }
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

// Nothing from a file reaches a shell: a value with everything that one would act on is a value.
TEST_F(Ablate, ValuesAreNeverCommands) {
  write("tiny.yaml", "variants: [{name: a, set: {model.tmix: '$(touch owned); touch owned'}}]\nseeds: [1]\n");
  refused({}, {"variant a", "$(touch owned); touch owned", "no such mixer"});
  write("tiny.yaml", "variants: [{name: '$(touch owned)'}]\nseeds: [1]\n");
  refused({}, {"no good name for a folder"});
}

TEST_F(Ablate, WrongInputIsRefusedBeforeAnythingRuns) {
  refused({"--only", "llama"}, {"no variant llama", "finch, goldfinch"});
  refused({"--seeds", "1,1"}, {"the seed 1 comes twice"});
  refused({"--seeds", "x"}, {"\"x\" is no seed"});
  refused({"--model.n_embd", "33"}, {"variant finch", "33"});
  refused({"--train.data_file", "nowhere"}, {"nowhere"});
  refused({"--train.train_stage=1"}, {"train.train_stage is 1", "trains nothing"});
  write("tiny.yaml", "variants: [{name: a}, {name: a}]\nseeds: [1]\n");
  refused({}, {"tiny.yaml:1", "entry 2", "called a, as entry 1 is"});
  EXPECT_EQ(run_program("gf", {"ablate", "-c", folder_ / "base.yaml"}).status, 2);
}

}  // namespace
}  // namespace gf
