// SPDX-License-Identifier: Apache-2.0
// A contiguous run of a model's layers with their parameters: the whole model on one rank, or one pipeline stage.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "model/layer.h"

namespace gf {

class LayerStack {
 public:
  LayerStack(const ModelConfig&, const std::vector<LayerSpec>&);
  explicit LayerStack(const ModelConfig& config) : LayerStack(config, layout_of(config)) {}
  LayerStack(const LayerStack&) = delete;
  LayerStack& operator=(const LayerStack&) = delete;

  const ModelConfig& config() const { return config_; }
  ParameterStore& parameters() { return parameters_; }
  const ParameterStore& parameters() const { return parameters_; }
  const std::vector<LayerSpec>& layers() const { return specs_; }
  const Head* head() const { return head_.get(); }  // null: another stage has it

  // Called with each layer's name and what it has just written.
  using Observer = std::function<void(const std::string& layer, const Flow&)>;
  // Through all layers but the head. With recompute_blocks a block keeps only its inputs and runs again in the
  // backward pass; pass.batch must live until then.
  Flow forward(Tape&, const Pass&, Flow, bool recompute_blocks = false, const Observer& = {}) const;

 private:
  const ModelConfig config_;
  std::vector<LayerSpec> specs_;
  std::unique_ptr<RotaryTable> rotary_;
  ParameterStore parameters_;
  std::vector<std::unique_ptr<Layer>> layers_;  // one a spec, null for the head
  std::unique_ptr<Head> head_;
};

}  // namespace gf
