// SPDX-License-Identifier: Apache-2.0
// A model's parameters from files: a checkpoint's, or a .safetensors file's.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>

#include "io/checkpoint/tensor_source.h"
#include "model/layer_stack.h"
#include "train/config.h"

namespace gf {

// The parameters of a stage, whole, as views to be read into or written from.
std::vector<ShardView> parameter_views(const ParameterStore&);

// Which of a model's parameters a source has to give. Refuses one that it lacks, unless `partial`; and one of another
// shape in any case.
std::vector<ShardView> views_in(const TensorSource&, const std::vector<ShardView>& all, bool partial);

// Checks the same before any memory is taken: names and shapes only.
void check_parameters(const TensorSource&, const ParameterStore&, bool partial);
// What a run without a checkpoint loads, by its train.load_model: null where there is none. Refuses what has not the
// parameters of `stage`, a part of the run's model.
std::unique_ptr<TensorSource> open_start(const Config&, const ParameterStore& stage);
// Checks that a source has the parameters of the model that a configuration describes, no fewer and no others.
void check_weights_of(const TensorSource&, const Config&);

// A trained model, ready to be asked: the configuration that its checkpoint carries, and its parameters.
struct TrainedModel {
  Config config;
  std::unique_ptr<LayerStack> layers;
};
// `change` may give the model another position encoding than it was trained with.
TrainedModel open_model(const std::filesystem::path& checkpoint, const std::function<void(ModelConfig&)>& change = {});

}  // namespace gf
