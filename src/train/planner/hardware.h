// SPDX-License-Identifier: Apache-2.0
// What a run is planned for: how fast a rank is, its memory, the links between ranks. From a YAML file of the figures
// that makers publish, or of those that `gf plan --measure` found. Units are SI: bytes, seconds, operations a second.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "base/fields.h"
#include "io/yaml_file.h"
#include "model/config.h"
#include "model/layout.h"

namespace gf {

struct TrainConfig;

struct RankSpeed {
  double flops = 0, product_share = 1, memory = 0, memory_bandwidth = 0, fresh_bandwidth = 0;
  Auto<std::string> precision{};

  template <class V>
  void visit(V& v) {
    v("flops", flops, "operations a second of products at most");
    v("precision", precision, "that flops are of: 32, tf32 or bf16; auto: it is not said");
    v("product_share", product_share, "of these, what large products reach");
    v("memory", memory, "bytes that a rank may have");
    v("memory_bandwidth", memory_bandwidth, "bytes a second, read or written");
    v("fresh_bandwidth", fresh_bandwidth,
      "bytes a second of memory new from the system, written once; 0: as the above");
  }
};

// Between two ranks, while others use theirs.
struct Link {
  double bandwidth = 0, latency = 0;
  bool overlaps = true;

  template <class V>
  void visit(V& v) {
    v("bandwidth", bandwidth, "bytes a second that a rank sends, while it receives as many");
    v("latency", latency, "seconds until the first byte arrives");
    v("overlaps", overlaps, "1: moves data while the ranks compute; 0: they move it themselves");
  }
};

// Of one microbatch through one layer.
struct PassSeconds {
  double forward = 0, backward_input = 0, backward_weight = 0;
  double backward() const { return backward_input + backward_weight; }
  double all() const { return forward + backward(); }
  PassSeconds& operator+=(const PassSeconds& o) {
    forward += o.forward, backward_input += o.backward_input, backward_weight += o.backward_weight;
    return *this;
  }

  template <class V>
  void visit(V& v) {
    v("forward", forward, "forward pass");
    v("backward_input", backward_input, "gradients of the input");
    v("backward_weight", backward_weight, "gradients of the weights");
  }
};

// By kind of layer: two layers of a kind take the same time.
struct LayerTimes {
  PassSeconds embed, lower, key_compress, key_expand, upper, head;

  const PassSeconds& of(const ModelConfig& c, const LayerSpec& spec) const { return this->*kind(c, spec); }
  PassSeconds& of(const ModelConfig& c, const LayerSpec& spec) { return this->*kind(c, spec); }

  template <class V>
  void visit(V& v) {
    v.section("embed", embed, "the embedding");
    v.section("lower", lower, "a block of the lower stack");
    v.section("key_compress", key_compress, "the compression of the keys");
    v.section("key_expand", key_expand, "their expansion, once a stage with GOLD blocks");
    v.section("upper", upper, "a block of the upper stack");
    v.section("head", head, "the head with the loss");
  }

 private:
  static PassSeconds LayerTimes::*kind(const ModelConfig&, const LayerSpec&);
};

// What `gf plan --measure` saw, with what it is true of.
struct MeasuredTimes {
  int64_t ranks = 1, threads = 1, micro_bsz = 1;
  bool grad_cp = false;
  double update = 0;
  ModelConfig model;
  LayerTimes layers;

  template <class V>
  void visit(V& v) {
    v("ranks", ranks, "that worked at once on a node");
    v("threads", threads, "of each");
    v("micro_bsz", micro_bsz, "sequences of a microbatch");
    v("grad_cp", grad_cp, "whether blocks ran again in the backward pass");
    v("update", update, "seconds a parameter: norm and AdamW");
    v.section("model", model, "the model");
    v.section("layers", layers, "seconds of a microbatch by kind of layer");
  }
};

struct Hardware {
  std::string name;
  int64_t nodes = 1, ranks_per_node = 1;
  Auto<std::string> accelerator;
  RankSpeed rank;
  std::optional<Link> within_node, between_nodes;
  std::optional<MeasuredTimes> measured;

  int64_t ranks() const { return nodes * ranks_per_node; }
  bool same_node(int64_t a, int64_t b) const { return a / ranks_per_node == b / ranks_per_node; }
  // Refuses where the file does not say.
  const Link& link(bool same_node) const;

  template <class V>
  void visit(V& v) {
    v("name", name, "for people");
    v("nodes", nodes, "of the cluster");
    v("ranks_per_node", ranks_per_node, "one a GPU, or as many as share the cores");
    v("accelerator", accelerator, "what a rank computes on: cpu or gpu; auto: it is not said");
    v.section("rank", rank, "one rank");
    v.section("within_node", within_node, "between ranks of a node");
    v.section("between_nodes", between_nodes, "between ranks of different nodes");
    v.section("measured", measured, "layers of one model, measured");
  }
};

// Refuses keys that there are not, by the nearest that there is, and figures that cannot be.
Hardware load_hardware(const std::filesystem::path&, YamlFrom = YamlFrom::anywhere);
void check(const Hardware&, const std::string& file);
// Where a run's accelerator and precision are left open, they become those that the figures are of; where the file does
// not say, as for a CPU, which computes in float32. To be called before resolve().
void plan_on(const Hardware&, TrainConfig&);
// For a person, in what the figures are of another device or precision than the run, which is resolved; empty where
// they are not, as far as the file says.
std::string why_not_of(const Hardware&, const TrainConfig&);
// Reads back to itself. A note goes behind the value of its key, as a comment.
std::string to_yaml(Hardware, const std::map<std::string, std::string>& notes = {});

}  // namespace gf
