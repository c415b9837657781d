// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/text.h"
#include "ops/wkv6/wkv6.h"

namespace gf {
namespace {

// Far beyond any model, and small enough that no product of sizes here reaches 2^62, and a plan is made in seconds.
constexpr int64_t kMaxLayers = 1 << 12, kMaxWidth = 1 << 20, kMaxVocab = (int64_t{1} << 31) - 1;

bool contains(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void check_range(const char* key, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    refuse(cat("model.", key, " is ", value, " and must be from ", least, " to ", most),
           cat("--model.", key, " ", std::clamp(value, least, most)));
  }
}

void check_width(const char* key, int64_t value) {
  check_range(key, value, 1, kMaxWidth);
  if (value % 32) {
    refuse(cat("model.", key, " is ", value, " and must be a multiple of 32"),
           cat("--model.", key, " ", std::max<int64_t>(value / 32, 1) * 32));
  }
}

void check_positive(const std::string& key, double value) {
  if (!(value > 0) || !std::isfinite(value))
    refuse(cat(key, " is ", value, " and must be above 0"), cat("--", key, " 1"));
}

void check_mixer(const char* key, const std::string& name, std::span<const std::string_view> known) {
  if (!contains(known, name)) {
    refuse(cat("model.", key, " is ", cited(name), ", and there is no such mixer"),
           cat("--model.", key, " with one of: ", joined(known)));
  }
}

void check_sizes(const ModelConfig& c) {
  check_range("n_layer", c.n_layer, 1, kMaxLayers);
  check_width("n_embd", c.n_embd);
  check_width("dim_att", c.dim_att);
  check_width("dim_ffn", c.dim_ffn);
  check_range("ctx_len", c.ctx_len, 1, kMaxContext);
  if (c.vocab_size == 0) {
    refuse("model.vocab_size is not set",
           "--model.vocab_size 257 for data tokenized with the byte vocabulary, 65536 with the RWKV World one");
  }
  check_range("vocab_size", c.vocab_size, 1, kMaxVocab);
  check_range("head_size", c.head_size, 1, kMaxWidth);
  if (c.dim_att % c.head_size) {
    refuse(cat("model.head_size ", c.head_size, " does not divide model.dim_att ", c.dim_att),
           "another --model.head_size or --model.dim_att");
  }
  check_range("head_size_divisor", c.head_size_divisor, 1, 1 << 16);
  if (!(c.dropout >= 0 && c.dropout < 1)) {
    refuse(cat("model.dropout is ", c.dropout, " and must be at least 0 and below 1"), "--model.dropout 0.1");
  }
}

void check_layout(const ModelConfig& c) {
  check_mixer("tmix", c.tmix, known_time_mixes());
  check_mixer("cmix", c.cmix, known_channel_mixes());
  if (c.tmix == "gold") {
    refuse("model.tmix is \"gold\", but a gold layer reads the key cache that the layers below it make",
           "another --model.tmix, and gold as --model.tmix2");
  }
  // Overlays set these without saying whether there is an upper stack; what they say must make sense in any case.
  check_mixer("cmix2", c.cmix2, known_channel_mixes());
  if (c.tmix2.empty()) {
    check_positive("model.inv_other_layer_ratio", c.inv_other_layer_ratio);
    return check_positive("model.kv_cache_compression_ratio", c.kv_cache_compression_ratio);
  }
  check_mixer("tmix2", c.tmix2, known_time_mixes());
  if (!std::isfinite(c.inv_other_layer_ratio) || c.first_upper() < 1) {
    refuse(cat("model.inv_other_layer_ratio ", c.inv_other_layer_ratio, " leaves no lower layer in a model of ",
               c.n_layer, " with model.tmix2 \"", c.tmix2, "\""),
           "a larger --model.inv_other_layer_ratio or --model.n_layer");
  }
  if (c.first_upper() >= c.n_layer) {
    refuse(cat("model.inv_other_layer_ratio ", c.inv_other_layer_ratio, " leaves no upper layer in a model of ",
               c.n_layer, " with model.tmix2 \"", c.tmix2, "\""),
           "a smaller --model.inv_other_layer_ratio, or an empty --model.tmix2");
  }
}

// Of mixers with a recurrence, whose states have so many rows and columns.
void check_recurrence(const ModelConfig& c) {
  for (const std::string& mix : {c.tmix, c.tmix2})
    if (!mix.empty() && !has_attention(mix) && c.head_size > kMaxWkvHeadSize)
      refuse(cat("model.head_size is ", c.head_size, ", and heads of ", mix, " have at most ", kMaxWkvHeadSize,
                 " channels"),
             "--model.head_size 64");
}

void check_gold(const ModelConfig& c) {
  if (!c.has_time_mix("gold")) return;
  if (c.dim_att != c.n_embd) {
    refuse(cat("model.dim_att is ", c.dim_att, " and model.n_embd ", c.n_embd,
               ", but gold layers take their values from the embedded input and need both equal"),
           cat("--model.dim_att ", c.n_embd));
  }
  const double ratio = c.kv_cache_compression_ratio;
  if (!(ratio >= 1) || c.compressed_width() < 1) {
    refuse(cat("model.kv_cache_compression_ratio is ", ratio, " and must be from 1 to model.n_embd, ", c.n_embd),
           "--model.kv_cache_compression_ratio 16");
  }
}

void check_positions(const ModelConfig& c) {
  const bool attention = has_attention(c.tmix) || has_attention(c.tmix2);
  const char* first = nullptr;
  for (const auto& [given, name] :
       {std::pair(c.rope.has_value(), "rope"), {c.brope.has_value(), "brope"}, {c.alibi.has_value(), "alibi"}}) {
    if (!given) continue;
    if (first) {
      refuse(cat("both model.", first, " and model.", name, " are set, and a model has one position encoding"),
             cat("--model.", first, " none or --model.", name, " none"));
    }
    first = name;
    if (!attention) {
      refuse(cat("model.", name, " is set, but no layer has attention (model.tmix \"", c.tmix, "\", model.tmix2 \"",
                 c.tmix2, "\")"),
             cat("--model.", name, " none"));
    }
  }
  if ((c.rope || c.brope) && c.head_size % 2) {
    refuse(cat("model.", first, " turns pairs of channels and needs an even model.head_size, not ", c.head_size),
           "--model.head_size 64");
  }
  if (c.rope) {
    check_positive("model.rope.base", c.rope->base);
    check_positive("model.rope.rescale", c.rope->rescale);
    check_positive("model.rope.rebase", c.rope->rebase);
  }
  if (c.brope) check_positive("model.brope.rescale", c.brope->rescale);
}

int64_t default_dim_ffn(const ModelConfig& c) {
  return c.n_embd * 7 / 2 / 32 * 32;
}

// A key that nothing reads is refused where it was set on purpose: to something other than its default.
void check_unused(const ModelConfig& c) {
  if (!c.has_time_mix("x060c2") && !(c.use_one_minus_w && c.use_v2)) {
    const char* key = c.use_v2 ? "use_one_minus_w" : "use_v2";
    refuse(cat("model.", key, " is 0, but only x060c2 has that part, and no layer is x060c2 (model.tmix \"", c.tmix,
               "\", model.tmix2 \"", c.tmix2, "\")"),
           cat("--model.", key, " 1, or --model.tmix x060c2"));
  }
  const ModelConfig defaults;
  if (!c.has_time_mix("x060") && !c.has_time_mix("x052") && c.head_size_divisor != defaults.head_size_divisor) {
    refuse(cat("model.head_size_divisor is ", c.head_size_divisor,
               ", but only x060 and x052 read it, and no layer is one of them (model.tmix \"", c.tmix,
               "\", model.tmix2 \"", c.tmix2, "\")"),
           cat("--model.head_size_divisor ", defaults.head_size_divisor));
  }
  const bool reads_ffn = c.cmix != "llama" || (!c.tmix2.empty() && c.cmix2 != "llama");
  if (!reads_ffn && c.dim_ffn != default_dim_ffn(c) && c.dim_ffn != c.channel_width("llama")) {
    refuse(cat("model.dim_ffn is ", c.dim_ffn, ", but no layer reads it: the llama channel mixer has its own width, ",
               c.channel_width("llama")),
           "--model.dim_ffn 0");
  }
}

}  // namespace

int64_t ModelConfig::first_upper() const {
  if (tmix2.empty()) return n_layer;
  if (!(inv_other_layer_ratio > 1)) return 0;
  // In the published order of operations: it decides which way a fraction falls.
  return static_cast<int64_t>(static_cast<double>(n_layer) * (inv_other_layer_ratio - 1) / inv_other_layer_ratio);
}

int64_t ModelConfig::compressed_width() const {
  if (!(kv_cache_compression_ratio >= 1)) return 0;
  return static_cast<int64_t>(static_cast<double>(n_embd) / kv_cache_compression_ratio);
}

int64_t ModelConfig::channel_width(std::string_view channel_mix) const {
  return channel_mix == "llama" ? n_embd * 4 * 2 / 3 / 32 * 32 : dim_ffn;
}

void ModelConfig::resolve() {
  check_width("n_embd", n_embd);
  if (dim_att == 0) dim_att = n_embd;
  if (dim_ffn == 0) dim_ffn = default_dim_ffn(*this);
}

void ModelConfig::check() const {
  check_sizes(*this);
  check_layout(*this);
  check_recurrence(*this);
  check_gold(*this);
  check_positions(*this);
  check_unused(*this);
}

}  // namespace gf
