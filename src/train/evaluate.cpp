// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <algorithm>

namespace gf {

Evaluation evaluate(const LayerStack& layers, const WindowReader& reader, int64_t windows, int64_t batch_size,
                    const std::function<void(int64_t)>& progress) {
  Evaluation sum;
  int64_t correct = 0;
  Arena arena(layers.parameters().values().device());
  for (int64_t first = 0; first < windows; first += batch_size) {
    const Batch batch = reader.batch(first, std::min(batch_size, windows - first));
    Tape tape(arena, Tape::Mode::evaluate);
    const Pass pass{batch};
    const Head::Loss result = layers.head()->loss(pass, layers.forward(tape, pass, {}).x_BTC);
    const int64_t n = batch.targets_BT.numel();
    for (int64_t i = 0; i < n; ++i) {
      sum.loss += result.losses_BT.data<double>()[i];
      correct += result.correct_BT.data<int32_t>()[i];
    }
    sum.tokens += n;
    if (progress) progress(n);
  }
  sum.loss /= static_cast<double>(sum.tokens);
  sum.accuracy = static_cast<double>(correct) / static_cast<double>(sum.tokens);
  return sum;
}

}  // namespace gf
