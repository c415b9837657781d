// SPDX-License-Identifier: Apache-2.0
// How a sharded optimizer cuts what it keeps. For its own files.
#pragma once
#include "optim/sharded_optimizer.h"

namespace gf {

// What becomes of a bucket in a step.
struct ShardedOptimizer::Bucket : BucketRange {
  explicit Bucket(const BucketRange& b) : BucketRange(b) {}
  FlatRange own, own_frozen;  // this rank's parts
  int64_t state = 0;          // where the moments of `own` begin, and its masters
  int64_t frozen_state = 0;   // where the masters of `own_frozen` begin
  int64_t done = 0;           // gradients_done() of its layers in this step
  int users = 0;              // passes that are using it
  bool whole = true;          // the values of all ranks' parts are here
  std::unique_ptr<Work> reduction;
  std::vector<std::unique_ptr<Work>> gathering;
};

struct ShardedOptimizer::Part {
  const Parameter* parameter;
  FlatRange flat;
  size_t name;  // its place in the order of the norm
  bool mine;    // nobody else's, for the norm and for saving
};

}  // namespace gf
