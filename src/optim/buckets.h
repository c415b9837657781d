// SPDX-License-Identifier: Apache-2.0
// Layers gathered into buckets, whose gradients are reduced and whose values come and go together.
#pragma once
#include <algorithm>
#include <vector>

#include "model/layer_stack.h"

namespace gf {

struct BucketRange {
  FlatRange range;      // of what is trained: values and gradients
  FlatRange frozen;     // values alone
  bool shared = false;  // with other stages: reduced at the end of the step, always in memory
  int64_t layers = 0;   // that have trained parameters there
  size_t piece = 0;     // whose layers these are
};

// Of a rank's stages, which share one store: in the order of the flat buffers, each as soon as it has `bucket_bytes`
// of values.
std::vector<BucketRange> buckets_of(const std::vector<const LayerStack*>& pieces, int64_t bucket_bytes);

// Whether one that has so many values takes another layer.
inline bool takes_more(int64_t values, int64_t bucket_bytes) {
  return values * static_cast<int64_t>(sizeof(float)) < bucket_bytes;
}

// The one that a layer, not an empty one, belongs to.
template <class Bucket>
size_t bucket_of(const std::vector<Bucket>& buckets, const LayerRange& layer) {
  const bool trained = layer.trained.size() > 0;
  const int64_t begin = trained ? layer.trained.begin : layer.frozen.begin;
  // Where several begin there, all but the last have nothing of that kind.
  const auto after = std::upper_bound(buckets.begin(), buckets.end(), begin, [trained](int64_t at, const Bucket& b) {
    return at < (trained ? b.range : b.frozen).begin;
  });
  GF_CHECK(after != buckets.begin(), "no bucket has a layer at ", begin);
  return static_cast<size_t>(after - buckets.begin()) - 1;
}

}  // namespace gf
