// SPDX-License-Identifier: Apache-2.0
// GPTAlpha (arXiv 2407.12077, eq. 26 to 29): attention whose queries, keys and values are token-shifted as in Finch and
// layer-normed.
#include "model/attend.h"
#include "model/keep.h"
#include "model/layer.h"
#include "ops/ddlerp/ddlerp.h"
#include "ops/linear/linear.h"

namespace gf {
namespace {

class GptAlpha final : public TimeMix {
 public:
  explicit GptAlpha(const LayerContext& c)
      : config_(c.config),
        name_(c.prefix()),
        rotary_(c.rotary),
        maa_x_(c.mix("time_maa_x", 1)),
        maa_r_(c.mix("time_maa_r", 0.5)),
        maa_k_(c.mix("time_maa_k", 1)),
        maa_v_(c.mix("time_maa_v", 1, 0.3)),
        maa_w1_(c.lora_in("time_maa_w1", {C(), 3 * c.mix_rank()})),
        maa_w2_(c.lora_out("time_maa_w2", {3, c.mix_rank(), C()})),
        query_(c.linear("query", A(), C(), 1)),
        key_(c.linear("key", A(), C(), 0.1)),
        value_(c.linear("value", A(), C(), 1)),
        output_(c.linear("output", C(), A(), 0)),
        norm_q_(c, "ln_r", A()),
        norm_k_(c, "ln_k", A()),
        norm_v_(c, "ln_v", A()),
        norm_x_(c, "ln_x", A(), ln_x_start(c)) {}

  Var forward(const Var& x, const Flow&, Past* past) const override {
    Tape& t = x.tape();
    const auto mixed = ddlerp({x,
                               maa_x_.on(t),
                               maa_w1_.on(t),
                               maa_w2_.on(t),
                               {maa_r_.on(t), maa_k_.on(t), maa_v_.on(t)},
                               {},
                               shift_before(past, name_, x)});
    const Var q = norm_q_(linear(mixed[0], query_.on(t)));
    const Var k = norm_k_(linear(mixed[1], key_.on(t)));
    const Var v = norm_v_(linear(mixed[2], value_.on(t)));
    return linear(norm_x_(attend(q, k, v, config_, rotary_, past, name_)), output_.on(t));
  }

 private:
  int64_t C() const { return config_.n_embd; }
  int64_t A() const { return config_.dim_att; }

  const ModelConfig& config_;
  const std::string name_;
  const RotaryTable* rotary_;
  const Parameter &maa_x_, &maa_r_, &maa_k_, &maa_v_, &maa_w1_, &maa_w2_;
  const Parameter &query_, &key_, &value_, &output_;
  Norm norm_q_, norm_k_, norm_v_, norm_x_;
};

}  // namespace

std::unique_ptr<TimeMix> make_time_mix_gptalpha(const LayerContext& c) {
  return std::make_unique<GptAlpha>(c);
}

}  // namespace gf
