// SPDX-License-Identifier: Apache-2.0
// The programs as scripts and other programs meet them: help, version, what a run writes and how it fails.
#include <dlfcn.h>
#include <sys/auxv.h>
#include <nlohmann/json.hpp>

#include <ctime>
#include <regex>

#include "base/clock.h"
#include "base/error.h"
#include "end_to_end/tiny_training.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/pth/pth_samples.h"
#include "io/metrics.h"
#include "support/files.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

TEST(ProgramOptions, HelpAndVersion) {
  for (const char* program : {"gf", "gf-dist-train"}) {
    for (const char* option : {"--help", "-h", "--version"}) {
      const ProgramResult result = run_program(program, {option});
      EXPECT_EQ(result.status, 0) << program << option << result.err;
      EXPECT_EQ(result.err, "");
      const char* const begin = std::string_view(option) == "--version" ? program : "usage: ";
      EXPECT_TRUE(result.out.starts_with(begin)) << result.out;
    }
  }
}

#if defined(__GNUC__) && !defined(__clang__)  // whose OpenMP tells how it waits
// Beside another program on the same cores, a step would take ten times as long.
TEST(ProgramOptions, WaitingThreadsSleepUnlessTheyAreToldOtherwise) {
  for (const char* program : {"gf", "gf-dist-train"}) {
    const auto told = [&](std::vector<std::string> variables) {
      std::vector<std::string> words = {"-u", "OMP_WAIT_POLICY", "-u", "GOMP_SPINCOUNT", "OMP_DISPLAY_ENV=verbose"};
      words.insert(words.end(), variables.begin(), variables.end());
      words.insert(words.end(), {cat(GF_BIN_DIR, "/", program), "--version"});
      const ProgramResult result = run_program("/usr/bin/env", words);
      EXPECT_EQ(result.status, 0) << result.err;
      // What was read last: by the program that did the work.
      const size_t at = result.err.rfind("GOMP_SPINCOUNT = '");
      return at == std::string::npos ? "" : result.err.substr(at, result.err.find('\n', at) - at);
    };
    EXPECT_EQ(told({}), "GOMP_SPINCOUNT = '10000'");
    EXPECT_EQ(told({"OMP_WAIT_POLICY=passive"}), "GOMP_SPINCOUNT = '0'");
    EXPECT_EQ(told({"GOMP_SPINCOUNT=77"}), "GOMP_SPINCOUNT = '77'");
  }
}
#endif

