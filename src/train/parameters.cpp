// SPDX-License-Identifier: Apache-2.0
#include "train/parameters.h"

#include <algorithm>

#include "base/human.h"
#include "base/process_memory.h"
#include "base/text.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "parallel/rank_model.h"

namespace gf {
namespace {

// Of a bf16 value the name and shape alone: what it was rounded from, an optimizer keeps.
ShardView view_of(const Parameter& p) {
  const Tensor& t = p.value();
  std::byte* const data = t.dtype() == DType::f32 ? t.raw() : nullptr;
  return {cat(kModelPrefix, p.name()), DType::f32, p.shape(), 0, p.shape().numel(), data, t.device()};
}

// Before it is taken: a system that gives out more than there is ends a process later, without a word.
void check_memory_for(const ParameterStore& store) {
  const auto need = size_of(DType::f32) * static_cast<size_t>(store.flat_size() + store.frozen_size());
  const AvailableMemory available = available_memory();
  if (need > available.bytes)
    refuse(cat("the model's ", store.count(), " parameters take ", human_bytes(static_cast<double>(need)),
               " of memory, and there are ", human_bytes(static_cast<double>(available.bytes))),
           available.hint(need, cat("a model of at most ", available.bytes / size_of(DType::f32),
                                    " parameters, or a machine with more memory")));
}

// What a checkpoint says of its own model, complete. What is wrong with it is no option's of who asks for the model.
Config config_in(const CheckpointReader& reader) {
  const std::string name = reader.path().string();
  const auto refuse_as_own = [](const std::string& what) {
    refuse(what, "another checkpoint; or gf ckpt import, with --config FILE, of the file that the weights came from");
  };
  Config config;
  try {
    config = config_from_text(reader.attributes().config, name);
  } catch (const Error& e) {
    refuse_as_own(e.what());  // which names it
  }
  if (config.model.vocab_size == 0)
    refuse(name + " says nothing of its model's configuration",
           "gf ckpt import with --config FILE, the model's configuration");
  try {
    resolve(config);
    config.model.check();
  } catch (const Error& e) {
    refuse_as_own(cat("the configuration in ", name, " is wrong: ", e.what()));
  }
  return config;
}

}  // namespace

std::vector<ShardView> parameter_views(const ParameterStore& store) {
  std::vector<ShardView> views;
  for (const auto& p : store.all()) views.push_back(view_of(*p));
  return views;
}

std::vector<ShardView> views_in(const TensorSource& source, const std::vector<ShardView>& all, bool partial) {
  std::vector<ShardView> found;
  for (const ShardView& view : all) {
    if (partial && !source.mentions(view.name)) continue;
    source.check(view);
    found.push_back(view);
  }
  return found;
}

void check_parameters(const TensorSource& source, const ParameterStore& store, bool partial) {
  views_in(source, parameter_views(store), partial);
}

std::unique_ptr<TensorSource> open_start(const Config& config, const ParameterStore& stage) {
  const TrainConfig& t = config.train;
  if (t.load_model.empty()) return nullptr;
  auto load = open_tensors(t.load_model);
  // A stage may be of new layers alone, the model not.
  const auto there = [&](const std::string& name) { return load->mentions(cat(kModelPrefix, name)); };
  if (t.load_partial && std::ranges::none_of(parameter_names(config.model), there))
    refuse("the checkpoint has none of the model's parameters", "a checkpoint of this kind of model");
  check_parameters(*load, stage, t.load_partial);
  return load;
}

void check_weights_of(const TensorSource& source, const Config& config) {
  constexpr const char* kHint = "the configuration of the model that these weights are of";
  ModelConfig model = config.model;
  model.resolve();
  model.check();
  const auto tensors = static_cast<int64_t>(source.entries().size());
  if (model.n_layer > tensors)
    refuse(cat("model.n_layer is ", model.n_layer, ", and there are ", tensors, " tensors"), kHint);
  const LayerStack layers(model);
  const ParameterStore& store = layers.parameters();
  for (const ShardView& view : parameter_views(store)) source.check(view, kHint);
  for (const TensorSource::Entry& e : source.entries())
    if (e.name.starts_with(kModelPrefix) && !store.find(parameter_name(e.name)))
      refuse(cat(shortened(parameter_name(e.name)), " is in the checkpoint and not in the model"), kHint);
}

TrainedModel open_model(const std::filesystem::path& path, const std::function<void(ModelConfig&)>& change) {
  const CheckpointReader reader(path);
  TrainedModel model{config_in(reader), nullptr};
  if (change) {
    change(model.config.model);
    model.config.model.check();
  }
  check_weights_of(reader, model.config);
  model.layers = std::make_unique<LayerStack>(model.config.model);
  ParameterStore& store = model.layers->parameters();
  check_memory_for(store);
  store.allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  reader.read(parameter_views(store));
  return model;
}

}  // namespace gf
