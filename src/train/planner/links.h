// SPDX-License-Identifier: Apache-2.0
// How long messages take on given hardware, from where the ranks of a layout stand: they fill one node after the other,
// those first that are near.
#pragma once
#include "parallel/placement.h"
#include "train/planner/hardware.h"

namespace gf {

class Links {
 public:
  // Refuses where the layout needs a link that the hardware file does not have.
  Links(const Hardware&, int pipeline, int data, Near = Near::data);

  // One message of a pipeline from a rank to another, in the slowest of its replicas.
  double message(int from, int to, double bytes) const;
  // Among the data ranks of a stage, each of which sends so many bytes, the same to each of the others.
  double among_data_ranks(int stage, double bytes) const;
  // Some numbers that all ranks of the world sum up.
  double among_all(double bytes) const;
  // Whether the ranks compute while these go on.
  bool data_overlaps(int stage) const;

 private:
  // `size` ranks, the first in the nodes' order and then each so many further.
  double collective(int64_t first, int64_t distance, int64_t size, double bytes) const;
  bool crosses(int from, int to) const;
  int64_t position(int64_t stage, int64_t replica) const {  // in the nodes' order
    return near_ == Near::data ? stage * data_ + replica : replica * pipeline_ + stage;
  }
  const Hardware& hardware_;
  int pipeline_, data_;
  Near near_;
};

}  // namespace gf
