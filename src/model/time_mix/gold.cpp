// SPDX-License-Identifier: Apache-2.0
// GOLD attention (arXiv 2407.12077, eq. 17 to 21): queries from the stream; keys from the shared compressed cache and
// values from the embedded input, both shifted by factors that depend only on a token and the one before it.
#include <algorithm>

#include "model/attend.h"
#include "model/keep.h"
#include "model/layer.h"
#include "ops/ddlerp/ddlerp.h"
#include "ops/linear/linear.h"
#include "ops/lora/lora.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

class Gold final : public TimeMix {
 public:
  explicit Gold(const LayerContext& c)
      : config_(c.config),
        name_(c.prefix()),
        rotary_(c.rotary),
        maa_x_(c.mix("time_maa_x", 1)),
        maa_q_(c.mix("time_maa_q", 0.5)),
        maa_v_cache_(c.mix("time_maa_v_cache", 1)),
        maa_k_(c.mix("time_maa_k", 1)),
        maa_v_(c.mix("time_maa_v", 1, 0.3)),
        maa_q_w1_(c.lora_in("time_maa_q_w1", {C(), c.mix_rank()})),
        maa_q_w2_(c.lora_out("time_maa_q_w2", {c.mix_rank(), C()})),
        maa_kv_w1_(c.lora_in("time_maa_kv_w1", {C(), 2 * c.mix_rank()})),
        maa_kv_w2_(c.lora_out("time_maa_kv_w2", {2, c.mix_rank(), C()})),
        key_w1_(c.lora_in("time_key_w1", {C(), adapt_rank()})),
        key_w2_(c.lora_out("time_key_w2", {adapt_rank(), A()})),
        value_w1_(c.lora_in("time_value_w1", {C(), adapt_rank()})),
        value_w2_(c.lora_out("time_value_w2", {adapt_rank(), A()})),
        query_(c.linear("query", A(), C(), 1)),
        output_(c.linear("output", C(), A(), 0)),
        norm_q_(c, "ln_q", A()),
        norm_k_(c, "ln_k", A()),
        norm_v_(c, "ln_v", A()),
        norm_x_(c, "ln_x", A(), ln_x_start(c)) {}

  Var forward(const Var& x, const Flow& flow, Past* past) const override {
    Tape& t = x.tape();
    const Shifted s = shifted(past, name_, x);
    const Var xq = ddlerp({s.x_BTC, maa_x_.on(t), maa_q_w1_.on(t), maa_q_w2_.on(t), {maa_q_.on(t)}, {}, s.before})[0];
    const Var q = norm_q_(linear(xq, query_.on(t)));
    if (past) return linear(norm_x_(attend_past(q, flow, *past)), output_.on(t));
    const KeysValues kv = keys_values(flow.keys_BTA, flow.values_BTC);
    return linear(norm_x_(attend(q, kv.keys, kv.values, config_, rotary_)), output_.on(t));
  }

 private:
  int64_t C() const { return config_.n_embd; }
  int64_t A() const { return config_.dim_att; }
  int64_t adapt_rank() const { return std::max<int64_t>(config_.n_embd / 16, 64); }

  struct KeysValues {
    Var keys, values;
  };
  KeysValues keys_values(const Var& keys, const Var& values) const {
    Tape& t = keys.tape();
    const auto mixed = ddlerp(
        {values, maa_v_cache_.on(t), maa_kv_w1_.on(t), maa_kv_w2_.on(t), {maa_k_.on(t), maa_v_.on(t)}, {keys, values}});
    return {norm_k_(lora(mixed[0], key_w1_.on(t), key_w2_.on(t), mixed[0])),
            norm_v_(lora(mixed[1], value_w1_.on(t), value_w2_.on(t), mixed[1]))};
  }

  // Of the positions [begin, end): they look back to one position, and to no stream.
  KeysValues made(const Flow& flow, int64_t begin, int64_t end) const {
    const int64_t first = std::max<int64_t>(begin - 1, 0);
    const Flow f = flow.expand(first, end);
    KeysValues kv = keys_values(f.keys_BTA, f.values_BTC);
    const auto without_first = [&](const Var& v) {
      const int64_t rows = v.size(1), width = v.size(2);
      return v.tape().leaf(v.value().view({rows, width}).slice(begin - first, rows).view({1, end - begin, width}),
                           false);
    };
    kv = {without_first(kv.keys), without_first(kv.values)};
    return {rotated(kv.keys, config_, rotary_, begin), kv.values};
  }

  // As it comes back from a Past: what is made anew is rounded like what is kept, so that both attend to the same.
  static Tensor as_kept(const Var& made, DType kept) {
    const Tensor& from = made.value();
    if (kept == from.dtype()) return from;
    const Tensor narrow = made.tape().empty(from.shape(), kept), wide = made.tape().empty(from.shape(), from.dtype());
    convert(from, narrow);
    convert(narrow, wide);
    return wide;
  }

  // Over all that was read, block by block: made anew each time, or once and kept.
  Var attend_past(const Var& q, const Flow& flow, Past& past) const {
    const int64_t end = past.size();
    if (past.options().expanded) {
      KeptKeysValues kept(past, name_, A());
      for (int64_t at = kept.size(), next; at < end; at = next) {
        next = std::min(end, (at / GrowingRows::kBlock + 1) * GrowingRows::kBlock);
        const KeysValues kv = made(flow, at, next);
        kept.append(kv.keys, kv.values);
      }
      return attend_kept(q, kept, config_, rotary_, past);
    }
    RunningAttention attention = start_attention(q, config_, rotary_, past);
    for (int64_t at = 0, next; at < end; at = next) {
      next = std::min(end, at + GrowingRows::kBlock);
      const KeysValues kv = made(flow, at, next);
      const DType kept = past.options().cache;
      attention.add(as_kept(kv.keys, kept), as_kept(kv.values, kept), at);
    }
    return attention.result();
  }

  const ModelConfig& config_;
  const std::string name_;
  const RotaryTable* rotary_;
  const Parameter &maa_x_, &maa_q_, &maa_v_cache_, &maa_k_, &maa_v_, &maa_q_w1_, &maa_q_w2_, &maa_kv_w1_, &maa_kv_w2_;
  const Parameter &key_w1_, &key_w2_, &value_w1_, &value_w2_, &query_, &output_;
  Norm norm_q_, norm_k_, norm_v_, norm_x_;
};

}  // namespace

std::unique_ptr<TimeMix> make_time_mix_gold(const LayerContext& c) {
  return std::make_unique<Gold>(c);
}

}  // namespace gf
