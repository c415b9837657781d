// SPDX-License-Identifier: Apache-2.0
// gf-dist-train under mpirun where something goes wrong, on one rank or all: it is told once, and nothing hangs.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <regex>
#include <thread>

#include "base/error.h"
#include "end_to_end/many_ranks.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "support/files.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

// What only one rank finds wrong in the middle of a validation does not cost the steps before it.
TEST_F(ManyRanks, AFailedValidationLosesNoStep) {
  const std::string data = data_set("validation", random_tokens(400, 65, 2));
  const Options changes = {{"train.max_steps", "100000"},      {"train.my_exit_tokens", "1000000000"},
                           {"parallel.pipeline", "2"},         {"train.validation_data_file", data},
                           {"train.val_check_interval", "10"}, {"train.log_every_n_steps", "1000"}};
  Process job = start_on(2, changes);
  ASSERT_TRUE(job.wait_until([&] { return metrics("0").size() > 12; })) << job.wait().err;
  fs::resize_file(data + ".bin", 100);
  const ProgramResult result = job.wait();
  EXPECT_NE(result.status, 0);
  EXPECT_NE(result.err.find("validation.bin"), std::string::npos) << result.err;
  const auto newest = newest_checkpoint(checkpoints("0"));
  ASSERT_TRUE(newest) << result.err;
  EXPECT_EQ(newest->step, std::ssize(metrics("0")));
  EXPECT_EQ(newest->step % 10, 0);
}

// The last step spreads new parameters that no step waits for. Over a link that is still at it when the run is done, or
// when all end because of an error, they come to their end: MPI cannot call back what all ranks take part in.
TEST_F(ManyRanks, WhatIsOnItsWayComesToItsEnd) {
  const Environment slow_link = {{"OMPI_MCA_pml", "ob1"},
                                 {"OMPI_MCA_btl", "tcp,self"},
                                 {"OMPI_MCA_btl_tcp_sndbuf", "4096"},
                                 {"OMPI_MCA_btl_tcp_rcvbuf", "4096"},
                                 {"OMPI_MCA_btl_tcp_flags", "1"},
                                 {"OMPI_MCA_btl_tcp_max_send_size", "8192"}};
  for (const char* zero : {"1", "2"}) {
    const ProgramResult result = train_on(2,
                                          {{"model.n_layer", "3"},
                                           {"model.n_embd", "64"},
                                           {"model.vocab_size", "16384"},
                                           {"train.max_steps", "1"},
                                           {"parallel.zero", zero},
                                           {"train.proj_suffix", zero}},
                                          slow_link);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("done: 1 steps"), std::string::npos) << result.out;
    EXPECT_EQ(result.err, "");
  }
  // A token that is none of the vocabulary's, which the first steps do not come upon.
  std::vector<uint16_t> tokens = random_tokens(3000, 65);
  tokens[1500] = 65;
  const ProgramResult bad = train_on(2, {{"train.data_file", data_set("bad", tokens)}, {"train.max_steps", "100"}});
  EXPECT_EQ(bad.status, 2) << bad.err;
  EXPECT_EQ(count_lines(bad.err.substr(0, bad.err.find("(rank "))), 2) << bad.err;
  EXPECT_GT(metrics("0").size(), 0u);
}

// Before the first step, too: while the configuration is read, and where ranks are asked for different things.
TEST_F(ManyRanks, AHangAtTheStartEndsTheJob) {
  const std::string fifo = folder_ / "fifo.yaml";
  const ProgramResult waits =
      train_beside(cat("mkfifo ", fifo, "; set -- -c ", fifo), {{"parallel.hang_seconds", "3"}});
  EXPECT_EQ(waits.status, 1) << waits.err;
  EXPECT_NE(waits.err.find("rank 0 of 2, node "), std::string::npos) << waits.err;
  EXPECT_NE(waits.err.find("waiting for an all-gather among all 2 ranks"), std::string::npos) << waits.err;
  const ProgramResult helps = train_beside("set -- --help", {{"parallel.hang_seconds", "60"}});
  EXPECT_EQ(helps.status, 2) << helps.err;
  EXPECT_NE(helps.err.find("\"--help or --version\" and \"a run\""), std::string::npos) << helps.err;
}

