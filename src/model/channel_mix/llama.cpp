// SPDX-License-Identifier: Apache-2.0
// SwiGLU, with the published width: 4 * n_embd * 2 / 3 in integers, down to a multiple of 32, whatever dim_ffn says.
#include "model/keep.h"
#include "model/layer.h"
#include "ops/elementwise/elementwise.h"
#include "ops/linear/linear.h"

namespace gf {
namespace {

class Llama final : public ChannelMix {
 public:
  explicit Llama(const LayerContext& c)
      : w1_(c.linear("w1", c.config.channel_width("llama"), c.config.n_embd, 1)),
        w2_(c.linear("w2", c.config.n_embd, c.config.channel_width("llama"), 1)),
        w3_(c.linear("w3", c.config.channel_width("llama"), c.config.n_embd, 1)) {}

  Var forward(const Var& all, const Var& residual, Past*) const override {
    const Var x = last_rows(all, residual.size(1));  // in a parallel block the time mix may have left out the first
    Tape& t = x.tape();
    return add(residual, linear(swiglu(linear(x, w1_.on(t)), linear(x, w3_.on(t))), w2_.on(t)));
  }

 private:
  const Parameter &w1_, &w2_, &w3_;
};

}  // namespace

std::unique_ptr<ChannelMix> make_channel_mix_llama(const LayerContext& c) {
  return std::make_unique<Llama>(c);
}

}  // namespace gf
