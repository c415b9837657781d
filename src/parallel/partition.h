// SPDX-License-Identifier: Apache-2.0
// Which layers each stage of a pipeline has. By cost, not by number: an embedding costs nothing, the head of a large
// vocabulary as much as several blocks.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/layout.h"
#include "parallel/stage.h"

namespace gf {

// Stage i has the layers [cuts[i], cuts[i + 1]) of layout_of().
struct Partition {
  std::vector<size_t> cuts;
  int num_stages() const { return static_cast<int>(cuts.size()) - 1; }
  bool operator==(const Partition&) const = default;
};

// Of each layer of layout_of(), per token, forward and backward: operations of its products, and of what else takes
// time in proportion, in a fixed measure, so that the same model is cut the same way every time.
std::vector<double> layer_costs(const ModelConfig&);

// Of the layers [begin, end) as one stage: a stage with GOLD blocks expands the keys, the first of them or not.
double stage_cost(const std::vector<LayerSpec>&, const std::vector<double>& costs, size_t begin, size_t end);

// The cut into `stages` whose dearest stage costs least, and of those the one with the evenest costs. Each stage has a
// block or the head. Refuses more stages than blocks; `pieces`: of these, so many on each rank.
Partition balanced_partition(const ModelConfig&, const std::vector<double>& costs, int stages, int64_t pieces = 1);
// Of the cuts whose every stage `fits`, because it may need more memory than there is. Empty: there is none.
// nor_with_more: nor, in its place, does any stage with these layers and more, which then need not be looked at.
enum class StageFit : uint8_t { yes, no, nor_with_more };
using StageFits = std::function<StageFit(size_t begin, size_t end, int stage)>;
std::optional<Partition> fitting_partition(const ModelConfig&, const std::vector<double>& costs, int stages,
                                           const StageFits& fits, int64_t pieces = 1);

// From "0-3,4-7,8-11": the blocks of each stage, lowest first. The embedding goes with the first, the head with the
// last, the key cache with the first GOLD block. Refuses gaps, overlaps and another number of stages.
Partition given_partition(const ModelConfig&, const std::string& text, int stages, int64_t pieces = 1);

std::string text_of(const ModelConfig&, const Partition&);  // the same way; a stage of the head alone is "head"

// What crosses the cut below each stage, and above the last (nothing), for `batch` sequences a microbatch, where
// activations and their gradients are of this dtype.
std::vector<BoundaryShape> boundary_shapes(const ModelConfig&, const Partition&, int64_t batch, DType);

// Likewise what of that has gradients, which cross it downwards: see trained_at().
std::vector<BoundaryShape> gradient_shapes(const ModelConfig&, const Partition&, int64_t batch, DType,
                                           const std::vector<bool>& trains);

}  // namespace gf
