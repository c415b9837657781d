// SPDX-License-Identifier: Apache-2.0
// What one rank holds of a model: its stages, their parameters, and the pipeline that runs them.
#pragma once
#include <memory>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/partition.h"
#include "parallel/pipeline.h"

namespace gf {

struct RankModelOptions {
  Partition partition;  // into mesh.pipe->size() * pieces stages
  std::string schedule = "one_f_one_b";
  StageOptions stage;       // `gives` and `gradients` are worked out here
  int64_t micro_batch = 1;  // sequences
  int64_t layer_multiple = ParameterStore::kAlign;
  TuningRule tuning = {};  // empty: everything is trained
};

class RankModel {
 public:
  // Collective over mesh.pipe. The parameters are not allocated yet.
  RankModel(const ModelConfig&, const Mesh&, const RankModelOptions&, HangWatch* = nullptr);

  const ModelConfig& config() const { return config_; }
  ParameterStore& parameters() { return *store_; }
  const ParameterStore& parameters() const { return *store_; }
  std::vector<const LayerStack*> pieces() const;
  Pipeline& pipeline() { return *pipeline_; }
  // Ranks whose stages share layers named key_expand, this one among them; null where there are no others.
  Communicator* shared() const { return shared_.get(); }

 private:
  ModelConfig config_;
  std::shared_ptr<ParameterStore> store_;
  std::vector<std::unique_ptr<LayerStack>> pieces_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::unique_ptr<Communicator> shared_;
  std::unique_ptr<Pipeline> pipeline_;
};

// The names of all parameters of a model, in the order of its layers.
std::vector<std::string> parameter_names(const ModelConfig&);

}  // namespace gf
