// SPDX-License-Identifier: Apache-2.0
// A contiguous run of a model's layers with their parameters: the whole model on one rank, or one pipeline stage.
#pragma once
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "model/layer.h"

namespace gf {

// Who keeps the parameters is told when layers use them: it may have to bring them, and can take gradients away as they
// are done. Ranges are those of a whole layer.
class ParameterHooks {
 public:
  virtual ~ParameterHooks() = default;
  virtual void begin_step(int64_t /*microbatches*/) {}
  virtual void before_use(const LayerRange&) {}  // a forward or backward pass is about to read values
  virtual void after_use(const LayerRange&) {}   // it has read them
  // A pass is about to add to gradients (the head's forward pass does too).
  virtual void before_gradients(const LayerRange&) {}
  virtual void gradients_done(const LayerRange&) {}  // a microbatch has added all it has
  virtual void look() {}                             // between any two ops
  // Whether all of a microbatch's uses may be told before its forward pass, and all its gradients after its backward
  // pass, nothing being told within.
  virtual bool may_come_at_once(int64_t /*microbatch*/) const { return true; }
};

class LayerStack {
 public:
  // Layers that are stages of one rank share a store.
  LayerStack(const ModelConfig&, const std::vector<LayerSpec>&,
             std::shared_ptr<ParameterStore> = std::make_shared<ParameterStore>());
  explicit LayerStack(const ModelConfig& config) : LayerStack(config, layout_of(config)) {}
  LayerStack(const LayerStack&) = delete;
  LayerStack& operator=(const LayerStack&) = delete;

  const ModelConfig& config() const { return config_; }
  ParameterStore& parameters() { return *parameters_; }
  const ParameterStore& parameters() const { return *parameters_; }
  const std::vector<LayerSpec>& layers() const { return specs_; }
  bool reads_tokens() const;                                         // has the embedding or the head
  const std::vector<LayerRange>& ranges() const { return ranges_; }  // of each layer's parameters
  // Of each layer, whether it trains a parameter, also one that another layer has declared before it.
  const std::vector<bool>& trains() const { return trains_; }
  bool trains_any() const;
  const Head* head() const { return head_.get(); }  // null: another stage has it

  // Called with each layer's name and what it has just written.
  using Observer = std::function<void(const std::string& layer, const Flow&)>;
  static constexpr size_t kAll = std::numeric_limits<size_t>::max();
  // Through all layers [first, last) but the head. With recompute_blocks a block keeps only its inputs and runs again
  // in the backward pass; pass.batch must live until then.
  Flow forward(Tape&, const Pass&, Flow, bool recompute_blocks = false, const Observer& = {}, ParameterHooks* = nullptr,
               size_t first = 0, size_t last = kAll) const;
  // What key_expand writes, from tokens and compressed keys alone. tokens: (B, T); compressed: (B, T, Z)
  Flow expand_keys(Tape&, const Tensor& tokens_BT, const Tensor& compressed_BTZ) const;
  // Of all layers at once: see ParameterHooks::may_come_at_once.
  void announce_uses(ParameterHooks&) const;
  void announce_gradients(ParameterHooks&) const;
  // Through the head.
  Head::Loss loss(Tape&, const Pass&, const Var& x_BTC, ParameterHooks* = nullptr) const;

 private:
  template <class Run>
  auto with_hooks(Tape&, size_t layer, bool goes_back, ParameterHooks*, Run&&) const;

  const ModelConfig config_;
  std::vector<LayerSpec> specs_;
  std::unique_ptr<RotaryTable> rotary_;
  std::shared_ptr<ParameterStore> parameters_;
  std::vector<std::unique_ptr<Layer>> layers_;  // one a spec, null for the head
  std::vector<LayerRange> ranges_;
  std::vector<bool> trains_;
  std::unique_ptr<Head> head_;
};

// Of layout_of(), under this rule.
std::vector<bool> layers_that_train(const ModelConfig&, const TuningRule&);

}  // namespace gf
