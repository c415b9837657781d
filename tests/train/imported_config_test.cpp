// SPDX-License-Identifier: Apache-2.0
#include "train/imported_config.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

// Weights of which nothing but what they say of themselves is read.
class Weights final : public TensorSource {
 public:
  explicit Weights(std::string config) : config_(std::move(config)) {
    set_entries({{"model/emb.weight", DType::f32, {2, 64}}});
  }
  std::string config() const override { return config_; }

 private:
  void fill(std::span<const ShardView>) const override {}
  std::string label() const override { return "x.safetensors"; }
  std::string config_;
};

ImportedConfig imported(const std::string& own, const std::vector<std::string>& files = {}) {
  return imported_config("x.safetensors", files, Weights(own));
}

TEST(ImportedConfig, OneTextIsKeptAsItIs) {
  const TempFolder folder;
  const std::string file = folder / "a.yaml", text = "model: {n_embd: 64}  # mine\n";
  write_file(file, text);
  EXPECT_EQ(imported("").text, "");
  EXPECT_FALSE(imported("").describes_model);
  EXPECT_EQ(imported(text).text, text);
  EXPECT_EQ(imported("", {file}).text, text);
  EXPECT_FALSE(imported(text).describes_model);
}

TEST(ImportedConfig, IsThatOfTheWeights) {
  const std::string model = "model: {tmix: x060, n_layer: 1, n_embd: 64, vocab_size: 2, ctx_len: 8}\n";
  expect_refused({"is 64 in the model and not in the checkpoint", "the configuration of the model"},
                 [&] { imported(model); });
  const TempFolder folder;
  const std::string file = folder / "a.yaml";
  write_file(file, "model: {n_embd: 64, vocab_size: 2, use_v2: 0}\n");
  expect_refused({"model.use_v2 is 0 in " + file + ", and x.safetensors says that it is 1"},
                 [&] { imported("model: {n_embd: 64, vocab_size: 2}", {file}); });
}

TEST(ImportedConfig, WhatIsNoneIsRefusedByItsPlace) {
  const std::string own = "the configuration in x.safetensors";
  for (const char* none : {"{}", "null", "# nothing", "---"})
    expect_refused({own + " has no keys"}, [&] { imported(none); });
  expect_refused({own + ":1: a config file holds sections"}, [&] { imported("[1, 2]"); });
  expect_refused({own + ":2: "}, [&] { imported("model:\n  a: [1"); });
  expect_refused({own + ":1: there is no hidden_size"}, [&] { imported("{\"hidden_size\": 64}"); });
  const TempFolder folder;
  const std::string file = folder / "a.yaml";
  write_file(file, "a: [1");
  expect_refused({file + ":1: "}, [&] { imported("", {file}); });
}

// Before anything is made of it.
TEST(ImportedConfig, HostileOnesAreBounded) {
  std::string list = "model: [a", nested = "model: ";
  while (list.size() < (2 << 20)) list += ",a";
  for (int i = 0; i < 100000; ++i) nested += "[";
  expect_refused({"the configuration in x.safetensors is larger than 1048576 bytes"}, [&] { imported(list + "]"); });
  expect_refused({"the configuration in x.safetensors:1: "}, [&] { imported(nested); });
  expect_refused({"an alias"}, [&] { imported("model: &m {a: 1}\ntrain: *m\n"); });
}

}  // namespace
}  // namespace gf
