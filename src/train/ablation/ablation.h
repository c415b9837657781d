// SPDX-License-Identifier: Apache-2.0
// An ablation: variants of one model, each trained from several seeds with the same data, order of samples, batch and
// schedule. Read from a file whose every line is checked before anything runs: a variant changes keys of the section
// model alone, and not those that the data is cut by.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "train/config.h"

namespace gf {

struct Variant {
  std::string name;               // fit for a folder's name
  std::vector<Setting> settings;  // model.* = value, over those of the base
};

struct Ablation {
  std::string name;  // of the file, without .yaml
  std::vector<Variant> variants;
  std::vector<int64_t> seeds;
  enum class Match : uint8_t { none, params, flops } match = Match::none;
};

Ablation read_ablation(const std::filesystem::path&);

// "1,2,3", as --seeds has it, with blanks or without. Refuses one that comes twice.
std::vector<int64_t> seeds_of(const std::string& text);

// A variant made ready: its configuration but for seed and folder, resolved and checked, and what it costs.
struct PlannedVariant {
  std::string name;
  std::vector<Setting> settings;  // with the dim_ffn that match has chosen
  Config config;
  int64_t parameters = 0;
  double flops_per_token = 0;  // forward and backward, without recompute
  double cache_bytes = 0;      // that a token adds when text is generated, keys and values in bf16
};

int64_t channel_width(const PlannedVariant&);  // of the lower layers

// Of all variants. What is wrong with one is told with its name. Refuses a base that trains nothing.
std::vector<PlannedVariant> plan_variants(const Ablation&, const ConfigParts& base);

// One training run: a variant from a seed, in <proj_dir>/<ablation>/<variant>-s<seed>.
struct AblationRun {
  size_t variant;
  int64_t seed;
  Config config;
  std::vector<std::string> arguments;  // of gf-dist-train
};
AblationRun run_of(const Ablation&, const std::vector<PlannedVariant>&, size_t variant, int64_t seed,
                   const ConfigParts& base);

std::filesystem::path folder_of(const Ablation&, const Config& base);  // <proj_dir>/<ablation>

// Is told of a run that the report goes without, by its folder's name, and why.
using LeftOut = std::function<void(const std::string& run, const Error& why)>;

}  // namespace gf