// Those that wait for a rank that hangs say for whom, by the launcher's number: the last one is the second of its stage
// and of its pipeline. (Stopped halfway through a step of many microbatches, where not all ranks wait for one another.)
TEST_F(ManyRanks, AHangEndsTheJob) {
  const Options changes = {{"train.max_steps", "100000"},
                           {"train.my_exit_tokens", "10000000000"},
                           {"train.accumulate_grad_batches", "400"},
                           {"parallel.pipeline", "2"},
                           {"parallel.hang_seconds", "6"}};
  Process job = start_on(4, changes);
  ASSERT_TRUE(job.wait_until([&] { return metrics("0").size() > 1; }));
  const auto ranks = job.children();
  ASSERT_EQ(ranks.size(), 4u);
  std::this_thread::sleep_for(std::chrono::duration<double>(metrics("0").back().at("step_s").get<double>() / 2));
  kill(ranks[3], SIGSTOP);
  const ProgramResult result = job.wait();
  EXPECT_EQ(result.status, 1) << result.err;
  // Rank 1 is below it in a pipeline, rank 2 has the same stage.
  EXPECT_TRUE(std::regex_search(
      result.err, std::regex("rank (1 of 4, node .*, stage 0 of 2, .*step [0-9]+, .*waiting for a message (from|to) "
                             "rank 3 on |2 of 4, node .*, stage 1 of 2, .*step [0-9]+, .*waiting for an "
                             "all-(gather|to-all) among rank 2 on .*, rank 3 on )")))
      << result.err;
}

// In a log file there are plain lines, though Open MPI gives the first rank a terminal.
TEST_F(ManyRanks, ALogGetsPlainLines) {
  const ProgramResult result = train_on(2, {{"train.max_steps", "6"}, {"train.log_every_n_steps", "2"}});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out.find('\x1b'), std::string::npos) << result.out;
  for (const char* line : {"\nstep 2/6 ", "\nstep 4/6 ", "\nstep 6/6 "})
    EXPECT_NE(result.out.find(line), std::string::npos) << line << result.out;
  EXPECT_EQ(result.out.find("\nstep 3/6 "), std::string::npos) << result.out;
}

// What only one rank cannot do ends the job once, with that rank's words, and loses nothing.
TEST_F(ManyRanks, OneThatCannotEndsAll) {
  const auto told_once = [](const ProgramResult& result, const std::string& what) {
    const size_t at = result.err.find(what);
    EXPECT_NE(at, std::string::npos) << what << " is not in: " << result.err;
    EXPECT_EQ(result.err.find(what, at + 1), std::string::npos) << "told twice: " << result.err;
    EXPECT_NE(result.err.find("(rank 1 of 2, node "), std::string::npos) << result.err;
  };
  // From so deep a folder, the way up from the test's own does not lead to the data.
  fs::path deep = folder_ / "deep";
  for (int i = 0; i < 30; ++i) deep /= "d";
  fs::create_directories(deep);
  const ProgramResult no_data =
      train_beside(cat("cd ", deep.string()), {{"train.data_file", fs::relative(folder_ / "data")}});
  EXPECT_EQ(no_data.status, 2) << no_data.err;
  told_once(no_data, "data.idx cannot be read");
  EXPECT_FALSE(fs::exists(folder_ / "out"));

  ASSERT_EQ(train_on(2, {{"train.max_steps", "2"}}).status, 0);
  // The part that rank 1 writes has some 200 KB, the limit is 4 KB; and only rank 0 writes metrics.
  const ProgramResult no_part = train_beside("ulimit -f 8", {});
  EXPECT_EQ(no_part.status, 1);
  told_once(no_part, "the checkpoint of step 5 was not written");
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 2);
  CheckpointReader(checkpoints("0")).verify();
  ASSERT_EQ(train_on(2).status, 0);
  ASSERT_EQ(train_on(2, {{"train.proj_suffix", "whole"}}).status, 0);
  EXPECT_TRUE(state("0") == state("whole"));
}

// Found at the start, not by the first save after hours.
TEST_F(ManyRanks, SeeOneRunFolder) {
  fs::create_directory(folder_ / "elsewhere");
  const ProgramResult result = train_beside(cat("cd ", (folder_ / "elsewhere")), {{"train.proj_dir", "out"}},
                                            cat("cd ", folder_.path().string()));
  EXPECT_EQ(result.status, 2) << result.err;
  const std::string what = "does not see what the first one has made in the run folder out/tiny-0\n";
  const size_t at = result.err.find(what);
  EXPECT_NE(at, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find(what, at + 1), std::string::npos) << "told twice: " << result.err;
  EXPECT_NE(result.err.find("(rank 1 of 2, node "), std::string::npos) << result.err;
  EXPECT_TRUE(fs::is_empty(checkpoints("0")));
}

