// SPDX-License-Identifier: Apache-2.0
#include "train/past_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "base/build_id.h"
#include "io/files.h"
#include "support/expect_error.h"
#include "support/files.h"
#include "support/model_variants.h"
#include "support/small_model.h"
#include "support/temp_folder.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

struct Model {
  explicit Model(uint64_t seed = 1, const char* time_mix = "x060c2", const char* upper = "gold")
      : Model(seed, small_config(time_mix, "x060", upper)) {}
  Model(uint64_t seed, const ModelConfig& config) : layers(config) {
    layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    fill_hashed(layers.parameters(), seed);
  }
  LayerStack layers;
};

const std::vector<int32_t> kText{1, 5, 32, 7, 7, 0, 12}, kRest{3, 4, 9};

void write(const std::filesystem::path& path, const StatefulDecoder& decoder) {
  PartialFile file(path);
  write_past(file, decoder);
}

// The same file with this in the place of that, of the same length: its header stays a whole one.
void exchange(const std::filesystem::path& path, const std::string& that, const std::string& with) {
  std::string bytes = read_file(path);
  const size_t at = bytes.find(that);
  ASSERT_NE(at, std::string::npos) << that;
  ASSERT_EQ(that.size(), with.size());
  std::ofstream(path, std::ios::binary) << bytes.replace(at, that.size(), with);
}

