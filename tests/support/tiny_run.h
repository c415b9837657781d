// SPDX-License-Identifier: Apache-2.0
// A GoldFinch of a few thousand parameters in a run folder of its own, made by gf-dist-train itself.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/data/binidx_writer.h"
#include "support/run_program.h"
#include "support/temp_folder.h"

namespace gf {

class TinyRun {
 public:
  static constexpr int64_t kCtxLen = 16, kVocab = 257;

  // `more`: other options of gf-dist-train, for example {"--train.train_stage", "1"}: fresh parameters.
  explicit TinyRun(const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"--train.proj_dir", folder_.path().string(), "--train.proj_name", "tiny"};
    for (const char* option :
         {"--model.tmix=x060c2", "--model.tmix2=gold", "--model.n_layer=3", "--model.n_embd=32", "--model.head_size=16",
          "--model.ctx_len=16", "--model.vocab_size=257", "--train.epoch_save=0"})
      arguments.emplace_back(option);
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult made = run_program("gf-dist-train", arguments);
    EXPECT_EQ(made.status, 0) << made.err;
  }
  std::string checkpoint() const { return folder_ / "tiny-0"; }

 private:
  TempFolder folder_;
};

// The text as one document of byte tokens.
inline void write_byte_tokens(const std::string& prefix, const std::string& text) {
  BinIdxWriter writer(prefix, TinyRun::kVocab);
  std::vector<int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c) + 1);
  writer.append(tokens);
  writer.finish();
}

// A model that has read this sentence again and again, for so many steps; `more` as above.
inline TinyRun* new_run_that_read(const std::string& sentence, const char* steps, std::vector<std::string> more = {}) {
  const TempFolder folder;
  std::string text;
  while (text.size() < 4000) text += sentence;
  write_byte_tokens(folder / "data", text);
  more.insert(more.end(), {"--train.data_file", folder / "data", "--train.micro_bsz", "8", "--train.max_steps", steps,
                           "--train.my_exit_tokens", "100000", "--train.lr_init", "5e-3", "--train.lr_final", "5e-3"});
  return new TinyRun(more);
}

}  // namespace gf
