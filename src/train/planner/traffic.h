// SPDX-License-Identifier: Apache-2.0
// What one rank sends in a step, message by message, as Pipeline and ShardedOptimizer do it; without a run. What all
// ranks of the world tell each other (loss, norm, errors: some numbers a parameter) is left out.
#pragma once
#include <vector>

#include "optim/buckets.h"
#include "parallel/placement.h"
#include "parallel/schedule/schedule.h"
#include "train/memory.h"

namespace gf {

// A rank's stages with their buckets; nothing is allocated.
struct RankLayers {
  RankLayers(const Config&, const RankShare&);
  std::vector<std::unique_ptr<LayerStack>> pieces;
  std::vector<std::vector<size_t>> places;   // of each piece, where its layers are in the model's list
  std::vector<std::vector<bool>> goes_back;  // and which of them have a backward pass
  std::vector<BucketRange> buckets;
  int64_t trained = 0;     // parameters that are trained, with padding
  int64_t parameters = 0;  // all, without
};

// Buckets whose values a pass gathers from the data ranks, and whose gradients it hands over when it is done.
struct PassTraffic {
  std::vector<size_t> gathers, reductions;
};
struct DataTraffic {
  std::vector<PassTraffic> passes;           // of each pass of the plan
  std::vector<size_t> reductions_at_end;     // after the last pass
  std::vector<size_t> gradient_gathers;      // then, of summed gradients
  std::vector<size_t> gathers_after_update;  // of new values, while the next step begins
};
DataTraffic data_traffic(const RankLayers&, const std::vector<Compute>& plan, int64_t microbatches, const Sharding&,
                         int data_ranks);

// Bytes that a rank sends for one of them: its part to each of the others, or theirs to them. Of gradients, which are
// float32; and where values are gathered, in the dtype that layers compute in, of frozen ones too, if these are
// sharded.
double bytes_to_share(const BucketRange&, int data_ranks);
double bytes_to_gather(const BucketRange&, int zero, int data_ranks, DType);
// Bytes that cross a cut, for a microbatch.
double bytes_of(const BoundaryShape&);

// What crosses the cuts of a partition downwards, under train.groups.
std::vector<BoundaryShape> gradients_of(const Config&, const Partition&);

PipeShape pipe_shape(const Config&, const RankShare&);  // of the share's rank

// Ranks of a pipeline whose stages expand keys anew: they sum its gradients.
int expanding_ranks(const Config&, const Partition&);

// All that the rank of this share sends in a step.
struct SentBytes {
  double pipeline = 0, data = 0;
};
SentBytes sent_bytes(const Config&, const RankShare&);
std::vector<SentBytes> sent_by_stages(const Config&, RankShare);  // a rank of each; `share` is any rank's

// Of these the bytes that leave their node in a step, over all ranks.
double bytes_between_nodes(const Placement&, const std::vector<SentBytes>&, int64_t pieces);
// The placement in which least leaves a node; data ranks are near where that makes no difference.
Placement best_placement(const std::vector<int>& nodes, const std::vector<SentBytes>&, int data, int64_t pieces);

}  // namespace gf
