// SPDX-License-Identifier: Apache-2.0
#include "optim/buckets.h"

namespace gf {

std::vector<BucketRange> buckets_of(const std::vector<const LayerStack*>& pieces, int64_t bucket_bytes) {
  std::vector<BucketRange> buckets;
  for (size_t p = 0; p < pieces.size(); ++p) {
    const LayerStack& piece = *pieces[p];
    bool open = false;  // whether the last bucket may take another layer
    for (size_t i = 0; i < piece.ranges().size(); ++i) {
      const LayerRange layer = piece.ranges()[i];
      if (layer.size() == 0) continue;  // an earlier layer has its parameters
      const bool shared = piece.layers()[i].kind == LayerSpec::Kind::key_expand;
      if (!open || shared)
        buckets.push_back(
            {{layer.trained.begin, layer.trained.begin}, {layer.frozen.begin, layer.frozen.begin}, shared, 0, p});
      BucketRange& b = buckets.back();
      b.range.end = layer.trained.end;
      b.frozen.end = layer.frozen.end;
      if (layer.trained.size() > 0) ++b.layers;
      open = !shared && takes_more(b.range.size() + b.frozen.size(), bucket_bytes);
    }
  }
  return buckets;
}

}  // namespace gf
