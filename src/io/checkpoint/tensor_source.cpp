// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/tensor_source.h"

#include <algorithm>

#include "base/error.h"
#include "base/fields.h"
#include "base/text.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/pth/pth.h"
#include "io/checkpoint/safetensors.h"
#include "io/checkpoint/safetensors_shards.h"
#include "tensor/arithmetic.h"

namespace gf {

std::string_view parameter_name(std::string_view name) {
  if (name.starts_with(kModelPrefix)) name.remove_prefix(kModelPrefix.size());
  return name;
}

void TensorSource::set_entries(std::vector<Entry> entries, std::map<std::string, std::string> unreadable) {
  entries_ = std::move(entries);
  unreadable_ = std::move(unreadable);
  std::ranges::sort(entries_, {}, &Entry::name);
}

const TensorSource::Entry* TensorSource::find(std::string_view name) const {
  const auto found =
      std::ranges::lower_bound(entries_, name, {}, [](const Entry& e) { return std::string_view(e.name); });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

bool TensorSource::mentions(std::string_view name) const {
  return has(name) || unreadable_.contains(std::string(parameter_name(name)));
}

void TensorSource::check(const ShardView& view, const std::string& hint) const {
  const Entry* entry = find(view.name);
  const std::string name(parameter_name(view.name));
  if (!entry) {
    if (const auto found = unreadable_.find(name); found != unreadable_.end())
      refuse(cat(name, " in ", label(), " ", found->second),
             "a file with such values; without this tensor, --train.load_partial 1 gives it fresh ones");
    // As of models that were wrapped when they were saved: module.emb.weight.
    const auto longer = std::ranges::find_if(
        entries_, [&](const Entry& e) { return parameter_name(e.name).ends_with(cat(".", name)); });
    if (longer != entries_.end()) {
      const std::string there(parameter_name(longer->name));
      refuse(cat(name, " is not in the checkpoint ", label(), ", which has ", shortened(there)),
             cat("a file whose names do not begin with ", shortened(there.substr(0, there.size() - name.size()))));
    }
    refuse(
        cat(name, " is ", view.shape, " in the model and not in the checkpoint ", label()),
        !hint.empty()
            ? hint
            : "--train.load_partial 1 keeps fresh values for what a checkpoint lacks; gf ckpt info lists what it has");
  }
  if (entry->shape != view.shape)
    refuse(cat(name, " is ", view.shape, " in the model and ", entry->shape, " in the checkpoint"),
           !hint.empty() ? hint
                         : cat("the configuration it was written with (gf ckpt info ", label(),
                               "), or another --train.proj_suffix"));
  if (entry->dtype != view.dtype)
    refuse(cat(name, " is ", view.dtype, " in the model and ", entry->dtype, " in the checkpoint ", label()));
  GF_CHECK(0 <= view.begin && view.begin <= view.end && view.end <= view.shape.numel(), "the range ", view.begin,
           " to ", view.end, " of ", view.name, ", ", view.shape);
}

void TensorSource::read(std::span<const ShardView> views) const {
  for (const ShardView& view : views) check(view);
  std::vector<ShardView> here;
  for (const ShardView& view : views)
    if (view.device == kCpu) here.push_back(view);
  fill(here);
  for (const ShardView& view : views) {  // one at a time through memory of the CPU
    if (view.device == kCpu) continue;
    const Tensor host = Tensor::empty({view.end - view.begin}, view.dtype, kCpu);
    ShardView staged = view;
    staged.data = host.raw(), staged.device = kCpu;
    fill({&staged, 1});
    copy(host, Tensor({view.data, [](std::byte*) {}}, host.shape(), view.dtype, view.device));
  }
}

std::unique_ptr<TensorSource> open_weights(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  if (name.ends_with(".safetensors")) return std::make_unique<SafetensorsReader>(path);
  if (name.ends_with(kIndexSuffix)) return std::make_unique<SafetensorsShards>(path);
  if (name.ends_with(".pth") || name.ends_with(".pt")) return std::make_unique<PthReader>(path);
  return nullptr;
}

std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path& path) {
  if (auto weights = open_weights(path)) return weights;
  return std::make_unique<CheckpointReader>(path);
}

bool is_tensor_name(std::string_view name) {
  return !name.empty() && is_plain_text(name) && shortened(name, kLongestTensorName) == name;
}

// A name becomes a path in the HDF5 file, where model/a/b would lie in what model/a is.
std::string obstacle_of(const std::string& name, std::span<const int64_t> sizes) {
  if (name.find('/') != std::string::npos) return "has a / in its name";
  if (!is_tensor_name(name) || name == ".") return "has a name that is none in a checkpoint";
  if (std::ranges::find(sizes, 0) != sizes.end()) return "has no elements";
  if (sizes.empty() || sizes.size() > Shape::kMaxRank)
    return cat("has ", sizes.size(), " dimensions; 1 to ", Shape::kMaxRank, " can be read");
  return {};
}

}  // namespace gf
