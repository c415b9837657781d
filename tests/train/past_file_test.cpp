// SPDX-License-Identifier: Apache-2.0
#include "train/past_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "io/files.h"
#include "support/expect_error.h"
#include "support/files.h"
#include "support/small_model.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

struct Model {
  explicit Model(uint64_t seed = 1, const char* time_mix = "x060c2", const char* upper = "gold")
      : layers(small_config(time_mix, "x060", upper)) {
    layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    fill_hashed(layers.parameters(), seed);
  }
  LayerStack layers;
};

const std::vector<int32_t> kText{1, 5, 32, 7, 7, 0, 12}, kRest{3, 4, 9};

std::vector<float> values(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

TEST(PastFile, ATextGoesOnFromItWithTheSameBits) {
  const TempFolder folder;
  for (const auto& [mix, upper] : {std::pair("x060c2", "gold"), {"x052", ""}, {"llama", ""}})
    for (const bool expanded : {true, false})
      for (const DType cache : {DType::f32, DType::bf16}) {
        const Model model(1, mix, upper);
        const StatefulDecoder::Options options{.past = {.expanded = expanded, .cache = cache}};
        StatefulDecoder whole(model.layers, options);
        const auto after = values(whole.feed(kText));
        write_past(folder.path() / "text.past", whole);
        StatefulDecoder again = read_past(folder.path() / "text.past", model.layers, options);
        EXPECT_EQ(values(again.feed({})), after);
        EXPECT_EQ(values(again.feed(kRest)), values(whole.feed(kRest)));
      }
}

TEST(PastFile, RefusesThatOfAnotherModelOrOtherOptions) {
  const TempFolder folder;
  const auto path = folder.path() / "text.past";
  const Model model;
  StatefulDecoder decoder(model.layers, {});
  decoder.feed(kText);
  write_past(path, decoder);
  expect_refused({"text.past", "its model is"}, [&] { read_past(path, Model(2).layers, {}); });
  expect_refused({"its model is"}, [&] { read_past(path, Model(1, "x060", "").layers, {}); });
  expect_refused({"its cache is expanded", "compressed"},
                 [&] { read_past(path, model.layers, {.past = {.expanded = false}}); });
  expect_refused({"its cache-dtype is f32", "bf16"},
                 [&] { read_past(path, model.layers, {.past = {.cache = DType::bf16}}); });
}

TEST(PastFile, RefusesADamagedFile) {
  const TempFolder folder;
  const auto path = folder.path() / "text.past";
  const Model model;
  StatefulDecoder decoder(model.layers, {});
  decoder.feed(kText);
  write_past(path, decoder);
  std::string bytes = read_file(path);
  bytes.back() ^= 1;
  std::ofstream(path, std::ios::binary) << bytes;
  expect_refused({"text.past", "damaged"}, [&] { read_past(path, model.layers, {}); });
}

TEST(PastFile, RefusesAFileThatIsNone) {
  const TempFolder folder;
  const Model model;
  const auto path = folder.path() / "other.safetensors";
  File file = File::create(path);
  const std::string header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
  const uint64_t length = header.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(std::as_bytes(std::span(header)));
  file.write(std::vector<std::byte>(4));
  file.close();
  expect_refused({"its format is nothing"}, [&] { read_past(path, model.layers, {}); });
}

}  // namespace
}  // namespace gf
