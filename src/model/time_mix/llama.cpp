// SPDX-License-Identifier: Apache-2.0
// The Llama baseline's attention: plain heads, as many keys as queries.
#include "model/attend.h"
#include "model/layer.h"
#include "ops/linear/linear.h"

namespace gf {
namespace {

class Llama final : public TimeMix {
 public:
  explicit Llama(const LayerContext& c)
      : config_(c.config),
        name_(c.prefix()),
        rotary_(c.rotary),
        wq_(c.linear("wq", config_.dim_att, config_.n_embd, 1)),
        wk_(c.linear("wk", config_.dim_att, config_.n_embd, 1)),
        wv_(c.linear("wv", config_.dim_att, config_.n_embd, 1)),
        wo_(c.linear("wo", config_.n_embd, config_.dim_att, 1)) {}

  Var forward(const Var& x, const Flow&, Past* past) const override {
    Tape& t = x.tape();
    const Var q = linear(x, wq_.on(t)), k = linear(x, wk_.on(t)), v = linear(x, wv_.on(t));
    return linear(attend(q, k, v, config_, rotary_, past, name_), wo_.on(t));
  }

 private:
  const ModelConfig& config_;
  const std::string name_;
  const RotaryTable* rotary_;
  const Parameter &wq_, &wk_, &wv_, &wo_;
};

}  // namespace

std::unique_ptr<TimeMix> make_time_mix_llama(const LayerContext& c) {
  return std::make_unique<Llama>(c);
}

}  // namespace gf