// Where launchers do not agree with MPI, each process would train alone and write over the others.
TEST_F(ManyRanks, FindEachOtherOrSayHow) {
  const auto refused = [&](Environment environment, const std::string& what) {
    environment["ASAN_OPTIONS"] = "detect_leaks=0";  // see ManyRanks()
    const ProgramResult result = train({}, environment);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_NE(result.err.find(what), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("\n  try: srun --mpi=pmix gf-dist-train ..."), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  };
  refused({{"SLURM_NTASKS", "4"}}, "SLURM_NTASKS is 4, and this is one process that no launcher started");
  const ProgramResult version = run_program("gf-dist-train", {"--version"}, {{"SLURM_NTASKS", "4"}});
  EXPECT_EQ(version.status, 0) << "within an allocation, too: " << version.err;
  const Environment step = {{"SLURM_NTASKS", "4"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}};
  refused(step, "srun started 4 tasks without PMIx");
  Environment pmi = step;
  pmi["PMI_RANK"] = "1";
  refused(pmi, "SLURM_STEP_NUM_TASKS is 4, and MPI finds one process");
  pmi["PMI_SIZE"] = "3";
  refused(pmi, "PMI_SIZE is 3, and MPI finds one process");
  // Within sbatch mpirun has its ranks started by a step of its own, of a task a node, whose words they see.
  for (const int ranks : {1, 2}) {
    const ProgramResult result = train_on(ranks, {{"train.max_steps", "1"}, {"train.proj_suffix", cat(ranks)}}, step);
    EXPECT_EQ(result.status, 0) << result.err;
  }
}

// The same program, a bit of its build id changed; other options.
TEST_F(ManyRanks, AreOneProgramWithOneConfiguration) {
  std::string program = read_file(fs::path(GF_BIN_DIR) / "gf-dist-train");
  const std::string note("\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0", 16);
  const size_t at = program.find(note);
  ASSERT_NE(at, std::string::npos);
  program[at + note.size()] ^= 1;
  const fs::path other = folder_ / "other";
  write_file(other, program);
  fs::permissions(other, fs::perms::owner_all);
  for (const auto& [before, what] : {std::pair(cat("exec ", other.string(), R"( "$@")"),
                                               "the program of rank 1 is not that of rank 0: \"gf-dist-train"),
                                     {R"(set -- "$@" --train.lr_final=3e-5)",
                                      "the configuration of rank 1 is not that of rank 0: \"lr_final: 3e-05\""}}) {
    const ProgramResult result = train_beside(before, {});
    EXPECT_EQ(result.status, 2) << result.err;
    const size_t found = result.err.find(what);
    EXPECT_NE(found, std::string::npos) << what << " is not in: " << result.err;
    EXPECT_EQ(result.err.find("is not that of", found + 1 + std::string(what).size()), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(folder_ / "out"));
  }
}

// Each rank believes its own: a relative path leads the second one to other files, of as many tokens.
TEST_F(ManyRanks, EachHasTheSameData) {
  fs::create_directory(folder_ / "elsewhere");
  const std::string other = data_set("elsewhere/data", random_tokens(3000, 65, 3)),
                    held = data_set("held", random_tokens(400, 65, 2));
  data_set("elsewhere/held", random_tokens(400, 65, 4));
  const Options here = {{"train.data_file", "data"}, {"train.validation_data_file", held}};
  const Options mixed = {{"train.data_file", folder_ / "data"}, {"train.validation_data_file", "held"}};
  for (const auto& [changes, what] : {std::pair(here, "data: 3000 tokens"), std::pair(mixed, "held: 400 tokens")}) {
    const ProgramResult result =
        train_beside(cat("cd ", fs::path(other).parent_path().string()), changes, cat("cd ", folder_.path().string()));
    EXPECT_EQ(result.status, 2) << result.err;
    const size_t at = result.err.find(cat("the data of rank 1 is not that of rank 0: \"", what, ", fingerprint "));
    EXPECT_NE(at, std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("the data of rank 1", at + 1), std::string::npos) << "told twice: " << result.err;
    EXPECT_FALSE(fs::exists(folder_ / "out"));
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
