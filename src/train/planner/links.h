// SPDX-License-Identifier: Apache-2.0
// How long messages take on given hardware, from where the ranks of a layout stand: data ranks are neighbours in the
// world, and ranks fill one node after the other.
#pragma once
#include "train/planner/hardware.h"

namespace gf {

class Links {
 public:
  // Refuses where the layout needs a link that the hardware file does not have.
  Links(const Hardware&, int pipeline, int data);

  // One message of a pipeline from a rank to another, in the slowest of its replicas.
  double message(int from, int to, double bytes) const;
  // Among the data ranks of a stage, each of which sends so many bytes, the same to each of the others.
  double among_data_ranks(int stage, double bytes) const;
  // Some numbers that all ranks of the world sum up.
  double among_all(double bytes) const;
  // Whether the ranks compute while these go on.
  bool data_overlaps(int stage) const;

 private:
  double collective(int64_t begin, int64_t end, double bytes) const;
  bool crosses(int from, int to) const;
  const Hardware& hardware_;
  int pipeline_, data_;
};

}  // namespace gf
