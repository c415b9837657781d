// SPDX-License-Identifier: Apache-2.0
// launch/train.sbatch and launch/ablate.sbatch among stand-ins for the programs and Slurm's commands: what becomes of
// each end of a run. launch/local.sh before a stand-in for mpirun. launch/setup.sh where there is nothing.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "support/files.h"
#include "support/process.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class Scripts : public testing::Test {
 protected:
  // Found before any other of this name.
  void program(const std::string& name, const std::string& body) const {
    write_file(folder_ / name, cat("#!/bin/sh\n", body, "\n"));
    fs::permissions(folder_ / name, fs::perms::owner_all);
  }
  // Where the programs above come before all others.
  std::string path() const {
    const char* const path = std::getenv("PATH");
    return cat(folder_.path().string(), ":", path ? path : "");
  }
  // The job's output goes to log(), or what else is said. 9 is an array: asked for it as a whole, Slurm shows each of
  // its elements.
  void slurm(const std::string& scontrol, const std::string& output = {}) const {
    const std::string show = cat("echo '   StdOut=", output.empty() ? log() : output, "'");
    program("scontrol", cat("if [ \"$1\" = show ]; then ", show, "; [ \"$3\" != 9 ] || ", show, "; exit; fi\n",
                            "echo \"$@\" >>", requeued(), "; ", scontrol));
  }
  std::string log() const { return folder_ / "log"; }
  std::string requeued() const { return folder_ / "requeued"; }
  std::map<std::string, std::string> environment(std::map<std::string, std::string> more) const {
    more.merge(std::map<std::string, std::string>{
        {"PATH", path()}, {"GF_BIN", folder_.path().string()}, {"TMPDIR", folder_.path().string()}});
    return more;
  }
  TempFolder folder_;
};

class BatchScript : public Scripts {
 protected:
  using Variables = std::map<std::string, std::string>;
  // srun runs one rank; then `after` says what else becomes of it. The run ends with this status.
  ProgramResult run(int status, const std::string& after, const std::string& scontrol, Variables more = {},
                    const std::string& output = {}) const {
    program("gf-dist-train", cat("exit ", status));
    program("srun", cat("while [ \"$1\" != bash ]; do shift; done; SLURM_PROCID=0 \"$@\"; status=$?; ", after,
                        "; exit $status"));
    slurm(scontrol, output);
    more.merge(Variables{{"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NODELIST", "n1"}});
    return Process(cat(GF_SOURCE_DIR, "/launch/train.sbatch"), {}, environment(std::move(more))).wait();
  }
};

// As Slurm does where it requeues a job.
constexpr const char* kTakeAway = "kill -KILL $PPID";

TEST_F(BatchScript, GoesOnInTheQueueWhereItHasSaved) {
  EXPECT_EQ(run(0, ":", kTakeAway).status, 0);
  EXPECT_FALSE(fs::exists(requeued()));
  EXPECT_EQ(run(75, ":", kTakeAway).status, 128 + SIGKILL);
  EXPECT_EQ(read_file(requeued()), "requeue 7\n");
}

// Or its nodes would idle until the time limit.
TEST_F(BatchScript, EndsWhereSlurmDoesNotRequeueIt) {
  EXPECT_EQ(run(75, ":", "exit 1").status, 75);
  EXPECT_EQ(run(1, ":", "exit 1").status, 1);
}

// Killed with the others, the rank that says so may count as lost.
TEST_F(BatchScript, DoesNotTryWrongInputAgain) {
  const ProgramResult result = run(2, "status=137", kTakeAway);
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_NE(result.out.find("wrong input"), std::string::npos) << result.out;
  EXPECT_FALSE(fs::exists(requeued()));
}

// Nor where another rank was the one to say so, and the first was ended with it. srun has the largest of their
// statuses.
TEST_F(BatchScript, ARankThatIsEndedWithTheOthersHasNoSay) {
  const ProgramResult result = run(128 + SIGTERM, "[ $status -gt 2 ] || status=2", kTakeAway);
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_NE(result.out.find("wrong input"), std::string::npos) << result.out;
  EXPECT_FALSE(fs::exists(requeued()));
}

TEST_F(BatchScript, TriesAgainWhereTheFirstRankLeftNoWord) {
  const ProgramResult result = run(0, ": >\"$GF_STATUS\"", "exit 1");
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(read_file(requeued()), "requeue 7\n");
}

