// SPDX-License-Identifier: Apache-2.0
#include "model/layout.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/small_model.h"

namespace gf {
namespace {

std::string letters(Fields f) {
  std::string s;
  if (f & kX) s += "x";
  if (f & kOrigin) s += "o";
  if (f & kCompressed) s += "c";
  if (f & kExpanded) s += "e";
  return s;
}

std::vector<std::string> names(const std::vector<LayerSpec>& layers) {
  std::vector<std::string> all;
  for (const LayerSpec& l : layers) all.push_back(l.name());
  return all;
}

// What crosses each cut, from below the first layer to above the last.
std::vector<std::string> crossing(const std::vector<LayerSpec>& layers) {
  std::vector<std::string> all;
  for (size_t cut = 0; cut <= layers.size(); ++cut) all.push_back(letters(live_at(layers, cut)));
  return all;
}

using Strings = std::vector<std::string>;

TEST(Layout, GoldFinchHasOneKeyCacheBelowItsFirstGoldBlock) {
  const auto layers = layout_of(small_config("x060c2", "x060", "gold"));
  EXPECT_EQ(names(layers),
            (Strings{"embed", "blocks.0", "blocks.1", "key_compress", "key_expand", "blocks.2", "blocks.3", "head"}));
  // Below the compression: the stream, and the embedded input for the keys and values to come. Above it the compressed
  // keys too. The expanded keys never cross; at the head only the stream is left.
  EXPECT_EQ(crossing(layers), (Strings{"", "xo", "xo", "xo", "xoc", "xoc", "xoc", "x", ""}));
}

TEST(Layout, OthersPassOnlyTheStream) {
  for (const auto& config :
       {small_config("x060"), small_config("llama", "llama"), small_config("x060c2", "x060", "gptalpha")}) {
    const auto layers = layout_of(config);
    EXPECT_EQ(names(layers), (Strings{"embed", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "head"}));
    EXPECT_EQ(crossing(layers), (Strings{"", "x", "x", "x", "x", "x", ""}));
  }
}

TEST(Layout, TheUpperThirdBeginsWherePublished) {
  ModelConfig c = small_config("x060c2", "x060", "gold");
  c.n_layer = 12, c.inv_other_layer_ratio = 3;
  const auto layers = layout_of(c);
  EXPECT_EQ(layers.size(), 16u);
  EXPECT_EQ(layers[9].name(), "key_compress");
  EXPECT_EQ(layers[11].name(), "blocks.8");
}

TEST(Layout, AStageOfGoldBlocksExpandsTheKeysItself) {
  const auto layers = layout_of(small_config("x060c2", "x060", "gold"));
  EXPECT_EQ(names(stage_layers(layers, 0, 3)), (Strings{"embed", "blocks.0", "blocks.1"}));
  EXPECT_EQ(names(stage_layers(layers, 3, 8)), (Strings{"key_compress", "key_expand", "blocks.2", "blocks.3", "head"}));
  EXPECT_EQ(names(stage_layers(layers, 4, 6)), (Strings{"key_expand", "blocks.2"})) << "it has one already";
  EXPECT_EQ(names(stage_layers(layers, 5, 6)), (Strings{"key_expand", "blocks.2"}));
  EXPECT_EQ(names(stage_layers(layers, 6, 8)), (Strings{"key_expand", "blocks.3", "head"}));
  EXPECT_EQ(names(stage_layers(layers, 7, 8)), (Strings{"head"}));
  EXPECT_EQ(names(stage_layers(layers, 0, 8)), names(layers));
}

TEST(Layout, WhatCrossesIsWhatTheStageAboveReads) {
  // A stage needs no more than crosses its lower cut, wherever the model is cut.
  const auto layers = layout_of(small_config("x060c2", "x060", "gold"));
  for (size_t begin = 1; begin < layers.size(); ++begin) {
    const auto stage = stage_layers(layers, begin, layers.size());
    Fields have = live_at(layers, begin);
    for (const LayerSpec& l : stage) {
      EXPECT_EQ(l.fields.reads & ~have, 0) << l.name() << " of the stage from " << begin;
      have |= l.fields.writes;
    }
  }
}

TEST(Layout, ChecksItsCuts) {
  const auto layers = layout_of(small_config("x060"));
  expect_error(Exit::failed, {"cut 7 of 6"}, [&] { live_at(layers, 7); });
  expect_error(Exit::failed, {"3 to 3 of 6"}, [&] { stage_layers(layers, 3, 3); });
  expect_error(Exit::failed, {"3 to 7 of 6"}, [&] { stage_layers(layers, 3, 7); });
}

}  // namespace
}  // namespace gf
