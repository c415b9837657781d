// SPDX-License-Identifier: Apache-2.0
// Finch, RWKV-6 (arXiv 2404.05892): data-dependent token shift and decay, bonus, group norm and gate.
#include "model/keep.h"
#include "model/layer.h"
#include "ops/ddlerp/ddlerp.h"
#include "ops/group_norm/group_norm.h"
#include "ops/linear/linear.h"
#include "ops/lora/lora.h"
#include "ops/wkv6/wkv6.h"

namespace gf {
namespace {

class Finch final : public TimeMix {
 public:
  explicit Finch(const LayerContext& c)
      : config_(c.config),
        name_(c.prefix()),
        maa_x_(c.mix("time_maa_x", 1)),
        maa_w_(c.mix("time_maa_w", 1)),
        maa_k_(c.mix("time_maa_k", 1)),
        maa_v_(c.mix("time_maa_v", 1, 0.3)),
        maa_r_(c.mix("time_maa_r", 0.5)),
        maa_g_(c.mix("time_maa_g", 0.5)),
        maa_w1_(c.lora_in("time_maa_w1", {C(), 5 * c.mix_rank()})),
        maa_w2_(c.lora_out("time_maa_w2", {5, c.mix_rank(), C()})),
        decay_(c.decay({1, 1, A()})),
        decay_w1_(c.lora_in("time_decay_w1", {C(), c.decay_rank()})),
        decay_w2_(c.lora_out("time_decay_w2", {c.decay_rank(), A()})),
        bonus_(c.bonus()),
        receptance_(c.linear("receptance", A(), C(), 1)),
        key_(c.linear("key", A(), C(), 0.1)),
        value_(c.linear("value", A(), C(), 1)),
        gate_(c.linear("gate", A(), C(), 0.1)),
        output_(c.linear("output", C(), A(), 0)),
        norm_(c, "ln_x", A(), ln_x_start(c)) {}

  Var forward(const Var& x, const Flow&, Past* past) const override {
    Tape& t = x.tape();
    const auto mixed = ddlerp({x,
                               maa_x_.on(t),
                               maa_w1_.on(t),
                               maa_w2_.on(t),
                               {maa_w_.on(t), maa_k_.on(t), maa_v_.on(t), maa_r_.on(t), maa_g_.on(t)},
                               {},
                               shift_before(past, name_, x)});
    const Var w = lora(mixed[0], decay_w1_.on(t), decay_w2_.on(t), decay_.on(t));
    const Var k = linear(mixed[1], key_.on(t)), v = linear(mixed[2], value_.on(t)),
              r = linear(mixed[3], receptance_.on(t));
    const Var g = linear(mixed[4], gate_.on(t));
    const Var y = wkv6({r, k, v, w, bonus_.on(t), {}, config_.num_heads(), false, wkv_state(past, name_, k, config_)});
    const auto divisor = static_cast<double>(config_.head_size_divisor);
    const Var gated = group_norm_silu_gate(y, g, config_.num_heads(), norm_.weight.on(t), norm_.bias.on(t),
                                           kLayerNormEps * divisor * divisor);
    return linear(gated, output_.on(t));
  }

 private:
  int64_t C() const { return config_.n_embd; }
  int64_t A() const { return config_.dim_att; }

  const ModelConfig& config_;
  const std::string name_;
  const Parameter &maa_x_, &maa_w_, &maa_k_, &maa_v_, &maa_r_, &maa_g_, &maa_w1_, &maa_w2_;
  const Parameter &decay_, &decay_w1_, &decay_w2_, &bonus_;
  const Parameter &receptance_, &key_, &value_, &gate_, &output_;
  Norm norm_;
};

}  // namespace

std::unique_ptr<TimeMix> make_time_mix_finch(const LayerContext& c) {
  return std::make_unique<Finch>(c);
}

}  // namespace gf
