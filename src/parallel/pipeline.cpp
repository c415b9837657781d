// SPDX-License-Identifier: Apache-2.0
#include "parallel/pipeline.h"

namespace gf {

double Pipeline::run(std::span<const Batch> microbatches,
                     const std::function<void(int64_t begin, int64_t end)>& grads_ready) {
  GF_CHECK(pipe_.size() == 1, "a pipeline of ", pipe_.size(), " stages");
  const PipeShape shape{pipe_.size(), pipe_.rank(), static_cast<int>(microbatches.size())};
  for (const Compute& c : plan_(shape)) {
    if (c.pass == Compute::Pass::forward)
      stage_.forward(c.microbatch, microbatches[c.microbatch], {});
    else
      stage_.backward(c.microbatch, {});
  }
  grads_ready(0, stage_.layers().parameters().flat_size());
  return stage_.take_loss();
}

}  // namespace gf
