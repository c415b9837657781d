// SPDX-License-Identifier: Apache-2.0
// The loss of a model over windows of text, without gradients.
#pragma once
#include <functional>

#include "io/data/token_stream.h"
#include "parallel/mesh.h"
#include "parallel/pipeline.h"

namespace gf {

struct Evaluation {
  double loss = 0;      // mean cross-entropy, nats per token
  double accuracy = 0;  // share of positions whose largest logit is the target's
  int64_t tokens = 0;   // predicted: those that count, where there is a loss mask
  // The same of equal parts of the window, first to last; NaN in one without any target.
  std::vector<Evaluation> by_position;
};

// Over the first `windows` windows, `batch` at a time, which the data ranks take in turn; all ranks get the result. On
// one data rank the sum over positions is taken in double and in order, so that neither the batch size nor a cut into
// stages changes it beyond the rounding of each position. `parts`: how many of by_position, at most ctx_len. `progress`
// is told each batch's tokens.
Evaluation evaluate(Pipeline&, ParameterHooks&, const Mesh&, const WindowReader&, int64_t windows, int64_t batch,
                    const std::function<void(int64_t)>& progress = {}, int64_t parts = 0);
// The whole model on one rank.
Evaluation evaluate(LayerStack&, const WindowReader&, int64_t windows, int64_t batch,
                    const std::function<void(int64_t)>& progress = {}, int64_t parts = 0);

// A validation looks at so many tokens at most: enough to tell runs apart, few enough to be done often.
inline constexpr int64_t kValidationTokens = 1 << 16;

}  // namespace gf
