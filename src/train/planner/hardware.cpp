// SPDX-License-Identifier: Apache-2.0
#include "train/planner/hardware.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "base/error.h"
#include "base/text.h"
#include "train/config.h"

namespace gf {
namespace {

constexpr const char* kWhere = "docs/running.md has the keys of a hardware file, configs/hardware/ examples";
constexpr int64_t kMostNodes = int64_t{1} << 20;

void refuse_figure(const std::string& file, const std::string& key, double value, const std::string& range) {
  refuse(cat(file, ": ", key, " is ", value, " and must be ", range), kWhere);
}

void check_positive(const std::string& file, const std::string& key, double value) {
  if (!(value > 0)) refuse_figure(file, key, value, "above 0");
}

void check_not_negative(const std::string& file, const std::string& key, double value) {
  if (!(value >= 0)) refuse_figure(file, key, value, "0 or more");
}

void check_word(const std::string& file, const std::string& key, const Auto<std::string>& value,
                std::initializer_list<std::string_view> known) {
  if (value && std::ranges::find(known, *value) == known.end())
    refuse(cat(file, ": ", key, " is ", cited(*value), " and must be one of: ", joined(known)), kWhere);
}

void check_machine(const std::string& file, const Hardware& h) {
  check_word(file, "accelerator", h.accelerator, {"cpu", "gpu"});
  check_word(file, "rank.precision", h.rank.precision, {"32", "tf32", "bf16"});
  if (h.rank.precision && *h.rank.precision != "32" && h.accelerator.value_or("") != "gpu")
    refuse(cat(file, ": rank.precision is ", *h.rank.precision,
               ", in which GPUs alone compute here, and accelerator is ", h.accelerator.value_or("auto")),
           "accelerator: gpu");
}

void check_link(const std::string& file, const std::string& key, const std::optional<Link>& link) {
  if (!link) return;
  check_positive(file, key + ".bandwidth", link->bandwidth);
  check_not_negative(file, key + ".latency", link->latency);
}

void check_measured(const std::string& file, const MeasuredTimes& m) {
  for (const auto& [key, value] : {std::pair("ranks", m.ranks), {"threads", m.threads}, {"micro_bsz", m.micro_bsz}})
    if (value < 1) refuse_figure(file, cat("measured.", key), static_cast<double>(value), "1 or more");
  check_positive(file, "measured.update", m.update);
  const auto check_times = [&](const std::string& kind, const PassSeconds& t) {
    for (const double seconds : {t.forward, t.backward_input, t.backward_weight})
      check_not_negative(file, "measured.layers." + kind, seconds);
  };
  const LayerTimes& l = m.layers;
  check_times("embed", l.embed), check_times("lower", l.lower), check_times("upper", l.upper);
  check_times("key_compress", l.key_compress), check_times("key_expand", l.key_expand), check_times("head", l.head);
  check_positive(file, "measured.layers.lower.forward", l.lower.forward);
}

}  // namespace

PassSeconds LayerTimes::*LayerTimes::kind(const ModelConfig& config, const LayerSpec& spec) {
  switch (spec.kind) {
    case LayerSpec::Kind::embed:
      return &LayerTimes::embed;
    case LayerSpec::Kind::block:
      return spec.block < config.first_upper() ? &LayerTimes::lower : &LayerTimes::upper;
    case LayerSpec::Kind::key_compress:
      return &LayerTimes::key_compress;
    case LayerSpec::Kind::key_expand:
      return &LayerTimes::key_expand;
    case LayerSpec::Kind::head:
      return &LayerTimes::head;
  }
  fail("a layer of no known kind");
}

const Link& Hardware::link(bool same_node) const {
  const auto& link = same_node ? within_node : between_nodes;
  if (!link)
    refuse(cat("the hardware file says nothing of the link ", same_node ? "within a node" : "between nodes",
               ", over which ranks would talk"),
           cat("its section ", same_node ? "within_node" : "between_nodes", "; ", kWhere));
  return *link;
}

void check(const Hardware& h, const std::string& file) {
  for (const auto& [key, value] : {std::pair("nodes", h.nodes), {"ranks_per_node", h.ranks_per_node}})
    if (value < 1 || value > kMostNodes)
      refuse_figure(file, key, static_cast<double>(value), cat("from 1 to ", kMostNodes));
  check_machine(file, h);
  check_positive(file, "rank.flops", h.rank.flops);
  if (!(h.rank.product_share > 0 && h.rank.product_share <= 1))
    refuse_figure(file, "rank.product_share", h.rank.product_share, "above 0 and at most 1");
  check_positive(file, "rank.memory", h.rank.memory);
  check_positive(file, "rank.memory_bandwidth", h.rank.memory_bandwidth);
  check_not_negative(file, "rank.fresh_bandwidth", h.rank.fresh_bandwidth);
  check_link(file, "within_node", h.within_node);
  check_link(file, "between_nodes", h.between_nodes);
  if (h.measured) check_measured(file, *h.measured);
}

Hardware load_hardware(const std::filesystem::path& path, YamlFrom from) {
  Hardware h;
  try {
    apply_settings(read_yaml(path, from), h);
  } catch (const Error& e) {
    throw Error(e.what(), kWhere, e.status(), e.where());
  }
  if (h.measured) h.measured->model.resolve();
  check(h, path.string());
  return h;
}

void plan_on(const Hardware& h, TrainConfig& t) {
  if (!t.accelerator && h.accelerator) t.accelerator = h.accelerator;
  // Said of the run alone: no CPU computes in another.
  if (!t.accelerator) t.accelerator.emplace(t.precision && *t.precision != "32" ? "gpu" : "cpu");
  if (!t.precision && h.accelerator && *h.accelerator == *t.accelerator) t.precision = h.rank.precision;
}

std::string why_not_of(const Hardware& h, const TrainConfig& t) {
  const std::string precision = t.computes_in() == DType::bf16 ? "bf16" : *t.precision;
  if (h.accelerator.value_or(*t.accelerator) == *t.accelerator && h.rank.precision.value_or(precision) == precision)
    return "";
  return cat("its figures are of accelerator ", h.accelerator.value_or("auto"), " and rank.precision ",
             h.rank.precision.value_or("auto"), ", and train.accelerator is ", *t.accelerator, " and train.precision ",
             *t.precision);
}

std::string to_yaml(Hardware h, const std::map<std::string, std::string>& notes) {
  return write_yaml(FieldList(h), notes);
}

}  // namespace gf