// Slurm's own count has all starts in it, also those after a time limit. What counts is whether a try came any further.
TEST_F(BatchScript, GivesUpWhereTheSameFailureComesAgain) {
  const std::string failed = "start    fresh\nstep 3/9\njob 7 ended with status 1\n";
  const auto tried_again = [&](const std::string& before) {
    fs::remove(requeued());
    write_file(log(), before + "job 7 ended with status 1\n");  // the last line is that of the start that ends now
    const ProgramResult result = run(1, ":", kTakeAway);
    EXPECT_NE(result.out.find("job 7 ended with status 1\n"), std::string::npos) << result.out;
    if (!fs::exists(requeued())) {
      EXPECT_EQ(result.status, 1);
      EXPECT_NE(result.out.find("job 7: 3 failures without a checkpoint between them"), std::string::npos)
          << result.out;
    }
    return fs::exists(requeued());
  };
  EXPECT_TRUE(tried_again(""));
  EXPECT_TRUE(tried_again(failed));
  EXPECT_FALSE(tried_again(failed + failed));
  EXPECT_TRUE(tried_again(failed + failed + "saved out/run/checkpoints/step-00000003 in 1.0s\n"));
  EXPECT_TRUE(tried_again(failed + failed + "job 7 has saved, and goes on in the queue\n"));
  EXPECT_FALSE(tried_again("saved out/run/checkpoints/step-00000003 in 1.0s\n" + failed + failed));
}

// /dev/null is as readable as any, and no line is in it. Slurm's count of starts is what is left.
TEST_F(BatchScript, GivesUpAlsoWhereItsLogCannotBeReadBack) {
  const std::string elsewhere = folder_ / "elsewhere";  // a file, which this job does not write
  write_file(elsewhere, "job 8 ended with status 1\n");
  for (const std::string& output : {std::string("/dev/null"), folder_.path().string(), elsewhere}) {
    SCOPED_TRACE(output);
    fs::remove(requeued());
    EXPECT_EQ(run(1, ":", kTakeAway, {{"SLURM_RESTART_COUNT", "1"}}, output).status, 128 + SIGKILL);
    EXPECT_EQ(read_file(requeued()), "requeue 7\n");
    fs::remove(requeued());
    const ProgramResult result = run(1, ":", kTakeAway, {{"SLURM_RESTART_COUNT", "2"}}, output);
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.out.find("job 7: 3 starts, and no log that says"), std::string::npos) << result.out;
    EXPECT_FALSE(fs::exists(requeued()));
  }
}

// The id of its last element is that of the array: by it, all would be killed and requeued.
TEST_F(BatchScript, InAnArrayRequeuesOneElement) {
  const Variables last = {{"SLURM_JOB_ID", "9"}, {"SLURM_ARRAY_JOB_ID", "9"}, {"SLURM_ARRAY_TASK_ID", "1"}};
  EXPECT_EQ(run(75, ":", kTakeAway, last).status, 128 + SIGKILL);
  EXPECT_EQ(read_file(requeued()), "requeue 9_1\n");
  // Its failures are told from those of the others, also in a log that they share.
  fs::remove(requeued());
  const std::string failed = "job 9_1 ended with status 1\n", other = "job 9_10 ended with status 1\n";
  write_file(log(), failed + other + failed);
  EXPECT_EQ(run(1, ":", kTakeAway, last).status, 128 + SIGKILL);
  EXPECT_EQ(read_file(requeued()), "requeue 9_1\n");
  fs::remove(requeued());
  write_file(log(), failed + failed + "job 9_10 has saved, and goes on in the queue\n" + failed);
  const ProgramResult result = run(1, ":", kTakeAway, last);
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.out.find("job 9_1: 3 failures without a checkpoint between them"), std::string::npos) << result.out;
  EXPECT_FALSE(fs::exists(requeued()));
}

TEST_F(BatchScript, NamesTheVariableThatTookAnotherOnesPlace) {
  const ProgramResult result = run(0, ":", kTakeAway, {{"GF_MAX_RESTARTS", "5"}});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err,
            "GF_MAX_RESTARTS has no effect: GF_MAX_FAILURES says after how many failures in a row to give up\n");
}

// Threads that are given are no fewer cores: the system's nproc says OMP_NUM_THREADS where that is set.
TEST_F(Scripts, GivesEachThreadACore) {
  program("gf-dist-train", "");
  program("nproc", "echo ${OMP_NUM_THREADS:-${OMP_THREAD_LIMIT:-8}}");
  program("mpirun", cat("echo $OMP_NUM_THREADS threads: $* >", folder_.path().string(), "/began"));
  const auto began = [&](std::vector<std::string> variables) {
    std::vector<std::string> words = {"-u", "OMP_NUM_THREADS", "-u", "OMP_THREAD_LIMIT"};
    words.insert(words.end(), variables.begin(), variables.end());
    words.insert(words.end(), {cat(GF_SOURCE_DIR, "/launch/local.sh"), "2"});
    const ProgramResult result =
        Process("/usr/bin/env", words, {{"PATH", path()}, {"GF_BIN", folder_.path().string()}}).wait();
    EXPECT_EQ(result.status, 0) << result.err;
    return read_file(folder_ / "began");
  };
  const auto expect = [&](const std::vector<std::string>& variables, const char* threads, const std::string& place) {
    const std::string line = began(variables);
    EXPECT_TRUE(line.starts_with(cat(threads, " threads: "))) << line;
    EXPECT_NE(line.find(cat("-n 2 ", place, " ")), std::string::npos) << line;
  };
  expect({}, "4", "--map-by slot:PE=4 --bind-to core");
  expect({"OMP_NUM_THREADS=1", "OMP_THREAD_LIMIT=1"}, "1", "--map-by slot:PE=1 --bind-to core");
  expect({"OMP_NUM_THREADS=3,2"}, "3,2", "--map-by slot:PE=3 --bind-to core");
  expect({"OMP_NUM_THREADS=5"}, "5", "--oversubscribe --bind-to none");
}

