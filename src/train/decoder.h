// SPDX-License-Identifier: Apache-2.0
// A model that reads tokens one after another and says what may come next.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "model/layer_stack.h"

namespace gf {

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual int64_t vocab_size() const = 0;
  // Reads on, one token or many, and gives the logits of the token after the last one; they stay until the next call.
  // A token outside the vocabulary is refused.
  virtual std::span<const float> feed(std::span<const int32_t> tokens) = 0;
};

// Keeps the last ctx_len tokens and runs the whole model over them each time: any variant can be asked like this, at
// the cost of a window per token.
class WindowDecoder final : public Decoder {
 public:
  explicit WindowDecoder(const LayerStack&);
  int64_t vocab_size() const override { return layers_.config().vocab_size; }
  std::span<const float> feed(std::span<const int32_t> tokens) override;

 private:
  void remember(std::span<const int32_t> tokens);
  Tensor padded_window() const;

  const LayerStack& layers_;
  Arena arena_;
  std::vector<int32_t> window_;
  Tensor logits_V_;  // on the CPU
};

}  // namespace gf
