// SPDX-License-Identifier: Apache-2.0
#include "parallel/rank_model.h"

namespace gf {

RankModel::RankModel(const ModelConfig& config, const Mesh& mesh, const RankModelOptions& options, HangWatch* watch)
    : config_(config), store_(std::make_shared<ParameterStore>(options.layer_multiple, options.tuning)) {
  const auto layers = layout_of(config_);
  const Partition& partition = options.partition;
  const int ranks = mesh.pipe->size(), rank = mesh.pipe->rank();
  GF_CHECK(partition.num_stages() % ranks == 0, partition.num_stages(), " stages for ", ranks, " ranks");
  const DType dtype = options.stage.dtype;
  Pipeline::Cuts cuts{
      boundary_shapes(config_, partition, options.micro_batch, dtype),
      gradient_shapes(config_, partition, options.micro_batch, dtype, layers_that_train(config_, options.tuning))};
  bool expands = false;
  std::vector<Stage*> stages;
  for (int s = rank; s < partition.num_stages(); s += ranks) {
    const auto specs = stage_layers(layers, partition.cuts[s], partition.cuts[s + 1]);
    for (const LayerSpec& spec : specs) expands = expands || spec.kind == LayerSpec::Kind::key_expand;
    pieces_.push_back(std::make_unique<LayerStack>(config_, specs, store_));
    StageOptions stage = options.stage;
    stage.gives = cuts.forward[s + 1].fields;
    stage.gradients = cuts.backward[s].fields;
    stages_.push_back(std::make_unique<Stage>(*pieces_.back(), stage));
    stages.push_back(stages_.back().get());
  }
  auto shared = mesh.pipe->split(expands ? 1 : 0, rank);
  if (expands && shared->size() > 1) shared_ = std::move(shared);
  pipeline_ = std::make_unique<Pipeline>(std::move(stages), *mesh.pipe, find_schedule(options.schedule), cuts, watch);
}

std::vector<const LayerStack*> RankModel::pieces() const {
  std::vector<const LayerStack*> all;
  for (const auto& piece : pieces_) all.push_back(piece.get());
  return all;
}

std::vector<std::string> parameter_names(const ModelConfig& config) {
  return LayerStack(config).parameters().names();
}

}  // namespace gf
