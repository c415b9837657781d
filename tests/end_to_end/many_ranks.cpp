// SPDX-License-Identifier: Apache-2.0
#include "end_to_end/many_ranks.h"

#include <cmath>
#include <sstream>

#include "base/error.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "support/run_program.h"

namespace gf {

ManyRanks::ManyRanks() {
  options_["model.n_layer"] = "6";
  options_["train.accumulate_grad_batches"] = "4";
  options_["train.max_steps"] = "5";
  options_["train.grad_cp"] = "0";
}

namespace {

// PMIX_MCA_psec: else mpirun waits two seconds for munge where that is installed and not running.
Environment with_mpi(Environment more) {
  more.merge(Environment{
      {"ASAN_OPTIONS", "detect_leaks=0"},  // Open MPI leaves memory behind, from modules that are gone by then
      {"OMP_NUM_THREADS", "1"},
      {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
      {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
      {"PMIX_MCA_psec", "native"}});
  return more;
}

}  // namespace

// What stands behind mpirun.
std::vector<std::string> ManyRanks::words_on(int ranks, const std::string& program,
                                             const std::vector<std::string>& arguments, const std::string& before) {
  std::vector<std::string> words = {"-n", std::to_string(ranks), "--oversubscribe", "--bind-to", "none"};
  if (!before.empty()) words.insert(words.end(), {"sh", "-c", before + R"(; exec "$0" "$@")"});
  words.push_back(cat(GF_BIN_DIR, "/", program));
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

ProgramResult ManyRanks::run_on(int ranks, const std::string& program, const std::vector<std::string>& words) {
  return run_program(GF_MPIEXEC, words_on(ranks, program, words), with_mpi({}));
}

ProgramResult ManyRanks::train_on(int ranks, const Options& changes, const Environment& more) const {
  return run_program(GF_MPIEXEC, words_on(ranks, "gf-dist-train", arguments(changes)), with_mpi(more));
}

ProgramResult ManyRanks::train_beside(const std::string& before, const Options& changes,
                                      const std::string& first) const {
  return run_program(GF_MPIEXEC,
                     words_on(2, "gf-dist-train", arguments(changes),
                              cat("if [ \"$OMPI_COMM_WORLD_RANK\" = 1 ]; then ", before, "; else ", first, "; fi")),
                     with_mpi({}));
}

Process ManyRanks::start_local(const Options& changes) const {
  std::vector<std::string> words = arguments(changes);
  words.insert(words.begin(), "2");
  return {cat(GF_SOURCE_DIR, "/launch/local.sh"), words, with_mpi({{"GF_BIN", GF_BIN_DIR}})};
}

ProgramResult ManyRanks::train_on_nodes(const std::vector<std::string>& nodes, const Options& changes) const {
  std::string names;
  for (const std::string& node : nodes) names += " " + node;
  const std::string before =
      cat("export SLURMD_NODENAME=$(echo", names, " | cut -d ' ' -f $((OMPI_COMM_WORLD_RANK + 1)))");
  return run_program(GF_MPIEXEC, words_on(static_cast<int>(nodes.size()), "gf-dist-train", arguments(changes), before),
                     with_mpi({}));
}

Process ManyRanks::start_on(int ranks, const Options& changes) const {
  return {GF_MPIEXEC, words_on(ranks, "gf-dist-train", arguments(changes)), with_mpi({})};
}

std::vector<nlohmann::json> ManyRanks::metrics(const std::string& suffix) const {
  std::vector<nlohmann::json> all;
  std::istringstream lines(metrics_text(suffix));
  for (std::string line; std::getline(lines, line);) all.push_back(nlohmann::json::parse(line));
  return all;
}

std::map<std::string, std::vector<float>> ManyRanks::state(const std::string& suffix) const {
  const CheckpointReader reader(newest_checkpoint(checkpoints(suffix))->path);
  std::map<std::string, std::vector<float>> all;
  for (const auto& e : reader.entries()) {
    auto& values = all[e.name];
    values.resize(e.shape.numel());
    const ShardView view{e.name, DType::f32, e.shape, 0, e.shape.numel(), reinterpret_cast<std::byte*>(values.data())};
    reader.read(std::span(&view, 1));
  }
  return all;
}

void ManyRanks::expect_close(const std::string& suffix, const std::string& want) const {
  const auto got = metrics(suffix), one = metrics(want);
  ASSERT_EQ(got.size(), one.size());
  for (size_t i = 0; i < got.size(); ++i) {
    for (const char* key : {"loss", "grad_norm", "lr"}) {
      const double value = one[i].at(key);
      EXPECT_NEAR(got[i].at(key).get<double>(), value, 2e-5 * std::fabs(value)) << key << " of step " << i;
    }
  }
}

}  // namespace gf
