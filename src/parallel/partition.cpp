// SPDX-License-Identifier: Apache-2.0
#include "parallel/partition.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>
#include <sstream>
#include <tuple>

#include "base/text.h"
#include "model/layer_stack.h"

namespace gf {
namespace {

using Kind = LayerSpec::Kind;

// Where a stage may begin: at a block, with the key cache below the first GOLD block, or at the head.
std::vector<size_t> places_to_cut(const std::vector<LayerSpec>& layers) {
  std::vector<size_t> places{0};
  bool has_block = false, cache_open = false;
  for (size_t i = 0; i < layers.size(); ++i) {
    const bool begins = layers[i].kind == Kind::key_compress || layers[i].kind == Kind::head ||
                        (layers[i].kind == Kind::block && !cache_open);
    if (begins && has_block) places.push_back(i);
    has_block = has_block || layers[i].kind == Kind::block;
    cache_open = layers[i].kind == Kind::key_compress || layers[i].kind == Kind::key_expand;
  }
  places.push_back(layers.size());
  return places;
}

// Numbers of a layer's weights that take part in products.
double product_weights(const ModelConfig& config, const LayerSpec& spec) {
  double weights = 0;
  const LayerStack stack(config, {spec});
  for (const auto& p : stack.parameters().all())
    if (p->spec().role == Role::matrix || p->spec().role == Role::lora)
      weights += static_cast<double>(p->shape().numel());
  return weights;
}

// What layers [begin, end) as one stage expand again, which the layer at `expand` has made below them.
double cost_of_expanding(const std::vector<LayerSpec>& layers, const std::vector<double>& costs, size_t expand,
                         size_t begin, size_t end) {
  return expand < begin && expands_anew(layers, begin, end) ? costs[expand] : 0;
}

size_t place_of_expanding(const std::vector<LayerSpec>& layers) {
  return static_cast<size_t>(std::ranges::find(layers, Kind::key_expand, &LayerSpec::kind) - layers.begin());
}

// What to change where ranks and their pieces make more stages than there are blocks: either, where that is enough.
std::string fewer_stages(int64_t n_layer, int64_t pipeline, int64_t pieces) {
  const int64_t most_ranks = n_layer / pieces, most_pieces = n_layer / pipeline;
  std::string hint;
  if (most_ranks > 0) hint = cat("--parallel.pipeline ", most_ranks, " at most");
  if (pieces == 1) return hint;
  if (most_pieces > 0)
    hint += cat(hint.empty() ? "" : ", or ", "--parallel.pieces ", most_pieces, most_pieces > 1 ? " at most" : "");
  return hint.empty() ? cat("--parallel.pipeline ", n_layer, " at most, with --parallel.pieces 1") : hint;
}

// What stages that begin at places[first] cost, one for each end.
std::vector<double> costs_from(const std::vector<LayerSpec>& layers, const std::vector<double>& costs,
                               const std::vector<size_t>& places, size_t first) {
  const size_t expand = place_of_expanding(layers), begin = places[first];
  std::vector<double> all(places.size());
  double own = 0;
  for (size_t end = first + 1; end < places.size(); ++end) {
    for (size_t i = places[end - 1]; i < places[end]; ++i) own += costs[i];
    all[end] = own + cost_of_expanding(layers, costs, expand, begin, places[end]);
  }
  return all;
}

// Stages, by their places in the pipeline and the units [begin, end) that they have, that do not fit.
class Misfits {
 public:
  Misfits(int stages, size_t n) : least_end_(stages, std::vector<size_t>(n, n + 1)) {}
  void add(StageFit fit, int stage, size_t begin, size_t end) {
    if (fit == StageFit::no) alone_.insert({stage, begin, end});
    if (fit != StageFit::nor_with_more) return;
    for (size_t b = 0; b <= begin; ++b) least_end_[stage][b] = std::min(least_end_[stage][b], end);
  }
  bool has_alone(int stage, size_t begin, size_t end) const {
    return !alone_.empty() && alone_.contains({stage, begin, end});
  }
  bool has_with_more(int stage, size_t begin, size_t end) const { return end >= least_end_[stage][begin]; }