class AblationScript : public Scripts {
 protected:
  // gf lists two runs, and `run` is what it does for one of them. The script as element `index` of the array.
  std::unique_ptr<Process> start(int index, const std::string& run, const std::string& scontrol,
                                 const std::vector<std::string>& options = {"-c", "base.yaml"}) const {
    program("gf", cat("echo \"$@\" >>", called(),
                      "\ncase \"$*\" in *--dry-run) echo 'two variants'; echo 'run --only a --seeds 1  # 3 steps';"
                      "echo 'run --only b --seeds 2  # 3 steps'; exit 0;; esac\n",
                      run));
    slurm(scontrol);
    return std::make_unique<Process>(cat(GF_SOURCE_DIR, "/launch/ablate.sbatch"), options,
                                     environment({{"SLURM_ARRAY_JOB_ID", "9"}, {"SLURM_ARRAY_TASK_ID", cat(index)}}));
  }
  std::string called() const { return folder_ / "called"; }
};

TEST_F(AblationScript, RunsTheOneOfItsIndex) {
  EXPECT_EQ(start(1, "exit 0", kTakeAway)->wait().status, 0);
  EXPECT_EQ(read_file(called()), "ablate -c base.yaml --dry-run\nablate -c base.yaml --only b --seeds 2\n");
  EXPECT_EQ(start(0, "exit 3", kTakeAway)->wait().status, 3);
  EXPECT_FALSE(fs::exists(requeued()));
}

// They choose what is listed; the run itself is named once, by its own.
TEST_F(AblationScript, HasOneRunOfThoseThatWereAskedFor) {
  using Words = std::vector<std::string>;
  for (const Words& asked : {Words{"--seeds", "5,6"}, Words{"--seeds=5,6"}, Words{"--only", "finch", "--only", "b"},
                             Words{"--only=finch", "--seeds", "2", "--only=b"}}) {
    fs::remove(called());
    Words options{"-c", "base.yaml"};
    options.insert(options.end(), asked.begin(), asked.end());
    options.insert(options.end(), {"--train.wandb=", "--model.n_layer", "3"});
    const ProgramResult result = start(1, "exit 0", kTakeAway, options)->wait();
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(read_file(called()), cat("ablate ", joined(options, " "), " --dry-run\n",
                                       "ablate -c base.yaml --train.wandb= --model.n_layer 3 --only b --seeds 2\n"));
  }
}

TEST_F(AblationScript, RefusesAnIndexBeyondTheRuns) {
  const ProgramResult result = start(2, "exit 0", kTakeAway)->wait();
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("there are 2 runs, and no run 2: --array 0-1"), std::string::npos) << result.err;
  EXPECT_EQ(read_file(called()), "ablate -c base.yaml --dry-run\n");
}

TEST_F(AblationScript, GoesOnInTheQueueWhereItHasSaved) {
  EXPECT_EQ(start(1, "exit 75", kTakeAway)->wait().status, 128 + SIGKILL);
  EXPECT_EQ(read_file(requeued()), "requeue 9_1\n");
  EXPECT_EQ(start(1, "exit 75", "exit 1")->wait().status, 75) << "or it would idle until the time limit";
}

// The time limit comes near, or somebody ends the job: gf saves, and its status counts, not that of the signal.
TEST_F(AblationScript, HandsSignalsOn) {
  for (const int signal : {SIGUSR1, SIGTERM}) {
    fs::remove(requeued());
    const std::string ready = folder_ / cat("ready", signal);
    const auto job = start(0, cat("trap 'exit 75' TERM; : >", ready, "; while :; do sleep 0.01; done"), kTakeAway);
    ASSERT_TRUE(job->wait_until([&] { return fs::exists(ready); }));
    job->send(signal);
    EXPECT_EQ(job->wait().status, 128 + SIGKILL);
    EXPECT_EQ(read_file(requeued()), "requeue 9_0\n");
  }
}

// Where it can install nothing it names what cmake/Dependencies.cmake will ask for.
TEST(SetupScript, NamesWhatIsNeeded) {
  const TempFolder tools;
  for (const char* tool : {"bash", "awk", "dirname"}) fs::create_symlink(cat("/usr/bin/", tool), tools / tool);
  const ProgramResult result =
      Process(cat(GF_SOURCE_DIR, "/launch/setup.sh"), {}, {{"PATH", tools.path().string()}}).wait();
  EXPECT_EQ(result.status, 2) << result.err;
  for (const char* name : {"OpenMP", "oneDNN", "MPI", "HDF5", "yaml-cpp", "nlohmann-json", "fmt", "Eigen",
                           "Boost.Program_options", "xxHash", "zlib"})
    EXPECT_NE(result.err.find(name), std::string::npos) << name << ":\n" << result.err;
}

}  // namespace
}  // namespace gf
