// SPDX-License-Identifier: Apache-2.0
// What memory a run takes, and what becomes of it where there is too little. Not under the sanitizers, which take more,
// and cannot live with a limit on address space.
#include <sys/resource.h>

#include <fstream>
#include <regex>

#include "base/error.h"
#include "end_to_end/tiny_training.h"
#include "support/files.h"
#include "support/temp_folder.h"

#if !defined(GF_SANITIZED)
namespace gf {
namespace {

using MemoryOfRuns = TinyTraining;

class LittleMemory : public TinyTraining {
 protected:
  static ProgramResult run_within(int64_t kilobytes, const char* program, const std::vector<std::string>& arguments) {
    std::vector<std::string> words = {"-c", cat("ulimit -v ", kilobytes, " && exec \"$@\""), "bash",
                                      cat(GF_BIN_DIR, "/", program)};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_program("/bin/bash", words, {{"OMP_NUM_THREADS", "1"}});
  }
  ProgramResult train_within(int64_t kilobytes, const Options& options) const {
    return run_within(kilobytes, "gf-dist-train", arguments(options));
  }
  static bool says_what_it_needs(const ProgramResult& result) {
    return std::regex_search(
        result.err, std::regex("^gf-dist-train: the run needs [0-9.]+ [GM]B of memory, and there are [0-9.]+ [GM]?B"
                               "(: of the [0-9.]+ MB of address space that ulimit -v allows [^\n]+)?\n"
                               "  try: a higher limit on address space \\(ulimit -v [0-9]+\\)"));
  }
  // The limit that a message says would do, in kB; 0 where it says none.
  static int64_t limit_in(const std::string& message) {
    std::smatch found;
    const std::regex limit("a higher limit on address space \\(ulimit -v ([0-9]+)\\)");
    return std::regex_search(message, found, limit) ? std::stoll(found[1]) : 0;
  }
};

TEST_F(LittleMemory, IsRefusedByWhatTheRunNeeds) {
  const ProgramResult result = train_within(1'000'000, {{"model.n_embd", "1024"}, {"model.n_layer", "12"}});
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_TRUE(says_what_it_needs(result)) << result.err;
}

// By a limit far too low, and by one that leaves something.
TEST_F(LittleMemory, WhatIsSaidToBeEnoughIs) {
  for (const int64_t megabytes : {250, 350}) {
    const Options options = {{"train.max_steps", "2"}, {"train.proj_suffix", cat(megabytes)}};
    const ProgramResult little = train_within(megabytes * 1000, options);
    EXPECT_TRUE(says_what_it_needs(little)) << little.err;
    const ProgramResult enough = train_within(limit_in(little.err), options);
    EXPECT_EQ(enough.status, 0) << enough.err;
  }
}

// However much there is, a run is refused or comes to its end, saving too: HDF5 survives no lack of memory.
TEST_F(LittleMemory, IsFoundBeforeTheRun) {
  bool refused = false, ended = false;
  for (int64_t megabytes = 200; megabytes <= 700; megabytes += 25) {
    const ProgramResult result = train_within(
        megabytes * 1000,
        {{"train.max_steps", "2"}, {"train.proj_suffix", cat(megabytes)}, {"train.save_every_steps", "1"}});
    ASSERT_TRUE(result.status == 0 || (result.status == 2 && says_what_it_needs(result)))
        << megabytes << " MB: " << result.status << " " << result.err;
    (result.status == 0 ? ended : refused) = true;
  }
  EXPECT_TRUE(refused && ended);
}

// gf eval starts no threads that would need room, and says what is short: the limit, which no smaller window mends.
TEST_F(LittleMemory, OfAnEvaluationNamesTheLimit) {
  trained({{"train.max_steps", "1"}});
  const std::string data = data_set("held", random_tokens(400, 65));
  const auto eval = [&](int64_t kilobytes) {
    return run_within(kilobytes, "gf", {"eval", "--checkpoint", run("0"), "--data", data});
  };
  const ProgramResult enough = eval(300'000);
  EXPECT_EQ(enough.status, 0) << enough.err;
  // With ever less: what comes before libraries fail is what the check keeps free.
  ProgramResult result = enough;
  for (int64_t kilobytes = 290'000; kilobytes > 0 && result.status == 0; kilobytes -= 10'000) result = eval(kilobytes);
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_GT(limit_in(result.err), 0) << result.err;
}

// Nor does any program begin to read a model that there is no room for.
TEST_F(LittleMemory, OfAModelNamesBothNumbers) {
  trained({{"train.train_stage", "1"}, {"model.n_embd", "1024"}, {"model.n_layer", "6"}});
  const std::string data = data_set("held", random_tokens(400, 65)), model = run("0");
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"eval", "--checkpoint", model, "--data", data},
           {"generate", "--checkpoint", model, "--vocab", "byte", "--prompt", "a", "--tokens", "1"},
           {"score", "--checkpoint", model, "--vocab", "byte"}}) {
    const ProgramResult result = run_within(300'000, "gf", words);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_TRUE(std::regex_search(
        result.err,
        std::regex("^gf " + words[0] +
                   ": the model's [0-9]+ parameters take [0-9.]+ [GM]B of memory, and "
                   "there are [0-9.]+ MB\n  try: a higher limit on address space \\(ulimit -v [0-9]+\\), or a "
                   "model of at most [0-9]+ parameters")))
        << result.err;
    EXPECT_EQ(result.err.find("train."), std::string::npos) << result.err;
  }
}