// The program of such a process is the loader: what begins anew must not be that.
TEST(ProgramOptions, MayBeRunByTheLoader) {
  Dl_info loader;
  ASSERT_NE(::dladdr(reinterpret_cast<const void*>(::getauxval(AT_BASE)), &loader), 0);
  const ProgramResult result = run_program("/usr/bin/env", {"-u", "OMP_WAIT_POLICY", "-u", "GOMP_SPINCOUNT",
                                                            loader.dli_fname, GF_BIN_DIR "/gf", "--version"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "gf " GF_VERSION "\n");
}

// They are all that was asked for.
TEST(ProgramOptions, HelpThatIsLostIsAnError) {
  for (const char* program : {"gf", "gf-dist-train"}) {
    for (const char* option : {"--help", "--version"}) {
      for (const auto& [streams, why] : {std::pair(">/dev/full", "No space left"), {">&-", "Bad file descriptor"}}) {
        const ProgramResult result = run_with_streams(streams, program, {option});
        EXPECT_EQ(result.status, 1) << program << option << streams;
        EXPECT_NE(result.err.find(cat("cannot write to standard output: ", why)), std::string::npos) << result.err;
      }
    }
  }
}

class Programs : public TinyTraining {
 protected:
  std::string config_of(const std::string& suffix) const { return read_file(run(suffix) / "config.yaml"); }
};

TEST_F(Programs, MetricsHaveTheFieldsOfTheContract) {
  options_["train.validation_data_file"] = data_set("validation", random_tokens(400, 65, 2));
  trained({{"train.val_check_interval", "2"}, {"train.max_steps", "3"}});
  const std::string real = R"((0|[1-9]\d*)(\.\d+)?(e[-+]\d+)?)",
                    plain = cat(R"("loss": )", real, R"(, "grad_norm": )", real, R"(, "lr": )", real, R"(, "step_s": )",
                                real, R"(, "tokens_per_s": )", real);
  const std::string validated = cat(plain, R"(, "val_loss": )", real, R"(, "val_acc": )", real);
  EXPECT_TRUE(std::regex_match(metrics_text("0"), std::regex(cat(R"(\{"step": 0, "tokens": 32, )", plain, "\\}\n",
                                                                 R"(\{"step": 1, "tokens": 64, )", validated, "\\}\n",
                                                                 R"(\{"step": 2, "tokens": 96, )", plain, "\\}\n"))))
      << metrics_text("0");
}

TEST_F(Programs, TheResolvedConfigReadsBackToItself) {
  trained({{"model.rope", "on"}, {"train.max_steps", "2"}});
  const std::string config = config_of("0");
  EXPECT_NE(config.find("magic_prime: 179\n"), std::string::npos) << config;
  const ProgramResult again = run_program("gf-dist-train", {"-c", run("0") / "config.yaml", "--train.max_steps", "2"});
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(config_of("0"), config);
}

TEST_F(Programs, ReportOfARun) {
  trained({{"train.max_steps", "3"}});
  const ProgramResult report = run_program("gf", {"report", run("0")});
  EXPECT_EQ(report.status, 0) << report.err;
  EXPECT_EQ(report.out, (run("0") / "report.html").string() + "\n");
  const std::string page = read_file(run("0") / "report.html");
  EXPECT_TRUE(page.starts_with("<!doctype html>") || page.starts_with("<!DOCTYPE html>")) << page.substr(0, 100);
  EXPECT_NE(page.find("tiny-0"), std::string::npos);
}

// A log that cannot be written is no reason to end a run; the metrics are (see Metrics.AFailedWriteNamesFileAndReason).
TEST_F(Programs, ALogThatCannotBeWrittenEndsNothing) {
  const Outcome whole = trained({{"train.max_steps", "3"}});
  int count = 0;
  for (const char* streams : {">/dev/full", ">&-", "| true", "<&- >&- 2>&-"}) {
    SCOPED_TRACE(streams);
    const std::string suffix = std::to_string(++count);
    const ProgramResult result = run_with_streams(streams, "gf-dist-train",
                                                  arguments({{"train.max_steps", "3"}, {"train.proj_suffix", suffix}}));
    EXPECT_EQ(result.status, 0) << result.err;
    expect_same(outcome(suffix), whole);
  }
}

TEST_F(Programs, ADryRunWhoseOutputIsLostIsAnError) {
  std::vector<std::string> dry = arguments();
  dry.emplace_back("--dry-run");
  EXPECT_EQ(run_program("gf-dist-train", dry).status, 0);
  for (const char* streams : {">/dev/full", ">&-"}) {
    SCOPED_TRACE(streams);
    const ProgramResult result = run_with_streams(streams, "gf-dist-train", dry);
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("gf-dist-train: cannot write to standard output: "), std::string::npos) << result.err;
  }
  EXPECT_FALSE(fs::exists(run("0")));
}

// Nor is a note, of which there is one here.
TEST_F(Programs, ANoteThatCannotBeWrittenEndsNothing) {
  const Options options = {{"train.max_steps", "3"}, {"parallel.trace_steps", "1"}};
  fs::create_directories(run("0") / "trace.json");
  const ProgramResult result = run_with_streams("2>/dev/full", "gf-dist-train", arguments(options));
  EXPECT_EQ(result.status, 0);
  EXPECT_NE(result.out.find("done: 3 steps"), std::string::npos) << result.out;
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 3);
}

