// SPDX-License-Identifier: Apache-2.0
#include "train/planner/links.h"

#include <algorithm>
#include <cmath>

namespace gf {

Links::Links(const Hardware& hardware, int pipeline, int data, Near near)
    : hardware_(hardware), pipeline_(pipeline), data_(data), near_(near) {
  const int64_t ranks = int64_t{pipeline} * data;
  if (ranks > hardware.ranks_per_node) hardware.link(false);
  if (ranks > 1 && hardware.ranks_per_node > 1) hardware.link(true);
}

bool Links::crosses(int from, int to) const {
  for (int64_t replica = 0; replica < data_; ++replica)
    if (!hardware_.same_node(position(from, replica), position(to, replica))) return true;
  return false;
}

double Links::message(int from, int to, double bytes) const {
  const Link& link = hardware_.link(!crosses(from, to));
  return link.latency + bytes / link.bandwidth;
}

// Each rank has its own way out of a node, and another to the ranks of its node: both are used at once. In as many
// rounds as a tree has levels, the least that any algorithm takes.
double Links::collective(int64_t first, int64_t distance, int64_t size, double bytes) const {
  if (size <= 1) return 0;
  int64_t together = size;  // in the node that has the fewest of them
  for (int64_t i = 0, here = 1; i < size; ++i, ++here) {
    const int64_t at = first + i * distance;
    if (i + 1 < size && hardware_.same_node(at, at + distance)) continue;
    together = std::min(together, here);
    here = 0;
  }
  const double inside = bytes * static_cast<double>(together - 1) / static_cast<double>(size - 1);
  double seconds = 0, latency = 0;
  if (together > 1) {
    const Link& link = hardware_.link(true);
    seconds = inside / link.bandwidth, latency = link.latency;
  }
  if (together < size) {
    const Link& link = hardware_.link(false);
    seconds = std::max(seconds, (bytes - inside) / link.bandwidth), latency = link.latency;
  }
  return seconds + latency * std::ceil(std::log2(static_cast<double>(size)));
}

double Links::among_data_ranks(int stage, double bytes) const {
  return collective(position(stage, 0), position(0, 1) - position(0, 0), data_, bytes);
}

double Links::among_all(double bytes) const {
  return collective(0, 1, int64_t{pipeline_} * data_, bytes);
}

bool Links::data_overlaps(int stage) const {
  if (data_ == 1) return true;
  return hardware_.link(hardware_.same_node(position(stage, 0), position(stage, data_ - 1))).overlaps;
}

}  // namespace gf