// Nothing is kept from step to step, nor of what a trace has of them. Between two late points, 2000 steps apart, what
// a run takes at its beginning is in neither: 300 bytes a step are seen.
TEST_F(MemoryOfRuns, ManyStepsTakeTheMemoryOfAFew) {
  const auto peak = [&](const char* steps, const char* traced = "0") {
    const ProgramResult result = train({{"train.max_steps", steps},
                                        {"train.my_exit_tokens", "100000000"},
                                        {"train.log_every_n_steps", "1000"},
                                        {"parallel.trace_steps", traced},
                                        {"train.proj_suffix", cat(steps, "-", traced)}});
    std::smatch found;
    EXPECT_TRUE(std::regex_search(result.out, found, std::regex("peak memory ([0-9.]+) MB")))
        << result.out << result.err;
    return std::stod(found[1]);
  };
  constexpr double kBeginning = 2, kGrain = 0.5;  // MB, of the heap
  const double few = peak("10"), many = peak("1000");
  EXPECT_LE(many, few + kBeginning);
  EXPECT_LE(peak("3000"), many + kGrain);
  EXPECT_LE(peak("1000", "999"), few + kBeginning);
}

// The largest of all programs that were run so far; ctest gives each test a process of its own.
double peak_of_programs() {
  rusage all{};
  getrusage(RUSAGE_CHILDREN, &all);
  return static_cast<double>(all.ru_maxrss) / 1e3;  // MB
}

// However long a text is, and each of its lines.
TEST(MemoryOfTokenizing, IsThatOfALittleText) {
  const TempFolder folder;
  const auto tokenize = [&](const std::string& name, int lines) {
    // A line at a time: what this process has in memory counts as that of a program that it starts.
    std::ofstream text(folder / name);
    for (int i = 0; i < lines; ++i) text << std::string(50'000, 'a') << '\n';
    text.close();
    const ProgramResult result =
        run_program("gf", {"data", "tokenize", "--vocab", "byte", "--out", folder / (name + "_tokens"), folder / name});
    EXPECT_EQ(result.status, 0) << result.err;
    return peak_of_programs();
  };
  constexpr int kLittle = 400, kMuch = 2000;  // 20 and 100 MB
  constexpr double kGrain = 4;                // MB, of buffers that were not full
  const double little = tokenize("little", kLittle);
  EXPECT_LE(tokenize("much", kMuch), little + kGrain);
}

// Of one whose activations count most, with and without recompute; one of many small tensors, which take HDF5's memory
// to be saved; and one so small that what nobody reckons is half of it. Of one that validates, before all that it saves
// and after some of it; and of a small one on more threads than it has work for.
TEST_F(MemoryOfRuns, TakeTheMemoryThatTheBannerSays) {
  const Options wide = {{"model.n_embd", "256"},     {"model.head_size", "64"}, {"model.ctx_len", "256"},
                        {"train.micro_bsz", "8"},    {"model.n_layer", "6"},    {"train.max_steps", "2"},
                        {"model.vocab_size", "4096"}};
  Options recompute = wide, deep = {{"model.n_layer", "24"}, {"model.n_embd", "64"}, {"train.max_steps", "2"}},
          small = {{"model.n_layer", "4"}, {"model.n_embd", "64"}, {"train.max_steps", "2"}};
  recompute["train.grad_cp"] = "1";
  const Options validates = {{"model.n_embd", "128"},
                             {"model.ctx_len", "512"},
                             {"train.micro_bsz", "8"},
                             {"train.grad_cp", "1"},
                             {"model.n_layer", "4"},
                             {"train.max_steps", "2"},
                             {"train.data_file", data_set("long", random_tokens(9000, 65))},
                             {"train.validation_data_file", data_set("held", random_tokens(8 * 512 + 1, 65, 2))},
                             {"train.val_check_interval", "1"}};
  Options between = validates, never = validates;
  between["train.save_every_steps"] = "1", between["train.max_steps"] = "3";
  never["train.val_check_interval"] = "5";
  for (auto [suffix, options] : std::map<std::string, Options>{{"wide", wide},
                                                               {"recompute", recompute},
                                                               {"deep", deep},
                                                               {"small", small},
                                                               {"small on 64 threads", small},
                                                               {"validates", validates},
                                                               {"validates between saves", between},
                                                               {"validates after its end", never}}) {
    options["train.proj_suffix"] = suffix;
    const bool threads = suffix.ends_with("threads");
    const ProgramResult result = train(options, threads ? Environment{{"OMP_NUM_THREADS", "64"}} : Environment());
    ASSERT_EQ(result.status, 0) << result.err;
    const double said = megabytes_in(result.out, "memory +([0-9.]+) (MB|GB) in all"),
                 taken = megabytes_in(result.out, "peak memory ([0-9.]+) (MB|GB)");
    EXPECT_GT(taken, 0);
    EXPECT_NEAR(said / taken, 1, 0.1) << suffix << ": " << said << " MB said, " << taken << " taken";
  }
}

}  // namespace
}  // namespace gf
#endif
