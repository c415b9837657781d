// SPDX-License-Identifier: Apache-2.0
// The shape of a model, under the published names and defaults. visit() lists each field once; options, help and
// YAML follow from it (base/fields.h). After resolve() and check() every size is positive and no product of sizes
// overflows; before that nothing is promised.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace gf {

inline constexpr int64_t kMaxContext = 1 << 24;  // tokens of a sequence, in training or out of it

// Rotary embedding over adjacent pairs: angular speed (base * rebase)^(-2i / head_size) / rescale.
struct RopeConfig {
  double base = 10000, rescale = 1, rebase = 1;

  template <class V>
  void visit(V& v) {
    v.type("configs.RoPE_Config");
    v("base", base, "base of the angular speeds (base * rebase)^(-2i / head_size) / rescale");
    v("rescale", rescale, "positions are divided by this: interpolation to longer contexts");
    v("rebase", rebase, "multiplies the base");
  }
};

// Binary rotary embedding: speed pi * 2^-i / rescale, 0 for i >= floor(log2 ctx_len).
struct BinaryRopeConfig {
  double rescale = 1;

  template <class V>
  void visit(V& v) {
    v.type("configs.BinaryRoPE_Config");
    v("rescale", rescale, "angular speed pi * 2^-i / rescale, 0 for i >= floor(log2 ctx_len)");
  }
};

// Attention bias -(distance) * 2^linspace(-8 / heads, -8, heads), one slope per head.
struct AlibiConfig {
  template <class V>
  void visit(V& v) {
    v.type("configs.Alibi_Config");
  }
};

struct ModelConfig {
  std::string tmix = "x060", tmix2, cmix = "x060", cmix2 = "x060";
  bool parallel = false;
  int64_t ctx_len = 1024, vocab_size = 0, n_layer = 6, n_embd = 512;
  double dropout = 0, inv_other_layer_ratio = 3, kv_cache_compression_ratio = 16;
  int64_t dim_att = 0, dim_ffn = 0, head_size = 64, head_size_divisor = 8;
  std::optional<RopeConfig> rope;
  std::optional<BinaryRopeConfig> brope;
  std::optional<AlibiConfig> alibi;
  bool use_one_minus_w = true, use_v2 = true;

  int64_t num_heads() const { return dim_att / head_size; }
  // The layers from this one on take tmix2 and cmix2; n_layer where tmix2 is empty.
  int64_t first_upper() const;
  // Width of the compressed key that the upper layers share.
  int64_t compressed_width() const;
  // Hidden width of a channel mixer: dim_ffn, but the published LLaMA one derives its own from n_embd.
  int64_t channel_width(std::string_view channel_mix) const;
  const std::string& time_mix(int64_t layer) const { return layer < first_upper() ? tmix : tmix2; }
  const std::string& channel_mix(int64_t layer) const { return layer < first_upper() ? cmix : cmix2; }
  // Whether any layer has this time mixer.
  bool has_time_mix(std::string_view name) const { return tmix == name || (!tmix2.empty() && tmix2 == name); }

  // Fills in what 0 leaves to the program: dim_att and dim_ffn.
  void resolve();
  // Refuses a model that cannot be; the message names the keys to change. To be called after resolve().
  void check() const;

  template <class V>
  void visit(V& v) {
    v.type("configs.Model_Config", "configs.Transformer_Config", "configs.FinchC2_Config");
    v("tmix", tmix, "time mixer of the lower layers: x060 x060b x060c2 x052 gptalpha llama");
    v("tmix2", tmix2, "time mixer of the upper layers, gold too; empty: all layers are lower ones");
    v("cmix", cmix, "channel mixer of the lower layers: x060 x052 llama");
    v("cmix2", cmix2, "channel mixer of the upper layers");
    v("parallel", parallel, "1: x + tmix(ln1 x) + cmix(ln2 x), both mixers read the same stream");
    v("ctx_len", ctx_len, "tokens of a training sequence");
    v("vocab_size", vocab_size, "tokens of the vocabulary; must be given");
    v("n_layer", n_layer, "layers");
    v("n_embd", n_embd, "width of the residual stream, a multiple of 32");
    v("dropout", dropout, "share of values dropped after the embedding and after each mixer");
    v("inv_other_layer_ratio", inv_other_layer_ratio, "with tmix2: one layer in so many is an upper one");
    v("kv_cache_compression_ratio", kv_cache_compression_ratio, "with gold: n_embd over the compressed key's width");
    v("dim_att", dim_att, "width of the time mixers, a multiple of 32 and of head_size; 0: n_embd");
    v("dim_ffn", dim_ffn, "hidden width of the channel mixers, a multiple of 32; 0: 3.5 n_embd, rounded down");
    v("head_size", head_size, "channels of a head");
    v("head_size_divisor", head_size_divisor,
      "in the norm of x060 (epsilon 1e-5 * divisor^2) and x052 (divides before it)");
    v.section("rope", rope, "rotary position embedding of the attention mixers");
    v.section("brope", brope, "binary rotary position embedding of the attention mixers");
    v.section("alibi", alibi, "attention bias that grows with distance, a slope per head");
    v("use_one_minus_w", use_one_minus_w, "x060c2: 0 leaves keys unscaled by 1 - decay (ablation)");
    v("use_v2", use_v2, "x060c2: 0 has the bonus of x060 instead of the second value (ablation)");
  }
};

// The mixers that a config may name.
std::span<const std::string_view> known_time_mixes();
std::span<const std::string_view> known_channel_mixes();
// Whether a time mixer's work and memory grow with each position, and position encodings have an effect.
bool has_attention(std::string_view time_mix);

}  // namespace gf
