// SPDX-License-Identifier: Apache-2.0
// "x060b", a published variant of Finch: no gate, and a layer norm over the full width instead of one a head.
#include "model/keep.h"
#include "model/layer.h"
#include "ops/ddlerp/ddlerp.h"
#include "ops/linear/linear.h"
#include "ops/lora/lora.h"
#include "ops/wkv6/wkv6.h"

namespace gf {
namespace {

class FinchB final : public TimeMix {
 public:
  explicit FinchB(const LayerContext& c)
      : config_(c.config),
        name_(c.prefix()),
        maa_x_(c.mix("time_maa_x", 1)),
        maa_r_(c.mix("time_maa_r", 0.5)),
        maa_k_(c.mix("time_maa_k", 1)),
        maa_v_(c.mix("time_maa_v", 1, 0.3)),
        maa_w_(c.mix("time_maa_w", 1)),
        maa_w1_(c.lora_in("time_maa_rkvw_w1", {C(), 4 * c.mix_rank()})),
        maa_w2_(c.lora_out("time_maa_rkvw_w2", {4, c.mix_rank(), C()})),
        decay_(c.decay({1, 1, A()})),
        decay_w1_(c.lora_in("time_decay_w1", {C(), c.decay_rank()})),
        decay_w2_(c.lora_out("time_decay_w2", {c.decay_rank(), A()})),
        bonus_(c.bonus()),
        receptance_(c.linear("receptance", A(), C(), 1)),
        key_(c.linear("key", A(), C(), 0.1)),
        value_(c.linear("value", A(), C(), 1)),
        output_(c.linear("output", C(), A(), 0)),
        norm_(c, "ln_x", A(), ln_x_start(c)) {}

  Var forward(const Var& x, const Flow&, Past* past) const override {
    Tape& t = x.tape();
    const auto mixed = ddlerp({x,
                               maa_x_.on(t),
                               maa_w1_.on(t),
                               maa_w2_.on(t),
                               {maa_r_.on(t), maa_k_.on(t), maa_v_.on(t), maa_w_.on(t)},
                               {},
                               shift_before(past, name_, x)});
    const Var r = linear(mixed[0], receptance_.on(t)), k = linear(mixed[1], key_.on(t)),
              v = linear(mixed[2], value_.on(t));
    const Var w = lora(mixed[3], decay_w1_.on(t), decay_w2_.on(t), decay_.on(t));
    return linear(
        norm_(wkv6({r, k, v, w, bonus_.on(t), {}, config_.num_heads(), false, wkv_state(past, name_, k, config_)})),
        output_.on(t));
  }

 private:
  int64_t C() const { return config_.n_embd; }
  int64_t A() const { return config_.dim_att; }

  const ModelConfig& config_;
  const std::string name_;
  const Parameter &maa_x_, &maa_r_, &maa_k_, &maa_v_, &maa_w_, &maa_w1_, &maa_w2_;
  const Parameter &decay_, &decay_w1_, &decay_w2_, &bonus_;
  const Parameter &receptance_, &key_, &value_, &output_;
  Norm norm_;
};

}  // namespace

std::unique_ptr<TimeMix> make_time_mix_finch_b(const LayerContext& c) {
  return std::make_unique<FinchB>(c);
}

}  // namespace gf
