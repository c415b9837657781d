// SPDX-License-Identifier: Apache-2.0
#include "end_to_end/tiny_training.h"

#include <algorithm>
#include <regex>
#include <sstream>

#include "base/error.h"
#include "base/random.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "support/binidx_files.h"
#include "support/files.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

// From ", "step_s"" to the end of the value of "tokens_per_s".
std::string without_times(const std::string& line) {
  const size_t begin = line.find(", \"step_s\""), rate = line.find("\"tokens_per_s\"");
  GF_CHECK(begin != std::string::npos && rate != std::string::npos, "a metrics line without times: ", line);
  return line.substr(0, begin) + line.substr(line.find_first_of(",}", rate));
}

}  // namespace

TinyTraining::TinyTraining() {
  constexpr int kVocab = 65;
  options_ = {{"model.n_layer", "3"},
              {"model.n_embd", "32"},
              {"model.head_size", "16"},
              {"model.ctx_len", "16"},
              {"model.vocab_size", std::to_string(kVocab)},
              {"train.data_file", data_set("data", random_tokens(3000, kVocab))},
              {"train.my_exit_tokens", "100000"},
              {"train.max_steps", "12"},
              {"train.micro_bsz", "2"},
              {"train.proj_dir", folder_ / "out"},
              {"train.proj_name", "tiny"},
              {"train.proj_suffix", "0"}};
}

std::vector<std::string> TinyTraining::arguments(const Options& changes) const {
  std::vector<std::string> all;
  for (const std::string& name : configs_)
    all.insert(all.end(), {"-c", cat(GF_SOURCE_DIR, "/configs/", name, ".yaml")});
  Options options = changes;
  options.insert(options_.begin(), options_.end());
  for (const auto& [key, value] : options) all.push_back(cat("--", key, "=", value));
  return all;
}

ProgramResult TinyTraining::train(const Options& changes, const Environment& environment) const {
  Environment with_threads = environment;
  with_threads.insert({{"OMP_NUM_THREADS", "1"}, {"OMP_WAIT_POLICY", "passive"}});
  return run_program("gf-dist-train", arguments(changes), with_threads);
}

Outcome TinyTraining::trained(const Options& changes, const Environment& environment) const {
  const ProgramResult result = train(changes, environment);
  EXPECT_EQ(result.status, 0) << result.err;
  if (result.status != 0) return {};
  const auto suffix = changes.find("train.proj_suffix");
  return outcome(suffix == changes.end() ? options_.at("train.proj_suffix") : suffix->second);
}

std::string TinyTraining::metrics_text(const std::string& suffix) const {
  const fs::path path = run(suffix) / "metrics.jsonl";
  return fs::exists(path) ? read_file(path) : "";
}

Outcome TinyTraining::outcome(const std::string& suffix) const {
  const auto newest = newest_checkpoint(checkpoints(suffix));
  GF_CHECK(newest, "no checkpoint in ", checkpoints(suffix).string());
  Outcome result{{}, read_file(newest->path / part_file_name(0, 1))};
  std::istringstream lines(metrics_text(suffix));
  for (std::string line; std::getline(lines, line);) result.metrics.push_back(without_times(line));
  return result;
}

std::string TinyTraining::data_set(const std::string& name, const std::vector<uint16_t>& tokens) const {
  write_binidx<uint16_t>(folder_ / name, tokens, 8);
  return folder_ / name;
}

std::vector<uint16_t> TinyTraining::random_tokens(size_t count, uint64_t vocab_size, uint64_t seed) {
  const Random random(seed, "tokens");
  std::vector<uint16_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<uint16_t>(random.bits(i) % vocab_size);
  return tokens;
}

void expect_same(const Outcome& got, const Outcome& want) {
  EXPECT_EQ(got.metrics, want.metrics);
  EXPECT_FALSE(want.metrics.empty());
  EXPECT_FALSE(want.state.empty());
  EXPECT_TRUE(got.state == want.state) << "the parameters or moments differ";
}

double megabytes_in(const std::string& text, const std::string& pattern) {
  std::smatch found;
  if (!std::regex_search(text, found, std::regex(pattern))) return 0;
  return std::stod(found[1]) * (found[2] == "GB" ? 1000 : 1);
}

int count_lines(const std::string& text) {
  return static_cast<int>(std::ranges::count(text, '\n'));
}

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> all;
  if (!fs::exists(folder)) return all;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    all[entry.path().string()] = entry.is_regular_file() ? read_file(entry.path()) : "";
  return all;
}

}  // namespace gf
