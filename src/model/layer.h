// SPDX-License-Identifier: Apache-2.0
// The pieces a model is made of. Legend: B batch, T time, C = n_embd, A = dim_att, Z compressed width.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/layout.h"
#include "model/parameter.h"
#include "model/past.h"
#include "ops/attention/attention.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/rotary/rotary.h"
#include "ops/token_shift/token_shift.h"
#include "tensor/batch.h"

namespace gf {

// What flows from layer to layer.
struct Flow {
  Var x_BTC;           // the residual stream
  Var origin_BTC;      // the embedded input
  Var compressed_BTZ;  // the compressed keys: all that GOLD layers need kept of the lower stack
  Var keys_BTA;        // made from origin and compressed, once a stage
  Var values_BTC;      // the embedded input over its root mean square, likewise
  // Where a Past is read on, instead of the last two: makes them for the positions [begin, end).
  std::function<Flow(int64_t begin, int64_t end)> expand = {};
};

// One microbatch's pass, as layers see it.
struct Pass {
  const Batch& batch;
  bool training = false;  // dropout, and a loss with its gradient; else nothing is dropped
  double loss_scale = 1;  // the loss is this times the sum of the cross-entropies
  double pull = 0;        // on each position's largest logit (ops/head_loss)
  uint64_t seed = 0;      // of the dropout masks
  Past* past = nullptr;   // of the one sequence, which goes on; null: sequences begin here, and nothing is kept
};

// All a layer may know when it is made. Its methods declare parameters under the layer's prefix, with the published
// initial values.
class LayerContext {
 public:
  LayerContext(ParameterStore& store, std::string prefix, int64_t layer, const ModelConfig& config,
               const RotaryTable* rotary)
      : config(config), layer(layer), rotary(rotary), store_(store), prefix_(std::move(prefix)) {}

  LayerContext inside(std::string_view name) const;  // prefix "blocks.3." -> "blocks.3.att."
  const std::string& prefix() const { return prefix_; }

  const Parameter& add(std::string_view name, Shape, Role, Init) const;
  const Parameter& linear(std::string_view name, int64_t out, int64_t in, double gain) const;  // gain 0: zeros
  const Parameter& lora_in(std::string_view name, Shape) const;                                // zeros
  const Parameter& lora_out(std::string_view name, Shape) const;                               // U(-0.01, 0.01)
  // Of a token shift. The share of the current row begins as (i / C)^(power r1) + lift r0, with r0 from 0 to 1 and r1
  // from 1 to nearly 0 over the layers; toward_previous has what that leaves of 1.
  const Parameter& mix(std::string_view name, double power, double lift = 0,
                       ShiftMix kind = ShiftMix::toward_previous) const;
  const Parameter& decay(Shape) const;  // time_decay
  const Parameter& bonus() const;       // time_faaaa
  double r0() const;
  double r1() const;
  // Rank of the LoRAs that mix tokens and that make decays; both double from n_embd 4096 on.
  int64_t mix_rank() const { return config.n_embd < 4096 ? 32 : 64; }
  int64_t decay_rank() const { return config.n_embd < 4096 ? 64 : 128; }

  const ModelConfig& config;
  const int64_t layer;
  const RotaryTable* const rotary;  // null: no rotary embedding

 private:
  ParameterStore& store_;
  std::string prefix_;
};

// Initial weight of a mixer's last norm: ((1 + layer) / layers)^0.7
double ln_x_start(const LayerContext&);

// Weight and bias of a norm.
class Norm {
 public:
  Norm(const LayerContext&, std::string_view name, int64_t width, double weight = 1);
  Var operator()(const Var& x) const { return layer_norm(x, weight.on(x.tape()), bias.on(x.tape())); }
  const Parameter &weight, &bias;
};

// The part of a block that mixes along time: normalised stream in, its contribution to the stream out.
class TimeMix {
 public:
  virtual ~TimeMix() = default;
  virtual Var forward(const Var& x_BTC, const Flow&, Past*) const = 0;
};

// The part that mixes channels: -> residual + its contribution.
class ChannelMix {
 public:
  virtual ~ChannelMix() = default;
  virtual Var forward(const Var& x_BTC, const Var& residual_BTC, Past*) const = 0;
};

std::unique_ptr<TimeMix> make_time_mix(std::string_view name, const LayerContext&);
std::unique_ptr<ChannelMix> make_channel_mix(std::string_view name, const LayerContext&);

class Layer {
 public:
  virtual ~Layer() = default;
  virtual Flow forward(Tape&, const Pass&, Flow) const = 0;
};

// The head ends a model: a loss against the batch's targets, or logits.
class Head {
 public:
  explicit Head(const LayerContext&);
  struct Loss {
    Var loss;           // scaled sum of the cross-entropies
    Tensor losses_BT;   // f64, each position's
    Tensor correct_BT;  // i32, 1 where the largest logit is the target's
  };
  Loss loss(const Pass&, const Var& x_BTC) const;
  Var logits(const Var& x_BTC) const;  // (B, T, vocab)

 private:
  Norm norm_;
  const Parameter& weight_;
};

// Any layer but the head.
std::unique_ptr<Layer> make_layer(const LayerSpec&, ParameterStore&, const ModelConfig&, const RotaryTable*);
// The table that the config's rope or brope asks for; null without.
std::unique_ptr<RotaryTable> make_rotary_table(const ModelConfig&);

}  // namespace gf