#if !defined(GF_SANITIZED)  // which wants no library before its own
TEST_F(Programs, NoTimeOfARunDependsOnTheWallClock) {
  const Environment jumps = {{"LD_PRELOAD", GF_JUMPING_CLOCK}};
  const ProgramResult date = run_program("/bin/bash", {"-c", "date +%s"}, jumps);
  ASSERT_LT(std::stoll(date.out), std::time(nullptr) - 1800) << "the clock does jump";
  const Stopwatch watch;
  trained({{"train.max_steps", "5"}}, jumps);
  const double all = watch.seconds();
  double sum = 0;
  const auto steps = read_metrics(run("0") / "metrics.jsonl");
  ASSERT_EQ(steps.size(), 5u);
  for (const StepMetrics& m : steps) {
    EXPECT_GT(m.step_s, 0);
    EXPECT_GT(m.tokens_per_s, 0);
    sum += m.step_s;
  }
  EXPECT_LT(sum, all);
}
#endif

TEST_F(Programs, ATraceOfSomeStepsChangesNoBit) {
  const Outcome plain = trained({{"train.max_steps", "5"}});
  expect_same(trained({{"train.max_steps", "5"}, {"train.proj_suffix", "traced"}, {"parallel.trace_steps", "3"}}),
              plain);
  EXPECT_FALSE(fs::exists(run("0") / "trace.json"));
  const auto page = nlohmann::json::parse(read_file(run("traced") / "trace.json"));
  std::map<std::string, int> calls;
  for (const auto& e : page.at("traceEvents")) {
    if (e.at("ph") != "X") continue;
    ++calls[e.at("name").get<std::string>()];
    EXPECT_GE(e.at("dur").get<double>(), 0);
  }
  EXPECT_EQ(calls["adamw"], 3);
  for (const char* once : {"step", "data", "agree", "optimizer"}) EXPECT_EQ(calls[once], 3) << once;
  EXPECT_GT(calls["wkv6"], 0);
  EXPECT_EQ(calls["wkv6 backward"], calls["wkv6"]);
  EXPECT_EQ(calls["head_loss backward"], calls["forward"]);
}

// A damaged trace is told of and refused, as damaged metrics are; one of another version is left out.
TEST_F(Programs, AReportOfADamagedTrace) {
  trained({{"train.max_steps", "3"}, {"parallel.trace_steps", "1"}});
  const fs::path trace = run("0") / "trace.json";
  ASSERT_EQ(run_program("gf", {"report", run("0")}).status, 0);
  const std::string whole = read_file(trace);
  write_file(trace, whole.substr(0, whole.size() / 2));
  const ProgramResult damaged = run_program("gf", {"report", run("0")});
  EXPECT_EQ(damaged.status, 2);
  EXPECT_NE(damaged.err.find("trace.json is not JSON"), std::string::npos) << damaged.err;
  write_file(trace, R"({"displayTimeUnit": "ms", "traceEvents": []})");
  const ProgramResult old = run_program("gf", {"report", run("0")});
  EXPECT_EQ(old.status, 0);
  EXPECT_NE(old.err.find("was written by another version of gf-dist-train"), std::string::npos) << old.err;
  EXPECT_NE(read_file(run("0") / "report.html").find("another version of gf-dist-train"), std::string::npos);
}

// Neither what it is about nor the run is lost where a trace cannot be written.
TEST_F(Programs, ATraceThatCannotBeWrittenEndsNothing) {
  fs::create_directories(run("0") / "trace.json");
  const ProgramResult result = train({{"train.max_steps", "5"}, {"parallel.trace_steps", "1"}});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.err.find("trace.json is a folder"), std::string::npos) << result.err;
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 5);
  write_file(folder_ / "victim", "precious");
  fs::remove(run("0") / "trace.json");
  fs::create_symlink(folder_ / "victim", run("0") / "trace.json");
  const ProgramResult linked = train({{"train.max_steps", "8"}, {"parallel.trace_steps", "1"}});
  EXPECT_EQ(linked.status, 0) << linked.err;
  EXPECT_NE(linked.err.find("trace.json is a symbolic link"), std::string::npos) << linked.err;
  EXPECT_EQ(read_file(folder_ / "victim"), "precious");
}

