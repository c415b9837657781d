// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/tensor_source.h"

#include <algorithm>

#include "base/error.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/safetensors.h"

namespace gf {

std::string_view parameter_name(std::string_view name) {
  if (name.starts_with(kModelPrefix)) name.remove_prefix(kModelPrefix.size());
  return name;
}

void TensorSource::set_entries(std::vector<Entry> entries) {
  entries_ = std::move(entries);
  std::ranges::sort(entries_, {}, &Entry::name);
}

const TensorSource::Entry* TensorSource::find(std::string_view name) const {
  const auto found =
      std::ranges::lower_bound(entries_, name, {}, [](const Entry& e) { return std::string_view(e.name); });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

std::string TensorSource::why_not(const std::string&) const {
  return {};
}

void TensorSource::check(const ShardView& view) const {
  const Entry* entry = find(view.name);
  const std::string name(parameter_name(view.name));
  if (!entry) {
    const std::string reason = why_not(view.name);
    if (!reason.empty()) refuse(cat(name, " in ", label(), " ", reason));
    refuse(cat(name, " is not in the checkpoint ", label()),
           "--train.load_partial 1 keeps fresh values for what a checkpoint lacks; gf ckpt info lists what it has");
  }
  if (entry->shape != view.shape)
    refuse(cat(name, " is ", view.shape, " in the model and ", entry->shape, " in the checkpoint"),
           cat("the configuration it was written with (gf ckpt info ", label(), "), or another --train.proj_suffix"));
  if (entry->dtype != view.dtype)
    refuse(cat(name, " is ", view.dtype, " in the model and ", entry->dtype, " in the checkpoint ", label()));
  GF_CHECK(0 <= view.begin && view.begin <= view.end && view.end <= view.shape.numel(), "the range ", view.begin,
           " to ", view.end, " of ", view.name, ", ", view.shape);
}

void TensorSource::read(std::span<const ShardView> views) const {
  for (const ShardView& view : views) check(view);
  fill(views);
}

std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path& path) {
  if (path.extension() == ".safetensors") return std::make_unique<SafetensorsReader>(path);
  return std::make_unique<CheckpointReader>(path);
}

}  // namespace gf
