// SPDX-License-Identifier: Apache-2.0
#include "optim/groups.h"

#include <gtest/gtest.h>

#include "support/small_model.h"

namespace gf {
namespace {

using Pair = std::pair<double, bool>;

Pair of(const LayerStack& layers, const std::string& name, const GroupRules& rules) {
  const Parameter* p = layers.parameters().find(name);
  GF_CHECK(p, "no parameter ", name);
  const Group g = group_of(p->spec(), rules);
  return {g.lr_scale, g.decays};
}

// What the published rules make of names, written out by name here; the program goes by roles.
Pair published(const std::string& name, const Shape& shape, const GroupRules& rules) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  const bool two = rules.train_stage == 2;
  if (rules.layerwise_lr) {
    if (has("_w1") || has("_w2")) return {1, false};
    if (has("time_mix") || has("time_maa")) return {two ? 2 : 1, false};
    if (has("time_decay")) return {two ? 3 : 2, false};
    if (has("time_faaaa")) return {two ? 2 : 1, false};
  }
  int64_t real = 0;  // dimensions left after squeeze()
  for (const int64_t d : shape.dims()) real += d != 1;
  return {1, real >= 2};
}

TEST(Groups, FollowThePublishedRules) {
  for (const ModelConfig& c :
       {small_config("x060c2", "x060", "gold"), small_config("x060"), small_config("x060b"),
        small_config("x052", "x052"), small_config("gptalpha"), small_config("llama", "llama")}) {
    const LayerStack layers(c);
    for (const GroupRules& rules :
         {GroupRules{true, 3}, GroupRules{true, 2}, GroupRules{false, 3}, GroupRules{false, 2}})
      for (const auto& p : layers.parameters().all())
        EXPECT_EQ(of(layers, p->name(), rules), published(p->name(), p->shape(), rules))
            << p->name() << " layerwise " << rules.layerwise_lr << " stage " << rules.train_stage;
  }
}

TEST(Groups, Examples) {
  const LayerStack layers(small_config("x060c2", "x060", "gold"));
  const GroupRules usual;
  for (const char* name : {"emb.weight", "head.weight", "w_kv_cache_a.weight", "w_kv_cache_b.weight",
                           "blocks.0.att.key.weight", "blocks.0.ffn.value.weight"})
    EXPECT_EQ(of(layers, name, usual), Pair(1, true)) << name;
  for (const char* name : {"ln_out.weight", "blocks.0.ln0.bias", "blocks.0.att.time_maa_k", "blocks.0.att.time_maa_w1",
                           "blocks.0.att.time_maa_w2", "blocks.0.att.time_decay_w1", "blocks.2.att.time_key_w2",
                           "blocks.0.att.time_faaaa"})
    EXPECT_EQ(of(layers, name, usual), Pair(1, false)) << name;
  EXPECT_EQ(of(layers, "blocks.0.att.time_decay", usual), Pair(2, false));
  EXPECT_EQ(of(layers, "blocks.0.att.time_decay", {true, 2}), Pair(3, false));
  EXPECT_EQ(of(layers, "blocks.0.att.time_maa_k", {true, 2}), Pair(2, false));
  EXPECT_EQ(of(layers, "blocks.0.att.time_decay_w1", {false, 3}), Pair(1, true))
      << "one rate: matrices decay, LoRAs too";
  EXPECT_EQ(of(layers, "blocks.0.att.time_decay", {false, 3}), Pair(1, false));
}

}  // namespace
}  // namespace gf
