// SPDX-License-Identifier: Apache-2.0
// What memory a run takes, and what becomes of it where there is too little. Not under the sanitizers, which take more,
// and cannot live with a limit on address space.
#include <regex>

#include "base/error.h"
#include "end_to_end/tiny_training.h"

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
        result.err, std::regex("^gf-dist-train: the run needs [0-9.]+ [GM]B of memory, and there are [0-9.]+ [GM]?B\n"
                               "  try: "));
  }
};

TEST_F(LittleMemory, IsRefusedByWhatTheRunNeeds) {
  const ProgramResult result = train_within(1'000'000, {{"model.n_embd", "1024"}, {"model.n_layer", "12"}});
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_TRUE(says_what_it_needs(result)) << result.err;
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
  EXPECT_NE(result.err.find("try: a higher limit on address space (ulimit -v)"), std::string::npos) << result.err;
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
        result.err, std::regex("^gf " + words[0] +
                               ": the model's [0-9]+ parameters take [0-9.]+ [GM]B of memory, and "
                               "there are [0-9.]+ MB\n  try: a higher limit on address space \\(ulimit -v\\), or a "
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

// Of a run large enough that the libraries' share, which is not reckoned, counts little.
TEST_F(MemoryOfRuns, TakeTheMemoryThatTheBannerSays) {
  const Options wide = {{"model.n_embd", "256"},     {"model.head_size", "64"}, {"model.ctx_len", "256"},
                        {"train.micro_bsz", "8"},    {"model.n_layer", "6"},    {"train.max_steps", "2"},
                        {"model.vocab_size", "4096"}};
  for (const char* grad_cp : {"0", "1"}) {
    Options options = wide;
    options["train.grad_cp"] = grad_cp;
    options["train.proj_suffix"] = grad_cp;
    const ProgramResult result = train(options);
    ASSERT_EQ(result.status, 0) << result.err;
    const double said = megabytes_in(result.out, "memory +([0-9.]+) (MB|GB) in all"),
                 taken = megabytes_in(result.out, "peak memory ([0-9.]+) (MB|GB)");
    EXPECT_GT(taken, 0);
    EXPECT_NEAR(said / taken, 1, 0.1) << "grad_cp " << grad_cp << ": " << said << " MB said, " << taken << " taken";
  }
}

}  // namespace
}  // namespace gf
#endif