std::vector<float> values(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

class PastFileOfText : public testing::Test {
 protected:
  PastFileOfText() {
    decoder.feed(kText);
    write(path, decoder);
  }
  const TempFolder folder;
  const std::filesystem::path path = folder.path() / "text.past";
  const Model model;
  StatefulDecoder decoder{model.layers, {}};
};

class PastFileOf : public testing::TestWithParam<ModelVariant> {};

TEST_P(PastFileOf, ATextGoesOnFromItWithTheSameBits) {
  const TempFolder folder;
  const Model model(1, GetParam().config());
  for (const bool expanded : {true, false})
    for (const DType cache : {DType::f32, DType::bf16}) {
      const StatefulDecoder::Options options{.past = {.expanded = expanded, .cache = cache}};
      StatefulDecoder whole(model.layers, options);
      const auto after = values(whole.feed(kText));
      write(folder.path() / "text.past", whole);
      StatefulDecoder again = read_past(folder.path() / "text.past", model.layers, options).decoder;
      EXPECT_EQ(values(again.feed({})), after);
      EXPECT_EQ(again.counts().times(), whole.counts().times());
      EXPECT_EQ(values(again.feed(kRest)), values(whole.feed(kRest)));
    }
}

INSTANTIATE_TEST_SUITE_P(Every, PastFileOf, testing::ValuesIn(kModelVariants),
                         [](const auto& variant) { return std::string(variant.param.name); });

TEST_F(PastFileOfText, RefusesThatOfAnotherModelOrOtherOptions) {
  expect_refused({"text.past", "its model is"}, [&] { read_past(path, Model(2).layers, {}); });
  expect_refused({"its model is"}, [&] { read_past(path, Model(1, "x060", "").layers, {}); });
  expect_refused({"its cache is expanded", "compressed"},
                 [&] { read_past(path, model.layers, {.past = {.expanded = false}}); });
  expect_refused({"its cache-dtype is f32", "bf16"},
                 [&] { read_past(path, model.layers, {.past = {.cache = DType::bf16}}); });
}

// Of a character or of a stop text, which may be any bytes.
TEST_F(PastFileOfText, KeepsWhatWasNotShown) {
  EXPECT_EQ(read_past(path, model.layers, {}).begun, "");
  for (const std::string bytes : {"\xE2\x82", "n", "\n\n\xFF"}) {
    PartialFile file(path);
    write_past(file, decoder, bytes);
    EXPECT_EQ(read_past(path, model.layers, {}).begun, bytes);
  }
}

TEST_F(PastFileOfText, RefusesBytesThatAreNone) {
  for (const std::string digits : {"e28g", "E282", " e28", "0xe2"}) {
    {
      PartialFile file(path);
      write_past(file, decoder, "\xE2\x82");
    }
    exchange(path, "\"begun\":\"e282\"", cat("\"begun\":\"", digits, "\""));
    expect_refused({"text.past", cat("its begun is ", digits), "hexadecimal"},
                   [&] { read_past(path, model.layers, {}); });
  }
}

// Of the same checkpoint: another would not help.
TEST_F(PastFileOfText, RefusesThatOfOtherWeights) {
  Model narrow;
  narrow.layers.parameters().narrow();
  expect_refused({"text.past", "its weights is f32, and here it is bf16", "the same --weights"},
                 [&] { read_past(path, narrow.layers, {}); });
  StatefulDecoder reader(narrow.layers, {});
  reader.feed(kText);
  write(path, reader);
  EXPECT_NO_THROW(read_past(path, narrow.layers, {}));
  expect_refused({"its weights is bf16, and here it is f32"}, [&] { read_past(path, model.layers, {}); });
}

// With the same weights.
TEST_F(PastFileOfText, RefusesThatOfAnotherConfiguration) {
  const ModelConfig same = model.layers.config();
  const auto with = [](ModelConfig config, const std::function<void(ModelConfig&)>& change) {
    change(config);
    return config;
  };
  const auto expect_other = [&](const ModelConfig& config, const std::vector<std::string>& pieces = {"its model is"}) {
    const Model other(1, config);
    ASSERT_EQ(other.layers.parameters().all().size(), model.layers.parameters().all().size());
    expect_refused(pieces, [&] { read_past(path, other.layers, {}); });
  };
  expect_other(with(same, [](ModelConfig& c) { c.use_one_minus_w = false; }));
  expect_other(with(same, [](ModelConfig& c) { c.head_size_divisor = 4; }));
  expect_other(with(same, [](ModelConfig& c) { c.parallel = true; }));
  expect_other(with(same, [](ModelConfig& c) { c.rope.emplace(); }));
  expect_other(with(same, [](ModelConfig& c) { c.brope.emplace(); }));
  expect_other(with(same, [](ModelConfig& c) { c.alibi.emplace(); }));

  const ModelConfig turned = with(same, [](ModelConfig& c) { c.rope.emplace(); });
  const Model rotary(1, turned);
  StatefulDecoder reader(rotary.layers, {});
  reader.feed(kText);
  write(path, reader);
  EXPECT_NO_THROW(read_past(path, rotary.layers, {}));
  expect_other(with(turned, [](ModelConfig& c) { c.rope->base = 20000; }));
  // What options change is told apart from another checkpoint, however little it is.
  const std::string hint = "the same --rope.rescale and --rope.rebase";
  expect_other(with(turned, [](ModelConfig& c) { c.rope->rescale = 2; }),
               {"text.past: its rope is rescale 1, rebase 1, and here it is rescale 2, rebase 1", hint});
  expect_other(with(turned, [](ModelConfig& c) { c.rope->rebase = 1.00000001; }), {"rebase 1.00000001", hint});
  // What only training asks for.
  const Model longer(1, with(turned, [](ModelConfig& c) { c.ctx_len = 32, c.dropout = 0.1; }));
  EXPECT_NO_THROW(read_past(path, longer.layers, {}));

  const ModelConfig binary = with(same, [](ModelConfig& c) { c.brope.emplace(); });
  const Model by_halves(1, binary);
  StatefulDecoder other_reader(by_halves.layers, {});
  other_reader.feed(kText);
  write(path, other_reader);
  expect_other(with(binary, [](ModelConfig& c) { c.brope->rescale = 2; }), {"its rope is rescale 1, and", hint});
}

// Another build may compute the same parameters with other roundings, or keep other things.
TEST_F(PastFileOfText, RefusesThatOfAnotherBuild) {
  std::string other = build_id();
  other.back() = other.back() == '0' ? '1' : '0';
  exchange(path, build_id(), other);
  expect_refused({"text.past", cat("its build is ", other, ", and here it is ", build_id())},
                 [&] { read_past(path, model.layers, {}); });
}

TEST_F(PastFileOfText, RefusesADamagedFile) {
  const auto expect_damaged = [&] {
    expect_refused({"text.past", "damaged"}, [&] { read_past(path, model.layers, {}); });
  };
  std::string bytes = read_file(path);
  bytes.back() ^= 1;
  std::ofstream(path, std::ios::binary) << bytes;
  expect_damaged();
  // Of the metadata, and of a shape alone: 7 rows of 32 numbers as 8 of 28.
  for (const auto& [that, with] : {std::pair("\"positions\":\"7\"", "\"positions\":\"5\""), {"[7,32]", "[8,28]"}}) {
    write(path, decoder);
    exchange(path, that, with);
    expect_damaged();
  }
}

// What no damage but only a wrong program makes: more positions, or other counts, than there are rows.
TEST_F(PastFileOfText, RefusesRowsThatAreNotOfItsPositions) {
  const auto expect_wrong = [&](int64_t more, const TokenCounts& counts, const std::string& piece) {
    Past past = decoder.past().copy();
    past.read_on(more);
    write(path, StatefulDecoder(model.layers, {}, std::move(past), decoder.logits(), counts));
    expect_refused({"text.past", piece}, [&] { read_past(path, model.layers, {}); });
  };
  TokenCounts more = decoder.counts();
  more.add(3, 2);
  expect_wrong(2, more, "is 7x32, and what this model keeps there is 9x32");
  expect_wrong(2, decoder.counts(), "its positions are 9, and its model/counts are of 7");
  TokenCounts beyond = decoder.counts();
  beyond.add(static_cast<int32_t>(model.layers.config().vocab_size), 2);
  expect_wrong(2, beyond, "its model/counts is not how often each token was read");
}

// A past with what `change` makes of each of its tensors: another one, or, where that is empty, none.
Past changed(const Past& past, const std::function<Tensor(const std::string&, const Tensor&)>& change) {
  Past other(past.options());
  other.read_on(past.size());
  for (const auto& [name, t] : past.fixed())
    if (const Tensor to = change(name, t)) copy(to, other.state(name, to.shape(), to.dtype()));
  for (const auto& [name, rows] : past.all_growing())
    if (const Tensor to = change(name, rows.rows(0, rows.size())))
      other.growing(name, to.size(1), to.dtype()).append(to);
  return other;
}

Tensor of_double_width(const Tensor& t) {
  std::vector<int64_t> dims(t.shape().dims().begin(), t.shape().dims().end());
  dims.back() *= 2;
  return Tensor::zeros(Shape(dims), t.dtype(), kCpu);
}

// The digest says that a file is whole, not that this program wrote it.
class ForgedPastFile : public PastFileOfText {
 protected:
  void expect_wrong(Past past, const Tensor& logits, const std::string& piece) {
    write(path, StatefulDecoder(model.layers, {}, std::move(past), logits, decoder.counts()));
    expect_refused({"text.past: ", piece}, [&] { read_past(path, model.layers, {}); });
  }
  void expect_wrong(Past past, const std::string& piece) { expect_wrong(std::move(past), decoder.logits(), piece); }
  void expect_wrong_token(int32_t token, const std::string& piece) {
    const auto change = [&](const std::string& name, const Tensor& t) {
      if (name == kKeptTokens) t.data<int32_t>()[3] = token;
      return t;
    };
    expect_wrong(changed(decoder.past(), change), piece);
  }
};

TEST_F(ForgedPastFile, EachTensorMustBeThereInItsShape) {
  std::vector<std::string> names;
  for (const auto& [name, t] : decoder.past().fixed()) names.push_back(name);
  for (const auto& [name, rows] : decoder.past().all_growing()) names.push_back(name);
  // Four layers look back twice, and two have a state; two GOLD layers have keys and values; compressed keys, tokens.
  EXPECT_EQ(names.size(), 8u + 2u + 4u + 2u);
  for (const std::string& name : names) {
    const auto other = [&](const auto& change) {
      return changed(decoder.past(), [&](const std::string& n, const Tensor& t) { return n == name ? change(t) : t; });
    };
    expect_wrong(other([](const Tensor&) { return Tensor(); }), "it has no model/");
    expect_wrong(other(of_double_width), name + " is ");
  }
}

TEST_F(ForgedPastFile, NothingElseMayBeThere) {
  Past more = decoder.past().copy();
  more.state("more", {1, 2}, DType::f32);
  expect_wrong(std::move(more), "it has model/fixed:more, which this model does not keep");
}

TEST_F(ForgedPastFile, LogitsAreOfTheModelsTokens) {
  expect_wrong(decoder.past().copy(), decoder.logits().range(0, 32),
               "its model/logits is 32, and what this model keeps there is 33");
}

TEST_F(ForgedPastFile, TokensAreTheModels) {
  expect_wrong_token(33, "its model/growing:tokens has 33, and the model has 33");
  expect_wrong_token(1'000'000'000, "has 1e+09, and the model has 33");
  expect_wrong_token(-1, "has -1, and the model has 33");
}

// Float32 has no 2^24 + 1.
TEST(PastFile, CountsOfATokenMayBeLarge) {
  const TempFolder folder;
  const auto path = folder.path() / "text.past";
  const Model model(1, "x060", "");  // keeps nothing of a position
  StatefulDecoder decoder(model.layers, {});
  decoder.feed(kText);
  TokenCounts counts = decoder.counts();
  counts.add(7, (int64_t{1} << 25) + 1);
  Past past = decoder.past().copy();
  past.read_on((int64_t{1} << 25) + 1);
  write(path, StatefulDecoder(model.layers, {}, std::move(past), decoder.logits(), counts));
  EXPECT_EQ(read_past(path, model.layers, {}).decoder.counts().times(), counts.times());
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
