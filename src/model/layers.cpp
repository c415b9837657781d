// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "model/keep.h"
#include "model/layer.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/head_loss/head_loss.h"
#include "ops/linear/linear.h"
#include "ops/rms_norm/rms_norm.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

Var drop(const Var& x, const ModelConfig& config, const Pass& pass, const std::string& name) {
  if (!pass.training || config.dropout == 0) return x;
  return dropout(x, config.dropout, {pass.seed, name, pass.batch.samples_B});
}

// The same value twice. The gradients of the stream and of the embedded input meet here and nowhere else, so that they
// add up in one order, wherever a pipeline is cut.
std::vector<Var> fork(const Var& x) {
  Tape& tape = x.tape();
  return tape.record("fork", std::vector{x}, {x.value(), x.value()}, [&tape](std::span<Tensor> grad, Grads& grads) {
    if (!grad[0] || !grad[1]) return grads.add(0, std::move(grad[grad[0] ? 0 : 1]));
    Tensor sum = tape.writable(std::move(grad[0]));
    add_to(sum, grad[1]);
    grads.add(0, std::move(sum));
  });
}

class Embed final : public Layer {
 public:
  explicit Embed(const LayerContext& context)
      : config_(context.config),
        table_(context.add("emb.weight", {config_.vocab_size, config_.n_embd}, Role::matrix, Init::uniform(1e-4))),
        norm_(context.inside("blocks").inside("0"), "ln0", config_.n_embd) {}

  Flow forward(Tape& tape, const Pass& pass, Flow flow) const override {
    const auto both = fork(norm_(drop(embedding(pass.batch.inputs_BT, table_.on(tape)), config_, pass, "emb.drop")));
    flow.x_BTC = both[0], flow.origin_BTC = both[1];
    return flow;
  }

 private:
  const ModelConfig& config_;
  const Parameter& table_;
  Norm norm_;
};

// x += time_mix(ln1 x);  x += channel_mix(ln2 x); or both from the same x (model.parallel). Dropout falls on the
// stream after each, as published.
class Block final : public Layer {
 public:
  explicit Block(const LayerContext& context)
      : config_(context.config),
        prefix_(context.prefix()),
        norm1_(context, "ln1", config_.n_embd),
        norm2_(context, "ln2", config_.n_embd),
        time_mix_(make_time_mix(config_.time_mix(context.layer), context.inside("att"))),
        channel_mix_(make_channel_mix(config_.channel_mix(context.layer), context.inside("ffn"))) {}

  Flow forward(Tape&, const Pass& pass, Flow flow) const override {
    const Var& x = flow.x_BTC;
    const Var mixed = time_mix_->forward(norm1_(x), flow, pass.past), residual = last_rows(x, mixed.size(1));
    if (config_.parallel) {
      const Var both = channel_mix_->forward(norm2_(x), add(residual, mixed), pass.past);
      flow.x_BTC = drop(both, config_, pass, prefix_ + "drop0");
      return flow;
    }
    if (pass.training && config_.dropout > 0) {
      const Var stream = drop(add(residual, mixed), config_, pass, prefix_ + "drop0");
      flow.x_BTC = drop(channel_mix_->forward(norm2_(stream), stream, pass.past), config_, pass, prefix_ + "drop1");
      return flow;
    }
    const ResidualNorm r = add_layer_norm(residual, mixed, norm2_.weight.on(x.tape()), norm2_.bias.on(x.tape()));
    flow.x_BTC = channel_mix_->forward(r.normed, r.sum, pass.past);
    return flow;
  }

 private:
  const ModelConfig& config_;
  std::string prefix_;
  Norm norm1_, norm2_;
  std::unique_ptr<TimeMix> time_mix_;
  std::unique_ptr<ChannelMix> channel_mix_;
};

// The stored cache entry: c = x W_a.
class KeyCompress final : public Layer {
 public:
  explicit KeyCompress(const LayerContext& context)
      : config_(context.config),
        weight_(context.linear("w_kv_cache_a", context.config.compressed_width(), context.config.n_embd, 1)) {}

  Flow forward(Tape& tape, const Pass& pass, Flow flow) const override {
    flow.compressed_BTZ = linear(flow.x_BTC, weight_.on(tape));
    if (!pass.past) return flow;
    const Tensor& tokens = pass.batch.inputs_BT;
    kept_compressed(*pass.past, config_).append(flow.compressed_BTZ.value());
    kept_tokens(*pass.past, config_).append(tokens.view({tokens.numel(), 1}));
    return flow;
  }

 private:
  const ModelConfig& config_;
  const Parameter& weight_;
};

// "TokenCat": keys = rms_norm([origin, c] W_b), shared by all GOLD layers, and the values that these start from.
// Each stage with GOLD layers has one; its weight is shared between stages.
class KeyExpand final : public Layer {
 public:
  explicit KeyExpand(const LayerContext& context)
      : weight_(context.linear("w_kv_cache_b", context.config.dim_att,
                               context.config.n_embd + context.config.compressed_width(), 1)) {}

  Flow forward(Tape& tape, const Pass& pass, Flow flow) const override {
    if (pass.past) return flow;  // GOLD layers ask flow.expand for those that they need
    flow.keys_BTA = rms_norm(linear_concat(flow.origin_BTC, flow.compressed_BTZ, weight_.on(tape)));
    flow.values_BTC = rms_norm(flow.origin_BTC);
    return flow;
  }

 private:
  const Parameter& weight_;
};

double head_gain(const ModelConfig& config) {
  const auto V = static_cast<double>(config.vocab_size), C = static_cast<double>(config.n_embd);
  return V > C ? 0.5 * std::sqrt(V / C) : 0.5;
}

}  // namespace

Head::Head(const LayerContext& context)
    : norm_(context, "ln_out", context.config.n_embd),
      weight_(context.linear("head", context.config.vocab_size, context.config.n_embd, head_gain(context.config))) {}

Head::Loss Head::loss(const Pass& pass, const Var& x) const {
  const HeadLossOptions options{pass.loss_scale, pass.training ? pass.pull : 0, pass.batch.masked};
  HeadLoss h = head_loss(norm_(x), weight_.on(x.tape()), pass.batch.targets_BT, options);
  return {h.loss, h.losses_BT, h.correct_BT};
}

Var Head::logits(const Var& x) const {
  return linear(norm_(x), weight_.on(x.tape()));
}

std::unique_ptr<Layer> make_layer(const LayerSpec& spec, ParameterStore& store, const ModelConfig& config,
                                  const RotaryTable* rotary) {
  const LayerContext whole(store, "", spec.block, config, rotary);
  switch (spec.kind) {
    case LayerSpec::Kind::embed:
      return std::make_unique<Embed>(whole);
    case LayerSpec::Kind::block:
      return std::make_unique<Block>(whole.inside("blocks").inside(cat(spec.block)));
    case LayerSpec::Kind::key_compress:
      return std::make_unique<KeyCompress>(whole);
    case LayerSpec::Kind::key_expand:
      return std::make_unique<KeyExpand>(whole);
    case LayerSpec::Kind::head:
      break;
  }
  fail("the head is not one of the stacked layers");
}

}  // namespace gf
