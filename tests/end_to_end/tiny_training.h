// SPDX-License-Identifier: Apache-2.0
// Training runs so small that a process takes a fraction of a second, and what remains of them: the base of all
// tests in this folder.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "support/process.h"
#include "support/temp_folder.h"

namespace gf {

// Keys and values of the command line, without the dashes. Later ones replace earlier ones.
using Options = std::map<std::string, std::string>;
using Environment = std::map<std::string, std::string>;

// What a finished run must have in common with one that never stopped, down to the last bit.
struct Outcome {
  std::vector<std::string> metrics;  // each line of metrics.jsonl without the times
  std::string state;                 // the newest checkpoint's part file: parameters and moments
};

class TinyTraining : public testing::Test {
 protected:
  TinyTraining();

  // -c configs/<model>.yaml and the options of a tiny run, with these changes. Its folder is run(suffix), where
  // changes say train.proj_suffix.
  std::vector<std::string> arguments(const Options& changes = {}) const;
  ProgramResult train(const Options& changes = {}, const Environment& = {}) const;
  // The same, and it must end with status 0.
  Outcome trained(const Options& changes = {}, const Environment& = {}) const;
  Outcome outcome(const std::string& suffix) const;

  std::filesystem::path run(const std::string& suffix) const { return folder_ / "out" / ("tiny-" + suffix); }
  std::filesystem::path checkpoints(const std::string& suffix) const { return run(suffix) / "checkpoints"; }
  std::string metrics_text(const std::string& suffix) const;  // empty where there are none yet

  // A data set of the tokens, as PREFIX in the test's folder.
  std::string data_set(const std::string& name, const std::vector<uint16_t>& tokens) const;
  static std::vector<uint16_t> random_tokens(size_t count, uint64_t vocab_size, uint64_t seed = 1);

  TempFolder folder_;
  std::vector<std::string> configs_ = {"goldfinch"};  // names in configs/
  Options options_;
};

void expect_same(const Outcome&, const Outcome&);
int count_lines(const std::string& text);
// A size that a run has told, in MB: `pattern` has its number and its unit, MB or GB. 0 where it is not there.
double megabytes_in(const std::string& text, const std::string& pattern);

// Every file below the folder with its bytes: equal before and after what may change nothing.
std::map<std::string, std::string> contents(const std::filesystem::path& folder);

}  // namespace gf
