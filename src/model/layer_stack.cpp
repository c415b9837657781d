// SPDX-License-Identifier: Apache-2.0
#include "model/layer_stack.h"

#include <algorithm>

#include "autodiff/recompute.h"

namespace gf {
namespace {

// A block reads the stream and, if it is a GOLD block, the expanded keys and values; it writes the stream.
Flow recomputed(Tape& tape, const Layer& block, const Pass& pass, const LayerSpec& spec, bool trains, Flow flow) {
  const bool reads_keys = spec.fields.reads & kExpanded;
  std::vector<Var> inputs{flow.x_BTC};
  if (reads_keys) inputs.insert(inputs.end(), {flow.keys_BTA, flow.values_BTC});
  const auto piece = [&block, pass, reads_keys](Tape& inner, std::span<const Var> in) {
    Flow f;
    f.x_BTC = in[0];
    if (reads_keys) f.keys_BTA = in[1], f.values_BTC = in[2];
    return std::vector{block.forward(inner, pass, f).x_BTC};
  };
  flow.x_BTC = recompute(tape, inputs, piece, trains)[0];
  return flow;
}

bool needs_grad(const Flow& flow, Fields fields) {
  const auto needs = [&](const Var& v, Fields field) { return (fields & field) && v && v.needs_grad(); };
  return needs(flow.x_BTC, kX) || needs(flow.origin_BTC, kOrigin) || needs(flow.compressed_BTZ, kCompressed) ||
         needs(flow.keys_BTA, kExpanded) || needs(flow.values_BTC, kExpanded);
}

}  // namespace

LayerStack::LayerStack(const ModelConfig& config, const std::vector<LayerSpec>& specs,
                       std::shared_ptr<ParameterStore> parameters)
    : config_(config), specs_(specs), rotary_(make_rotary_table(config_)), parameters_(std::move(parameters)) {
  parameters_->pad_layer();
  for (const LayerSpec& spec : specs_) {
    const int64_t begin = parameters_->flat_size(), frozen = parameters_->frozen_size();
    const int64_t uses = parameters_->trained_uses();
    if (spec.kind == LayerSpec::Kind::head) {
      head_ = std::make_unique<Head>(LayerContext(*parameters_, "", -1, config_, rotary_.get()));
      layers_.push_back(nullptr);
    } else {
      layers_.push_back(make_layer(spec, *parameters_, config_, rotary_.get()));
    }
    parameters_->pad_layer();
    ranges_.push_back({{begin, parameters_->flat_size()}, {frozen, parameters_->frozen_size()}});
    trains_.push_back(parameters_->trained_uses() > uses);
  }
}

// Runs one layer, and tells the hooks when it and its backward pass use its parameters.
template <class Run>
auto LayerStack::with_hooks(Tape& tape, size_t layer, bool goes_back, ParameterHooks* hooks, Run&& run) const {
  if (!hooks) return run();
  const LayerRange range = ranges_[layer];
  const auto begin = [hooks, range] { hooks->before_use(range), hooks->before_gradients(range); };
  if (!goes_back) {
    hooks->before_use(range);
    auto result = run();
    hooks->after_use(range);
    return result;
  }
  begin();
  tape.mark([hooks, range] { hooks->after_use(range); }, [hooks, range] { hooks->gradients_done(range); });
  auto result = run();
  // Small weights' gradients are by-products of the input gradients, and not put off.
  tape.mark(begin, [hooks, range] { hooks->before_gradients(range); });
  hooks->after_use(range);
  return result;
}

Flow LayerStack::forward(Tape& tape, const Pass& pass, Flow flow, bool recompute_blocks, const Observer& observer,
                         ParameterHooks* hooks, size_t first, size_t last) const {
  for (size_t i = first; i < std::min(last, layers_.size()); ++i) {
    if (!layers_[i]) continue;
    // Below the first layer that trains anything there is no backward pass.
    const bool goes_back = tape.recording() && (trains_[i] || needs_grad(flow, specs_[i].fields.reads));
    flow = with_hooks(tape, i, goes_back, hooks, [&] {
      if (recompute_blocks && goes_back && specs_[i].kind == LayerSpec::Kind::block)
        return recomputed(tape, *layers_[i], pass, specs_[i], trains_[i], std::move(flow));
      return layers_[i]->forward(tape, pass, std::move(flow));
    });
    if (observer) observer(specs_[i].name(), flow);
  }
  return flow;
}

Flow LayerStack::expand_keys(Tape& tape, const Tensor& tokens, const Tensor& compressed) const {
  const Batch batch{tokens, {}, {}};
  Flow flow;
  flow.compressed_BTZ = tape.leaf(compressed, false);
  for (size_t i = 0; i < layers_.size(); ++i)
    if (specs_[i].kind == LayerSpec::Kind::embed || specs_[i].kind == LayerSpec::Kind::key_expand)
      flow = layers_[i]->forward(tape, {batch}, std::move(flow));
  GF_CHECK(flow.keys_BTA, "keys of a stack without the embedding or without GOLD layers");
  return flow;
}

Head::Loss LayerStack::loss(Tape& tape, const Pass& pass, const Var& x, ParameterHooks* hooks) const {
  GF_CHECK(head_, "the loss of a stage without the head");
  const bool goes_back = tape.recording() && (trains_.back() || x.needs_grad());
  return with_hooks(tape, layers_.size() - 1, goes_back, hooks, [&] { return head_->loss(pass, x); });
}

void LayerStack::announce_uses(ParameterHooks& hooks) const {
  for (size_t i = 0; i < ranges_.size(); ++i) {
    hooks.before_use(ranges_[i]);
    if (trains_[i]) hooks.before_gradients(ranges_[i]);
    hooks.after_use(ranges_[i]);
  }
}

void LayerStack::announce_gradients(ParameterHooks& hooks) const {
  for (size_t i = ranges_.size(); i-- > 0;)
    if (trains_[i]) hooks.gradients_done(ranges_[i]);
}

bool LayerStack::reads_tokens() const {
  return std::any_of(specs_.begin(), specs_.end(), [](const LayerSpec& spec) {
    return spec.kind == LayerSpec::Kind::embed || spec.kind == LayerSpec::Kind::head;
  });
}

bool LayerStack::trains_any() const {
  return std::find(trains_.begin(), trains_.end(), true) != trains_.end();
}

std::vector<bool> layers_that_train(const ModelConfig& config, const TuningRule& rule) {
  const auto specs = layout_of(config);
  if (!rule) return std::vector<bool>(specs.size(), true);
  return LayerStack(config, specs, std::make_shared<ParameterStore>(ParameterStore::kAlign, rule)).trains();
}

}  // namespace gf