TEST_F(Programs, AFailedValidationLosesNoStep) {
  const std::string data = data_set("validation", random_tokens(400, 65, 2));
  const Options endless = {{"train.max_steps", "0"},
                           {"train.my_exit_tokens", "1000000000"},
                           {"train.validation_data_file", data},
                           {"train.val_check_interval", "10"}};
  Process process("gf-dist-train", arguments(endless), {{"OMP_NUM_THREADS", "1"}});
  ASSERT_TRUE(process.wait_until([&] { return count_lines(metrics_text("0")) > 12; }));
  fs::resize_file(data + ".bin", 100);
  const ProgramResult result = process.wait();
  EXPECT_NE(result.status, 0);
  EXPECT_NE(result.err.find("validation.bin"), std::string::npos) << result.err;
  const auto newest = newest_checkpoint(checkpoints("0"));
  ASSERT_TRUE(newest) << result.err;
  EXPECT_EQ(newest->step, count_lines(metrics_text("0")));
  EXPECT_EQ(newest->step % 10, 0);
}

TEST_F(Programs, StopsInTimeAndSavesByTheClock) {
  const Options endless = {{"train.max_steps", "0"}, {"train.my_exit_tokens", "1000000000"}};
  Options limited = endless;
  limited["train.max_minutes"] = "0.05";
  limited["train.save_every_minutes"] = "0.001";
  const ProgramResult result = train(limited);
  EXPECT_EQ(result.status, 75) << result.err;
  EXPECT_NE(result.out.find("stopped by train.max_minutes after step"), std::string::npos) << result.out;
  size_t saves = 0;
  for (size_t at = 0; (at = result.out.find("\nsaved ", at)) != std::string::npos; ++at) ++saves;
  EXPECT_GE(saves, 3u) << result.out;
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, count_lines(metrics_text("0")));
}

// Also of one that is under way when the last one begins.
TEST_F(Programs, EverySaveIsToldOf) {
  const ProgramResult result = train({{"train.save_every_steps", "3"}, {"train.max_steps", "8"}});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const int step : {3, 6, 8}) {
    const std::string name = step_folder_name(step);
    EXPECT_TRUE(fs::exists(checkpoints("0") / name)) << name;
    EXPECT_NE(result.out.find(cat("/checkpoints/", name, " in ")), std::string::npos) << name << result.out;
  }
}

// What a run once began from may be gone, or have another name.
TEST_F(Programs, ARunThatGoesOnNeedsNothingOfLoadModel) {
  trained({{"train.proj_suffix", "from"}, {"train.max_steps", "2"}});
  const fs::path from = run("from"), gone = folder_ / "gone";
  const Options load = {{"train.load_model", from.string()}, {"train.warmup_steps", "0"}};
  const auto until = [&](const char* steps, const std::string& name) {
    Options options = load;
    options["train.max_steps"] = steps;
    options["train.load_model"] = name;
    return options;
  };
  trained(until("2", from.string()));
  trained(until("3", from.string() + "/."));
  fs::rename(from, gone);
  trained(until("4", from.string()));
  const ProgramResult other = train(until("5", gone.string()));
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find("train.load_model is " + gone.string()), std::string::npos) << other.err;
}

// As docs/running.md has it, but for the width; stage 1 checks all that a run does, and takes no step.
TEST_F(Programs, OwnTextWithTheShippedConfigs) {
  fs::create_directory(folder_ / "texts");
  for (const char name : {'a', 'b', 'c', 'd', 'e', 'f'})
    write_file(folder_ / "texts" / cat(name, ".txt"), std::string(20000, name));
  const std::string data = folder_ / "mine", held = folder_ / "mine_validation";
  const ProgramResult made = run_program("gf", {"data", "tokenize", "--vocab", "byte", "--out", data, "--validation",
                                                "0.5", "--validation-out", held, folder_ / "texts"});
  ASSERT_EQ(made.status, 0) << made.err;
  const std::string configs = GF_SOURCE_DIR "/configs/";
  for (const char* model : {"goldfinch", "finch", "llama"}) {
    const ProgramResult result =
        run_program("gf-dist-train",
                    {"-c", configs + "L6D768minipile.yaml", "-c", cat(configs, model, ".yaml"), "--train.data_file",
                     data, "--train.validation_data_file", held, "--model.vocab_size", "257", "--model.n_embd", "64",
                     "--train.train_stage", "1", "--train.warmup_steps", "0", "--train.proj_dir", folder_ / "out"});
    EXPECT_EQ(result.status, 0) << model << result.err;
  }
}

