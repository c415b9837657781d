// SPDX-License-Identifier: Apache-2.0
#include "train/planner/measure.h"

#include <omp.h>

#include <algorithm>
#include <functional>

#include "base/clock.h"
#include "base/median.h"
#include "base/parallel_for.h"
#include "base/process_memory.h"
#include "ops/matmul/matmul.h"
#include "tensor/arithmetic.h"
#include "train/memory.h"
#include "train/planner/layer_times.h"

namespace gf {
namespace {

constexpr double kLayerSeconds = 1.5;

// The first round warms up and does not count.
double median_seconds(int rounds, const std::function<void()>& body) {
  std::vector<double> seconds;
  for (int i = 0; i <= rounds; ++i) {
    const Stopwatch watch;
    body();
    if (i > 0) seconds.push_back(watch.seconds());
  }
  return median(seconds);
}

// Of memory that no cache holds, read and written.
double memory_bandwidth() {
  constexpr int64_t n = int64_t{1} << 24;
  const Tensor from = Tensor::zeros({n}, DType::f32, kCpu), to = Tensor::zeros({n}, DType::f32, kCpu);
  const double seconds = median_seconds(5, [&] {
    parallel_ranges(n, 1 << 16, [&](int64_t begin, int64_t end) {
      std::copy_n(from.data<float>() + begin, end - begin, to.data<float>() + begin);
    });
  });
  return 2.0 * sizeof(float) * n / seconds;
}

// Of a buffer of a bucket's size, as reductions take it: got, written, and given back.
double fresh_bandwidth() {
  constexpr int64_t n = int64_t{1} << 21;
  const double seconds = median_seconds(7, [] { Tensor::zeros({n}, DType::f32, kCpu); });
  return sizeof(float) * n / seconds;
}

// Of the largest product of a block.
double product_flops(const Config& config) {
  const int64_t rows = std::min<int64_t>(config.train.micro_bsz * config.model.ctx_len, 4096);
  const int64_t C = config.model.n_embd, F = config.model.dim_ffn;
  const Tensor a = Tensor::zeros({rows, C}, DType::f32, kCpu), b = Tensor::zeros({C, F}, DType::f32, kCpu);
  const Tensor c = Tensor::empty({rows, F}, DType::f32, kCpu);
  fill(a, 0.5), fill(b, 0.25);
  const double seconds = median_seconds(9, [&] { matmul(Matrix(a), Matrix(b), Matrix(c)); });
  return 2.0 * static_cast<double>(rows * C) * static_cast<double>(F) / seconds;
}

// Each rank sends to the next of its circle and receives from the one before, all at once.
double seconds_round_a_circle(Communicator& ranks, int64_t numbers, int rounds) {
  const int next = (ranks.rank() + 1) % ranks.size(), before = (ranks.rank() + ranks.size() - 1) % ranks.size();
  const Tensor out = Tensor::zeros({numbers}, DType::f32, kCpu), in = Tensor::zeros({numbers}, DType::f32, kCpu);
  ranks.barrier();
  return median_seconds(rounds, [&] {
    const Communicator::Message messages[] = {{out, next, true}, {in, before, false}};
    for (const auto& work : ranks.exchange(messages)) work->wait();
  });
}

Link measure_link(Communicator& ranks, bool overlaps) {
  constexpr int64_t kNumbers = int64_t{1} << 20;
  const double latency = seconds_round_a_circle(ranks, 1, 200);
  const double seconds = seconds_round_a_circle(ranks, kNumbers, 20);
  return {sizeof(float) * kNumbers / std::max(seconds - latency, 1e-9), latency, overlaps};
}

// The same on all ranks: the mean.
void average(Communicator& world, const std::vector<double*>& values) {
  const Tensor all = Tensor::zeros({std::ssize(values)}, DType::f64, kCpu);
  for (size_t i = 0; i < values.size(); ++i) all.data<double>()[i] = *values[i];
  world.all_reduce(all, Reduce::sum);
  for (size_t i = 0; i < values.size(); ++i) *values[i] = all.data<double>()[i] / world.size();
}

// Where the ranks of each node stand in a row.
void check_nodes(const Hardware& h, const std::vector<std::string>& nodes) {
  constexpr const char* kHint = "a launcher that fills each node with as many ranks, such as srun --ntasks-per-node";
  if (std::ssize(nodes) != h.nodes * h.ranks_per_node)
    refuse(cat("the ", h.nodes, " nodes do not have the same number of the ", nodes.size(), " ranks"), kHint);
  for (size_t r = 0; r < nodes.size(); ++r)
    if (nodes[r] != nodes[r / h.ranks_per_node * h.ranks_per_node])
      refuse(cat("the nodes do not have the same number of ranks, one node after the other: rank ", r, " is on ",
                 nodes[r]),
             kHint);
}

}  // namespace

Hardware measure_hardware(const Config& config, Communicator& world, const std::vector<std::string>& nodes) {
  Hardware h;
  std::vector<std::string> names = nodes;
  std::sort(names.begin(), names.end());
  h.nodes = std::unique(names.begin(), names.end()) - names.begin();
  h.ranks_per_node = world.size() / h.nodes;
  check_nodes(h, nodes);
  h.name = cat(nodes[0], h.nodes > 1 ? " and others" : "");
  h.accelerator.emplace("cpu"), h.rank.precision.emplace("32");

  world.barrier();
  h.rank.memory_bandwidth = memory_bandwidth();
  world.barrier();
  h.rank.fresh_bandwidth = fresh_bandwidth();
  world.barrier();
  h.rank.flops = product_flops(config);
  world.barrier();
  const size_t room = available_memory(kTrainingThreads, h.ranks_per_node).bytes;
  const LayerMeasurement layers = measure_layers(config, kLayerSeconds, room);
  h.measured.emplace(MeasuredTimes{h.ranks_per_node, omp_get_max_threads(), config.train.micro_bsz,
                                   config.train.grad_cp, layers.update, config.model, layers.layers});
  // Ranks of one node share its memory, and move what they send themselves; a network has hands of its own.
  const int node = world.rank() / static_cast<int>(h.ranks_per_node),
            place = world.rank() % static_cast<int>(h.ranks_per_node);
  const auto near = world.split(node, place), far = world.split(place, node);
  if (h.ranks_per_node > 1) h.within_node = measure_link(*near, false);
  if (h.nodes > 1) h.between_nodes = measure_link(*far, true);
  h.rank.memory = static_cast<double>(resident_bytes() + room);

  std::vector<double*> values = {&h.rank.memory_bandwidth, &h.rank.fresh_bandwidth, &h.rank.flops, &h.rank.memory,
                                 &h.measured->update};
  LayerTimes& l = h.measured->layers;
  for (PassSeconds* p : {&l.embed, &l.lower, &l.key_compress, &l.key_expand, &l.upper, &l.head})
    values.insert(values.end(), {&p->forward, &p->backward_input, &p->backward_weight});
  for (std::optional<Link>* link : {&h.within_node, &h.between_nodes})
    if (*link) values.insert(values.end(), {&(*link)->bandwidth, &(*link)->latency});
  average(world, values);
  return h;
}

}  // namespace gf
