// SPDX-License-Identifier: Apache-2.0
// GOLD attention (arXiv 2407.12077, eq. 17 to 21): queries from the stream; keys from the shared compressed cache and
// values from the embedded input, both shifted by factors that depend only on a token and the one before it.
#include <algorithm>

#include "model/attend.h"
#include "model/layer.h"
#include "ops/ddlerp/ddlerp.h"
#include "ops/linear/linear.h"
#include "ops/lora/lora.h"

namespace gf {
namespace {

class Gold final : public TimeMix {
 public:
  explicit Gold(const LayerContext& c)
      : config_(c.config),
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

  Var forward(const Var& x, const Flow& flow) const override {
    Tape& t = x.tape();
    const Var xq = ddlerp({x, maa_x_.on(t), maa_q_w1_.on(t), maa_q_w2_.on(t), {maa_q_.on(t)}, {}})[0];
    const auto kv = ddlerp({flow.values_BTC,
                            maa_v_cache_.on(t),
                            maa_kv_w1_.on(t),
                            maa_kv_w2_.on(t),
                            {maa_k_.on(t), maa_v_.on(t)},
                            {flow.keys_BTA, flow.values_BTC}});
    const Var q = norm_q_(linear(xq, query_.on(t)));
    const Var k = norm_k_(lora(kv[0], key_w1_.on(t), key_w2_.on(t), kv[0]));
    const Var v = norm_v_(lora(kv[1], value_w1_.on(t), value_w2_.on(t), kv[1]));
    return linear(norm_x_(attend(q, k, v, config_, rotary_)), output_.on(t));
  }

 private:
  int64_t C() const { return config_.n_embd; }
  int64_t A() const { return config_.dim_att; }
  int64_t adapt_rank() const { return std::max<int64_t>(config_.n_embd / 16, 64); }

  const ModelConfig& config_;
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
