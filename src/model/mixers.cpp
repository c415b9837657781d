// SPDX-License-Identifier: Apache-2.0
// The registries of mixers: the .def files, as tables.
#include <array>

#include "model/layer.h"

namespace gf {

#define TIME_MIX(name, file, kind) std::unique_ptr<TimeMix> make_time_mix_##file(const LayerContext&);
#include "model/time_mix/time_mixes.def"
#undef TIME_MIX
#define CHANNEL_MIX(name, file) std::unique_ptr<ChannelMix> make_channel_mix_##file(const LayerContext&);
#include "model/channel_mix/channel_mixes.def"
#undef CHANNEL_MIX

namespace {

template <class Mix>
struct Entry {
  std::string_view name;
  std::unique_ptr<Mix> (*make)(const LayerContext&);
};

constexpr Entry<TimeMix> kTimeMixes[] = {
#define TIME_MIX(name, file, kind) {#name, make_time_mix_##file},
#include "model/time_mix/time_mixes.def"
#undef TIME_MIX
};

constexpr Entry<ChannelMix> kChannelMixes[] = {
#define CHANNEL_MIX(name, file) {#name, make_channel_mix_##file},
#include "model/channel_mix/channel_mixes.def"
#undef CHANNEL_MIX
};

template <class Mix, size_t n>
constexpr std::array<std::string_view, n> names_of(const Entry<Mix> (&entries)[n]) {
  std::array<std::string_view, n> names;
  for (size_t i = 0; i < n; ++i) names[i] = entries[i].name;
  return names;
}

template <class Mix, size_t n>
std::unique_ptr<Mix> make(const Entry<Mix> (&entries)[n], std::string_view name, const LayerContext& context) {
  for (const auto& e : entries)
    if (e.name == name) return e.make(context);
  fail(cat("there is no mixer \"", name, "\""));  // ModelConfig::check() lists the known ones
}

}  // namespace

std::unique_ptr<TimeMix> make_time_mix(std::string_view name, const LayerContext& context) {
  return make(kTimeMixes, name, context);
}

std::unique_ptr<ChannelMix> make_channel_mix(std::string_view name, const LayerContext& context) {
  return make(kChannelMixes, name, context);
}

bool has_attention(std::string_view time_mix) {
  enum class Kind : uint8_t { recurrence, attention };
#define TIME_MIX(name, file, kind) \
  if (time_mix == #name) return Kind::kind == Kind::attention;
#include "model/time_mix/time_mixes.def"
#undef TIME_MIX
  return false;
}

std::span<const std::string_view> known_time_mixes() {
  static constexpr auto names = names_of(kTimeMixes);
  return names;
}

std::span<const std::string_view> known_channel_mixes() {
  static constexpr auto names = names_of(kChannelMixes);
  return names;
}

}  // namespace gf
