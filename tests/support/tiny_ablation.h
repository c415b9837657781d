// SPDX-License-Identifier: Apache-2.0
// A folder with data and an ablation of two variants from two seeds, for tests of gf ablate as a whole: its runs are so
// small that each takes a fraction of a second.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "support/files.h"
#include "support/run_program.h"
#include "support/tiny_run.h"

namespace gf {

class TinyAblation : public testing::Test {
 protected:
  using Rows = std::map<std::string, std::map<std::string, std::string>>;

  TinyAblation() {
    std::string text;
    for (int i = 0; i < 400; ++i) text += "abc " + std::to_string(i * i % 97);
    write_byte_tokens(folder_ / "data", text);
    write("tiny.yaml",
          "variants:\n- {name: finch, set: {model.tmix: x060}}\n"
          "- {name: goldfinch, set: {model.tmix: x060c2, model.tmix2: gold}}\nseeds: [1, 2]\n");
    write("base.yaml",
          "model: {n_layer: 3, n_embd: 32, head_size: 16, ctx_len: 16, vocab_size: 257}\n"
          "train: {micro_bsz: 2, max_steps: 6, my_exit_tokens: 100000, val_check_interval: 3}\n");
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(folder_ / name) << text; }
  std::vector<std::string> words(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"ablate", "-c", folder_ / "base.yaml", "-a", folder_ / "tiny.yaml"};
    const std::string data = folder_ / "data", out = folder_ / "out";
    all.insert(all.end(),
               {"--train.data_file=" + data, "--train.validation_data_file=" + data, "--train.proj_dir=" + out});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  ProgramResult ablate(const std::vector<std::string>& more = {}) const {
    return run_program("gf", words(more), {{"OMP_NUM_THREADS", "1"}});
  }
  void refused(const std::vector<std::string>& more, const std::vector<std::string>& pieces) const {
    const ProgramResult result = ablate(more);
    EXPECT_EQ(result.status, 2) << result.err;
    for (const auto& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out")) << "nothing was begun";
  }
  // Neither begun nor listed; a dry run has told what the variants cost.
  static void expect_no_run(const std::string& way, const ProgramResult& result) {
    EXPECT_EQ(result.out.find("run --only"), std::string::npos) << result.out;
    EXPECT_EQ(result.out.starts_with("variant "), way == "--dry-run") << result.out;
  }
  std::filesystem::path out() const { return std::filesystem::path(folder_ / "out") / "tiny"; }
  std::filesystem::path run(const std::string& name) const { return out() / name; }
  Rows csv() const {
    std::istringstream lines(read_file(out() / "report.csv"));
    const auto cells = [](const std::string& line) {
      std::vector<std::string> all;
      std::istringstream in(line + ",");
      for (std::string cell; std::getline(in, cell, ',');) all.push_back(cell);
      return all;
    };
    std::string line;
    std::getline(lines, line);
    const auto head = cells(line);
    Rows rows;
    while (std::getline(lines, line)) {
      const auto row = cells(line);
      EXPECT_EQ(row.size(), head.size()) << line;
      for (size_t i = 1; i < row.size() && i < head.size(); ++i) rows[row[0]][head[i]] = row[i];
    }
    return rows;
  }
  TempFolder folder_;
};

}  // namespace gf
