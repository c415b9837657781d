// SPDX-License-Identifier: Apache-2.0
// Eagle, RWKV-5.2 (arXiv 2404.05892): static token shift and decay, bonus, group norm of y / divisor, gate.
#include "model/keep.h"
#include "model/layer.h"
#include "ops/elementwise/elementwise.h"
#include "ops/group_norm/group_norm.h"
#include "ops/linear/linear.h"
#include "ops/token_shift/token_shift.h"
#include "ops/wkv6/wkv6.h"

namespace gf {
namespace {

class Eagle final : public TimeMix {
 public:
  explicit Eagle(const LayerContext& c)
      : config_(c.config),
        name_(c.prefix()),
        mix_k_(c.mix("time_mix_k", 1, 0, ShiftMix::toward_current)),
        mix_v_(c.mix("time_mix_v", 1, 0.3, ShiftMix::toward_current)),
        mix_r_(c.mix("time_mix_r", 0.5, 0, ShiftMix::toward_current)),
        mix_g_(c.mix("time_mix_g", 0.5, 0, ShiftMix::toward_current)),
        decay_(c.decay({config_.num_heads(), config_.head_size})),
        bonus_(c.bonus()),
        receptance_(c.linear("receptance", A(), C(), 1)),
        key_(c.linear("key", A(), C(), 0.1)),
        value_(c.linear("value", A(), C(), 1)),
        gate_(c.linear("gate", A(), C(), 0.1)),
        output_(c.linear("output", C(), A(), 0)),
        norm_(c, "ln_x", A(), ln_x_start(c)) {}

  Var forward(const Var& x, const Flow&, Past* past) const override {
    Tape& t = x.tape();
    const auto mixed = token_shift(x, std::vector{mix_k_.on(t), mix_v_.on(t), mix_r_.on(t), mix_g_.on(t)},
                                   ShiftMix::toward_current, shift_before(past, name_, x));
    const Var k = linear(mixed[0], key_.on(t)), v = linear(mixed[1], value_.on(t)),
              r = linear(mixed[2], receptance_.on(t));
    const Var g = linear(mixed[3], gate_.on(t));
    const Var y = wkv6({r,
                        k,
                        v,
                        broadcast_rows(decay_.on(t), k.shape()),
                        bonus_.on(t),
                        {},
                        config_.num_heads(),
                        false,
                        wkv_state(past, name_, k, config_)});
    const Var gated = group_norm_silu_gate(y, g, config_.num_heads(), norm_.weight.on(t), norm_.bias.on(t),
                                           kLayerNormEps, 1 / static_cast<double>(config_.head_size_divisor));
    return linear(gated, output_.on(t));
  }

 private:
  int64_t C() const { return config_.n_embd; }
  int64_t A() const { return config_.dim_att; }

  const ModelConfig& config_;
  const std::string name_;
  const Parameter &mix_k_, &mix_v_, &mix_r_, &mix_g_, &decay_, &bonus_;
  const Parameter &receptance_, &key_, &value_, &gate_, &output_;
  Norm norm_;
};

}  // namespace

std::unique_ptr<TimeMix> make_time_mix_eagle(const LayerContext& c) {
  return std::make_unique<Eagle>(c);
}

}  // namespace gf
