// SPDX-License-Identifier: Apache-2.0
#include "train/partial_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "base/human.h"
#include "parallel/rank_model.h"

namespace gf {
namespace {

// Of "blocks.12.att.key.weight".
struct MixerPlace {
  int64_t block;
  std::string_view part;  // "att", "ffn", "ln1"
};
std::optional<MixerPlace> place_of(std::string_view name) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!name.starts_with(kBlocks)) return std::nullopt;
  name.remove_prefix(kBlocks.size());
  MixerPlace p{};
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), p.block);
  name.remove_prefix(static_cast<size_t>(end - name.data()));
  if (error != std::errc() || p.block < 0 || !name.starts_with('.')) return std::nullopt;
  p.part = name.substr(1, name.find('.', 1) - 1);
  return p;
}

// The least ratio of two digits behind the point with which the layers from `first` on are the upper ones; 0 where
// there is none.
double ratio_for(ModelConfig config, int64_t first) {
  const auto layers = static_cast<double>(config.n_layer), upper = static_cast<double>(config.n_layer - first);
  const double least = std::floor(100 * layers / upper);
  for (double hundredths = least; hundredths <= least + 2; ++hundredths) {
    config.inv_other_layer_ratio = hundredths / 100;
    if (config.first_upper() == first) return config.inv_other_layer_ratio;
  }
  return 0;
}

// Mixers of one kind that leave tensors out.
struct Dropped {
  int64_t first, last, tensors = 0;
};

std::string line_of(const Dropped& d, const std::string& part, const std::string& kind) {
  const auto name = [&](int64_t block) { return fmt::format("blocks.{}.{}", block, part); };
  const bool one = d.first == d.last;
  return fmt::format("{}{} {} now, and {} of the {} that the checkpoint has there {} dropped", name(d.first),
                     one ? "" : " to " + name(d.last), one ? "is " + kind : "are " + kind, counted(d.tensors, "tensor"),
                     one ? "mixer" : "mixers", d.tensors == 1 ? "is" : "are");
}

}  // namespace

std::string taken_from(const TensorSource& load, const ModelConfig& config) {
  const auto names = parameter_names(config);
  const auto has = [&](const std::string& name) { return load.has(cat(kModelPrefix, name)); };
  const auto taken = std::ranges::count_if(names, has);
  const auto there =
      std::ranges::count_if(load.entries(), [](const auto& e) { return e.name.starts_with(kModelPrefix); });
  return cat(": ", taken, " of ", names.size(), " tensors, fresh ones for those it lacks",
             there > taken ? cat("; ", there - taken, " of its own are not in this model") : "");
}

std::vector<std::string> dropped_mixers(const TensorSource& load, const ModelConfig& config) {
  const auto names = parameter_names(config);
  const std::set<std::string_view> known(names.begin(), names.end());
  std::map<std::pair<std::string, std::string>, Dropped> all;  // by part and kind
  int64_t layers = 0;                                          // of the checkpoint
  for (const TensorSource::Entry& e : load.entries()) {
    const auto place = e.name.starts_with(kModelPrefix) ? place_of(parameter_name(e.name)) : std::nullopt;
    if (!place) continue;
    layers = std::max(layers, place->block == INT64_MAX ? 0 : place->block + 1);
    const bool mixes_time = place->part == "att";
    if (place->block >= config.n_layer || (!mixes_time && place->part != "ffn") ||
        known.contains(parameter_name(e.name)))
      continue;
    const std::string& kind = mixes_time ? config.time_mix(place->block) : config.channel_mix(place->block);
    Dropped& d = all.try_emplace({std::string(place->part), kind}, Dropped{place->block, place->block}).first->second;
    d.first = std::min(d.first, place->block), d.last = std::max(d.last, place->block), ++d.tensors;
  }
  const double ratio = !config.tmix2.empty() && 0 < layers && layers < config.n_layer ? ratio_for(config, layers) : 0;
  std::vector<std::string> lines;
  for (const auto& [what, dropped] : all) {
    lines.push_back(line_of(dropped, what.first, what.second));
    if (ratio > 0 && dropped.first >= config.first_upper())
      lines.back() += fmt::format("; --model.inv_other_layer_ratio {:g} has all {} of its layers below the upper ones",
                                  ratio, layers);
  }
  return lines;
}

}  // namespace gf
