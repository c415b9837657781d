// SPDX-License-Identifier: Apache-2.0
#include "train/planner/hardware.h"

#include "base/error.h"
#include "io/yaml_file.h"

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

Hardware load_hardware(const std::filesystem::path& path) {
  Hardware h;
  try {
    apply_settings(read_yaml(path), h);
  } catch (const Error& e) {
    throw Error(e.what(), kWhere, e.status(), e.where());
  }
  if (h.measured) h.measured->model.resolve();
  check(h, path.string());
  return h;
}

std::string to_yaml(Hardware h, const std::map<std::string, std::string>& notes) {
  return write_yaml(FieldList(h), notes);
}

}  // namespace gf