TEST_F(Programs, StageOneWritesFreshParametersAndStops) {
  const ProgramResult first = train({{"train.train_stage", "1"}, {"train.data_file", ""}});
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 0);
  EXPECT_EQ(metrics_text("0"), "");
  const Outcome fresh = outcome("0");
  // The same, however they will be trained.
  train({{"train.train_stage", "1"}, {"train.proj_suffix", "other"}, {"train.micro_bsz", "7"}, {"train.lr_init", "1"}},
        {{"OMP_NUM_THREADS", "2"}});
  EXPECT_TRUE(outcome("other").state == fresh.state);
  train({{"train.train_stage", "1"}, {"train.proj_suffix", "seed"}, {"train.seed_everything", "2"}});
  EXPECT_FALSE(outcome("seed").state == fresh.state);
  // Another time there is nothing to do, and then the run is trained from there.
  const ProgramResult again = train({{"train.train_stage", "1"}});
  EXPECT_EQ(again.status, 0);
  EXPECT_NE(again.out.find("nothing to do"), std::string::npos) << again.out;
  expect_same(trained(), trained({{"train.proj_suffix", "direct"}}));
}

TEST_F(Programs, LoadModelFromEveryKindOfFile) {
  trained({{"train.proj_suffix", "from"}, {"train.max_steps", "3"}});
  const fs::path step = newest_checkpoint(checkpoints("from"))->path;
  const std::string file = folder_ / "from.safetensors", imported = folder_ / "imported", torch = folder_ / "from.pth",
                    cut = folder_ / "cut.safetensors", index = cut + ".index.json";
  ASSERT_EQ(run_program("gf", {"ckpt", "export", run("from"), file}).status, 0);
  ASSERT_EQ(run_program("gf", {"ckpt", "export", run("from"), cut, "--max-shard-size", "100KB"}).status, 0);
  EXPECT_TRUE(fs::exists(index) && !fs::exists(cut)) << "cut into two or more";
  write_file(torch, pth::pth_of(CheckpointReader(step)));
  ASSERT_EQ(run_program("gf", {"ckpt", "import", file, imported}).status, 0);
  const Outcome whole = trained({{"train.load_model", step}, {"train.proj_suffix", "step"}});
  EXPECT_EQ(whole.metrics.size(), 12u) << "a run that loads a model begins with step 0";
  int count = 0;
  for (const std::string& from : {run("from").string(), (step / kIndexFile).string(), file, imported, index, torch}) {
    SCOPED_TRACE(from);
    const std::string suffix = std::to_string(++count);
    expect_same(trained({{"train.load_model", from}, {"train.proj_suffix", suffix}}), whole);
  }
  EXPECT_FALSE(trained({{"train.proj_suffix", "fresh"}}).state == whole.state);
}

TEST_F(Programs, LoadPartOfAModel) {
  configs_ = {"finch"};
  trained({{"train.proj_suffix", "finch"}, {"train.max_steps", "3"}});
  configs_ = {"goldfinch_upgrade"};
  const ProgramResult result = train({{"train.load_model", run("finch")}});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("fresh ones for those it lacks"), std::string::npos) << result.out;
}

// What a run began from goes with it: its warm-up, and the right to go on without naming it again.
TEST_F(Programs, GoOnAfterLoadModel) {
  trained({{"train.proj_suffix", "from"}, {"train.max_steps", "3"}});
  const Options load = {{"train.load_model", run("from")}};
  options_["train.max_steps"] = "12";
  Options whole = load, first = load;
  whole["train.proj_suffix"] = "whole";
  first["train.max_steps"] = "4";
  const Outcome expected = trained(whole);
  trained(first);
  trained({{"train.max_steps", "8"}});
  expect_same(trained(load), expected);
  EXPECT_DOUBLE_EQ(nlohmann::json::parse(expected.metrics[0])["lr"], 0.2 * 6e-4) << "the first of ten steps of warm-up";

  trained({{"train.proj_suffix", "elsewhere"}, {"train.max_steps", "1"}});
  const ProgramResult other = train({{"train.load_model", run("elsewhere")}});
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find(run("elsewhere")), std::string::npos) << other.err;
  EXPECT_NE(other.err.find(run("from")), std::string::npos) << other.err;
}