 private:
  std::vector<std::vector<size_t>> least_end_;  // of a stage that begins there: from this end on it does not fit
  std::set<std::tuple<int, size_t, size_t>> alone_;
};

// The units at which the stages begin, and their number `n`; empty where all cuts have misfits. `cost`: of a stage, by
// its first unit and its end.
std::vector<size_t> cheapest_cut(const std::vector<std::vector<double>>& cost, int stages, size_t n,
                                 const Misfits& misfits) {
  // best[s][i]: the first i units in s stages: their dearest stage, then the sum of squares.
  using Score = std::pair<double, double>;
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::vector<std::vector<Score>> best(stages + 1, std::vector<Score>(n + 1, {kNever, kNever}));
  std::vector<std::vector<size_t>> from(stages + 1, std::vector<size_t>(n + 1));
  best[0][0] = {0, 0};
  for (int s = 1; s <= stages; ++s)
    for (size_t end = s; end <= n; ++end)
      // From the smallest stage on, until larger ones cost too much or do not fit. Of equal cuts the lowest.
      for (size_t begin = s == 1 ? 1 : end; begin-- > static_cast<size_t>(s - 1);) {
        const Score& below = best[s - 1][begin];
        const double c = cost[begin][end];
        if (c > best[s][end].first || misfits.has_with_more(s - 1, begin, end)) break;
        const Score score{std::max(below.first, c), below.second + c * c};
        if (below.first == kNever || score > best[s][end] || misfits.has_alone(s - 1, begin, end)) continue;
        best[s][end] = score, from[s][end] = begin;
      }
  if (best[stages][n].first == kNever) return {};
  std::vector<size_t> units{n};
  for (int s = stages; s > 0; --s) units.push_back(from[s][units.back()]);
  std::reverse(units.begin(), units.end());
  return units;
}

}  // namespace

std::vector<double> layer_costs(const ModelConfig& c) {
  const auto A = static_cast<double>(c.dim_att), C = static_cast<double>(c.n_embd), T = static_cast<double>(c.ctx_len);
  std::vector<double> costs;
  for (const LayerSpec& spec : layout_of(c)) {
    if (spec.kind == Kind::embed) {
      costs.push_back(24 * C);  // a row read, a norm, a row added to
      continue;
    }
    double cost = 6 * product_weights(c, spec);
    if (spec.kind == Kind::block) {
      // Norms, mixes, gates: bound by memory, which moves a number in the time of some fifteen operations.
      cost += 60 * 15 * C;
      if (has_attention(c.time_mix(spec.block))) {
        cost += 6 * T * A;
      } else {
        // The recurrence: ten operations for each number of a head's state, at about a third of the speed of products.
        cost += 3 * 20 * A * static_cast<double>(c.head_size);
        if (c.time_mix(spec.block) == "x060c2" && c.use_v2) cost += 6 * C * A;  // W^V is used twice
      }
    }
    costs.push_back(cost);
  }
  return costs;
}

double stage_cost(const std::vector<LayerSpec>& layers, const std::vector<double>& costs, size_t begin, size_t end) {
  double sum = 0;
  for (size_t i = begin; i < end; ++i) sum += costs[i];
  return sum + cost_of_expanding(layers, costs, place_of_expanding(layers), begin, end);
}

std::optional<Partition> fitting_partition(const ModelConfig& config, const std::vector<double>& costs, int stages,
                                           const StageFits& fits, int64_t pieces) {
  const auto layers = layout_of(config);
  GF_CHECK(costs.size() == layers.size(), costs.size(), " costs for ", layers.size(), " layers");
  if (stages > config.n_layer)
    refuse(cat("parallel.pipeline ", stages / pieces, " times parallel.pieces ", pieces, " is ", stages,
               " stages, and model.n_layer ", config.n_layer),
           fewer_stages(config.n_layer, stages / pieces, pieces));
  const auto places = places_to_cut(layers);
  const size_t n = places.size() - 1;
  const size_t begins = stages == 1 ? 1 : n;  // of the whole model, no other is looked at
  std::vector<std::vector<double>> cost;
  for (size_t begin = 0; begin < begins; ++begin) cost.push_back(costs_from(layers, costs, places, begin));
  // A fit takes long to find out, so only stages of the cheapest cut are asked for one, and then those of the cheapest
  // without the misfits among them.
  for (Misfits misfits(stages, n);;) {
    const std::vector<size_t> units = cheapest_cut(cost, stages, n, misfits);
    if (units.empty()) return std::nullopt;
    bool all_fit = true;
    for (int s = 0; s < stages; ++s) {
      const StageFit fit = fits(places[units[s]], places[units[s + 1]], s);
      if (fit == StageFit::yes) continue;
      misfits.add(fit, s, units[s], units[s + 1]);
      all_fit = false;
    }
    if (!all_fit) continue;
    Partition partition;
    for (const size_t unit : units) partition.cuts.push_back(places[unit]);
    return partition;
  }
}

Partition balanced_partition(const ModelConfig& config, const std::vector<double>& costs, int stages, int64_t pieces) {
  return *fitting_partition(
      config, costs, stages, [](size_t, size_t, int) { return StageFit::yes; }, pieces);
}

Partition given_partition(const ModelConfig& config, const std::string& text, int stages, int64_t pieces) {
  const auto layers = layout_of(config);
  const auto wrong = [&](const std::string& what) {
    refuse(cat("parallel.partition \"", text, "\": ", what),
           cat("the blocks of ", stages, stages == 1 ? " stage" : " stages", ", lowest first, such as ",
               text_of(config, balanced_partition(config, layer_costs(config), stages, pieces))));
  };
  Partition partition{{0}};
  int64_t next = 0;
  std::istringstream parts(text);
  for (std::string given; std::getline(parts, given, ',');) {
    const std::string part(without_blanks(given));
    if (part == "head" && next == config.n_layer && std::ssize(partition.cuts) + 1 == stages) {
      partition.cuts.push_back(layers.size() - 1);
      ++next;  // nothing may follow
      continue;
    }
    int64_t first = 0, last = 0;
    const char *const begin = part.data(), *const end = begin + part.size();
    auto [at, error] = std::from_chars(begin, end, first);
    last = first;
    if (error == std::errc() && at != end && *at == '-') {
      const auto second = std::from_chars(at + 1, end, last);
      at = second.ptr, error = second.ec;
    }
    if (error != std::errc() || at != end || first > last) wrong(cat("\"", part, "\" is no range of blocks"));
    if (first != next) wrong(cat("block ", next, " should come next, and ", first, " does"));
    if (last >= config.n_layer) wrong(cat("block ", last, " of ", config.n_layer));
    next = last + 1;
    if (first == 0) continue;
    size_t cut = 0;
    while (!(layers[cut].kind == Kind::block && layers[cut].block == first)) ++cut;
    while (layers[cut - 1].kind == Kind::key_expand || layers[cut - 1].kind == Kind::key_compress) --cut;
    partition.cuts.push_back(cut);
  }
  if (next < config.n_layer) wrong(cat("block ", next, " and above belong to no stage"));
  partition.cuts.push_back(layers.size());
  if (partition.num_stages() != stages)
    wrong(cat("it has ", partition.num_stages(), " stages, and ", stages, " are to run"));
  return partition;
}

std::string text_of(const ModelConfig& config, const Partition& partition) {
  const auto layers = layout_of(config);
  std::string text;
  for (int s = 0; s < partition.num_stages(); ++s) {
    int64_t first = -1, last = -1;
    for (size_t i = partition.cuts[s]; i < partition.cuts[s + 1]; ++i) {
      if (layers[i].kind != Kind::block) continue;
      if (first < 0) first = layers[i].block;
      last = layers[i].block;
    }
    text += s > 0 ? "," : "";
    text += first < 0 ? "head" : first == last ? cat(first) : cat(first, "-", last);
  }
  return text;
}

std::vector<BoundaryShape> boundary_shapes(const ModelConfig& config, const Partition& partition, int64_t batch,
                                           DType dtype) {
  const auto layers = layout_of(config);
  std::vector<BoundaryShape> shapes;
  for (const size_t cut : partition.cuts) {
    const bool outside = cut == 0 || cut == layers.size();
    shapes.push_back({outside ? Fields{0} : live_at(layers, cut), batch, config.ctx_len, config.n_embd,
                      config.compressed_width(), dtype});
  }
  return shapes;
}

std::vector<BoundaryShape> gradient_shapes(const ModelConfig& config, const Partition& partition, int64_t batch,
                                           DType dtype, const std::vector<bool>& trains) {
  const auto layers = layout_of(config);
  std::vector<BoundaryShape> shapes = boundary_shapes(config, partition, batch, dtype);
  for (size_t i = 0; i < shapes.size(); ++i) shapes[i].fields &= trained_at(layers, trains, partition.cuts[i]);
  return shapes;
}

}  // namespace gf
