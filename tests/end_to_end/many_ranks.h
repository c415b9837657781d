// SPDX-License-Identifier: Apache-2.0
// Tiny training runs under mpirun.
#pragma once
#include <nlohmann/json.hpp>

#include "end_to_end/tiny_training.h"

namespace gf {

class ManyRanks : public TinyTraining {
 protected:
  ManyRanks();
  // One thread a rank. The status is mpirun's: that of the first rank that does not end well.
  ProgramResult train_on(int ranks, const Options& changes = {}, const Environment& = {}) const;
  // Any of the programs, with these words.
  static ProgramResult run_on(int ranks, const std::string& program, const std::vector<std::string>& words);
  // Two ranks, of which a shell brings about what is wrong with the second one: it begins with `before`, the first one
  // with `first`.
  ProgramResult train_beside(const std::string& before, const Options& changes, const std::string& first = ":") const;
  // launch/local.sh on two ranks.
  Process start_local(const Options& changes) const;
  // One rank on each of these, or so it believes.
  ProgramResult train_on_nodes(const std::vector<std::string>& nodes, const Options& changes) const;
  // As train_on, to be watched and disturbed.
  Process start_on(int ranks, const Options& changes) const;

  std::vector<nlohmann::json> metrics(const std::string& suffix) const;
  // All tensors of the newest checkpoint, whatever wrote it.
  std::map<std::string, std::vector<float>> state(const std::string& suffix) const;
  // Losses, norms and learning rates of two runs within 2e-5, as sums over ranks in another order allow.
  void expect_close(const std::string& suffix, const std::string& want) const;

 private:
  static std::vector<std::string> words_on(int ranks, const std::string& program,
                                           const std::vector<std::string>& arguments, const std::string& before = {});
};

}  // namespace gf
