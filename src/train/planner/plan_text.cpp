// SPDX-License-Identifier: Apache-2.0
#include "train/planner/plan_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/human.h"

namespace gf {
namespace {

std::string bytes(double n) {
  return n == 0 ? "-" : human_bytes(n);
}
std::string bytes(size_t n) {
  return bytes(static_cast<double>(n));
}

std::string blocks_of(const Config& config, const Partition& partition, int rank) {
  const std::string all = text_of(config.model, partition);
  std::string text;
  size_t at = 0;
  for (int s = 0; s < partition.num_stages(); ++s) {
    const size_t end = std::min(all.find(',', at), all.size());
    if (s % config.parallel.pipeline == rank) text += (text.empty() ? "" : " ") + all.substr(at, end - at);
    at = end + 1;
  }
  return text;
}

std::string seconds(double s) {
  return s < 10 ? fmt::format("{:#.3g}s", s) : human_duration(s);
}

std::string step_line(const LayoutForecast& f) {
  return fmt::format("step     {} predicted, {} tok/s: pipeline {}, update {}, waiting for new parameters {}\n",
                     seconds(f.step.all()), human_count(f.tokens_per_s), seconds(f.step.pipeline),
                     seconds(f.step.update), seconds(f.step.gather));
}

constexpr const char* kRow =
    "{:>8} {:>4} {:>4}  {:<12} {:>6}  {:>9}  {:>9} {:>9} {:>9} {:>10} {:>11} {:>9}  {:>6}  {:>9} {:>9}  {:>8} {:>8}\n";

std::string row_of(const PlannedLayout& l) {
  const LayoutForecast& f = l.forecast;
  const MemoryForecast& m = f.neediest().memory;
  const SentBytes sent = f.most_sent();
  const ParallelConfig& p = l.config.parallel;
  return fmt::format(fmt::runtime(kRow), p.pipeline, l.share.data_ranks,
                     l.share.data_ranks > 1 ? l.share.sharding.zero : 0, p.schedule, p.pieces,
                     human_count(static_cast<double>(f.most_parameters())), bytes(m.parameters), bytes(m.gradients),
                     bytes(m.optimizer), bytes(m.reductions), bytes(m.activations), bytes(m.total()),
                     fmt::format("{:.1f}%", 100 * f.simulation.bubble()), bytes(sent.pipeline), bytes(sent.data),
                     seconds(f.step.all()), human_count(f.tokens_per_s));
}

}  // namespace

std::string layout_text(const Config& config, const RankShare& share, const LayoutForecast& f,
                        const Hardware* hardware) {
  const ParallelConfig& p = config.parallel;
  std::string text = fmt::format("plan     pipeline {} x data {}; ", p.pipeline, share.data_ranks);
  if (share.data_ranks > 1) text += fmt::format("zero {}; ", share.sharding.zero);
  text += fmt::format("{}{}, at most {} in flight\n", p.schedule,
                      p.pieces > 1 ? fmt::format(" with {} pieces", p.pieces) : "",
                      in_flight_text(f.simulation.most_in_flight(), p.pieces));
  if (p.pipeline > 1)
    text +=
        fmt::format("idle     {:.1f} % of the ranks' time: {:.1f} % to fill and drain, {:.1f} % as stages are uneven\n",
                    100 * f.simulation.bubble(), 100 * f.fill(), 100 * f.unevenness());
  constexpr const char* kLine = "  {:<5} {:<14} {:>10} {:>9} {:>9} {:>9} {:>10} {:>11} {:>9} {:>6} {:>10} {:>10}\n";
  text += fmt::format(fmt::runtime(kLine), "rank", "blocks", "parameters", "values", "gradients", "optimizer",
                      "reductions", "activations", "all", "work", "to stages", "to data");
  double work = 0;
  for (const RankForecast& r : f.ranks) work += r.pass.all();
  constexpr size_t kEnds = 32;
  for (size_t r = 0; r < f.ranks.size(); ++r) {
    if (r == kEnds && f.ranks.size() > 2 * kEnds) {
      text += "  ...\n";
      r = f.ranks.size() - kEnds;
    }
    const RankForecast& rank = f.ranks[r];
    const MemoryForecast& m = rank.memory;
    text += fmt::format(fmt::runtime(kLine), r, blocks_of(config, share.partition, static_cast<int>(r)),
                        human_count(static_cast<double>(rank.parameters)), bytes(m.parameters), bytes(m.gradients),
                        bytes(m.optimizer), bytes(m.reductions), bytes(m.activations), bytes(m.total()),
                        fmt::format("{:.1f}%", 100 * rank.pass.all() / work), bytes(rank.sent.pipeline),
                        bytes(rank.sent.data));
  }
  if (!f.placement.empty()) text += fmt::format("nodes    {}\n", f.placement);
  if (hardware) text += step_line(f);
  return text;
}

std::string table_of(std::span<const PlannedLayout> layouts, size_t top) {
  std::string text = fmt::format(fmt::runtime(kRow), "", "", "", "", "", "a rank's", "memory:", "", "", "", "", "", "",
                                 "sent:", "", "", "");
  text += fmt::format(fmt::runtime(kRow), "pipeline", "data", "zero", "schedule", "pieces", "parameters", "values",
                      "gradients", "optimizer", "reductions", "activations", "all", "idle", "to stages", "to data",
                      "step", "tok/s");
  size_t shown = 0, fitting = 0;
  for (const PlannedLayout& l : layouts) fitting += l.fits ? 1 : 0;
  for (; shown < std::min(fitting, top); ++shown) text += row_of(layouts[shown]);
  if (fitting > shown) text += fmt::format("  and {} slower ones\n", fitting - shown);
  const size_t others = layouts.size() - fitting;
  if (others == 0) return text;
  text += "these do not fit into a rank's memory\n";
  for (size_t i = 0; i < std::min(others, top); ++i) text += row_of(layouts[fitting + i]);
  if (others > top) text += fmt::format("  and {} that need more\n", others - top);
  return text;
}

}  // namespace gf
