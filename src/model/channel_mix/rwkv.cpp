// SPDX-License-Identifier: Apache-2.0
// The channel mixer of RWKV-5 and 6: sigmoid(r) (relu(k)^2 W^V), with Finch's token shift or Eagle's.
#include "model/keep.h"
#include "model/layer.h"
#include "ops/elementwise/elementwise.h"
#include "ops/linear/linear.h"
#include "ops/token_shift/token_shift.h"

namespace gf {
namespace {

class Rwkv final : public ChannelMix {
 public:
  Rwkv(const LayerContext& c, ShiftMix kind)
      : name_(c.prefix()),
        kind_(kind),
        mix_k_(c.mix(kind == ShiftMix::toward_previous ? "time_maa_k" : "time_mix_k", 1, 0, kind)),
        mix_r_(c.mix(kind == ShiftMix::toward_previous ? "time_maa_r" : "time_mix_r", 1, 0, kind)),
        key_(c.linear("key", c.config.dim_ffn, c.config.n_embd, 1)),
        receptance_(c.linear("receptance", c.config.n_embd, c.config.n_embd, 0)),
        value_(c.linear("value", c.config.n_embd, c.config.dim_ffn, 0)) {}

  Var forward(const Var& x, const Var& residual, Past* past) const override {
    Tape& t = x.tape();
    const Shifted s = shifted(past, name_, x);
    const auto mixed = token_shift(s.x_BTC, std::vector{mix_k_.on(t), mix_r_.on(t)}, kind_, s.before);
    const Var v = linear(linear_relu_squared(mixed[0], key_.on(t)), value_.on(t));
    return sigmoid_gate_residual(last_rows(residual, v.size(1)), linear(mixed[1], receptance_.on(t)), v);
  }

 private:
  const std::string name_;
  ShiftMix kind_;
  const Parameter &mix_k_, &mix_r_, &key_, &receptance_, &value_;
};

}  // namespace

std::unique_ptr<ChannelMix> make_channel_mix_rwkv_finch(const LayerContext& c) {
  return std::make_unique<Rwkv>(c, ShiftMix::toward_previous);
}
std::unique_ptr<ChannelMix> make_channel_mix_rwkv_eagle(const LayerContext& c) {
  return std::make_unique<Rwkv>(c, ShiftMix::toward_current);
}

}  // namespace gf