TEST_F(Programs, ALossThatIsNotFiniteEndsTheRun) {
  const ProgramResult result = train({{"train.lr_init", "1e30"}, {"train.save_every_steps", "1"}});
  EXPECT_EQ(result.status, 1);
  EXPECT_TRUE(std::regex_search(
      result.err, std::regex("step 1: the loss is (nan|infinite); (blocks\\.\\d|head) is the first layer")))
      << result.err;
  EXPECT_NE(result.err.find("\n  try: a smaller --train.lr_init"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("the newest checkpoint is " + (checkpoints("0") / "step-00000001").string()),
            std::string::npos);
  EXPECT_EQ(count_lines(metrics_text("0")), 1);
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 1);
  CheckpointReader(checkpoints("0")).verify();
}

TEST_F(Programs, SavesLeaveAndTellOfWhatIsNotTheirs) {
  trained({{"train.max_steps", "2"}});
  write_file(checkpoints("0") / "step-00000002/notes.txt", "mine");
  fs::create_directory(folder_ / "elsewhere");
  fs::create_symlink(folder_ / "elsewhere", checkpoints("0") / "step-00000004.partial");
  const ProgramResult result = train({{"train.max_steps", "4"}, {"train.keep_checkpoints", "1"}});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(count_lines(result.err), 2) << result.err;
  EXPECT_NE(result.err.find("step-00000004.partial is a symbolic link"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("step-00000002 holds notes.txt"), std::string::npos) << result.err;
  EXPECT_EQ(read_file(checkpoints("0") / "step-00000002/notes.txt"), "mine");
  EXPECT_TRUE(fs::is_empty(folder_ / "elsewhere"));
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 4);
}

// A limit on the size of files stands for a full disk. It is seen before the first write; for a disk that is full in
// the middle of a save see tests/io/checkpoint_writer_test.cpp.
TEST_F(Programs, ASaveThatFailsLeavesTheCheckpointBefore) {
  const Outcome whole = trained({{"train.proj_suffix", "whole"}});
  trained({{"train.max_steps", "4"}});
  std::vector<std::string> words = {"-c", "ulimit -f 64 && exec \"$@\"", "bash", cat(GF_BIN_DIR, "/gf-dist-train")};
  for (const std::string& word : arguments({{"train.max_steps", "8"}})) words.push_back(word);
  const ProgramResult full = run_program("/bin/bash", words, {{"OMP_NUM_THREADS", "1"}});
  EXPECT_EQ(full.status, 1) << full.err;
  EXPECT_TRUE(full.err.starts_with("gf-dist-train: the checkpoint of step 8 was not written: ")) << full.err;
  EXPECT_NE(full.err.find("the checkpoints before it are whole"), std::string::npos) << full.err;
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 4);
  CheckpointReader(checkpoints("0")).verify();
  EXPECT_FALSE(fs::exists(checkpoints("0") / "step-00000008.partial"));
  expect_same(trained(), whole);
}

#ifdef GF_PYTHON_WITH_H5PY
TEST_F(Programs, H5pySeesWhatARunSaved) {
  trained({{"train.max_steps", "3"}});
  const std::string file = folder_ / "exported.safetensors";
  ASSERT_EQ(run_program("gf", {"ckpt", "export", run("0"), file}).status, 0);
  const fs::path index = newest_checkpoint(checkpoints("0"))->path / kIndexFile;
  const ProgramResult result =
      run_program(GF_PYTHON_WITH_H5PY, {cat(GF_SOURCE_DIR, "/tests/end_to_end/checkpoint_h5py.py"), index, file});
  EXPECT_EQ(result.status, 0) << result.out << result.err;
}
#endif

}  // namespace
}  // namespace gf
