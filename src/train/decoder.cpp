// SPDX-License-Identifier: Apache-2.0
#include "train/decoder.h"

#include <algorithm>

#include "io/text/vocabulary.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

// A window is filled up to a multiple of this behind its last token, where nothing before it looks: few different
// shapes, for which matrix kernels are made once.
constexpr int64_t kRound = 64;

}  // namespace

WindowDecoder::WindowDecoder(const LayerStack& layers)
    : layers_(layers),
      arena_(layers.parameters().values().device()),
      logits_V_(Tensor::empty({vocab_size()}, DType::f32, kCpu)) {
  GF_CHECK(layers.head(), "a decoder needs the model's head");
}

void WindowDecoder::remember(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens)
    if (token < 0 || token >= vocab_size())
      refuse(cat("token ", token, " is not one of the model's ", vocab_size()),
             "the vocabulary that the model was trained with");
  window_.insert(window_.end(), tokens.begin(), tokens.end());
  const auto longest = static_cast<size_t>(layers_.config().ctx_len);
  if (window_.size() > longest) window_.erase(window_.begin(), window_.end() - static_cast<std::ptrdiff_t>(longest));
}

Tensor WindowDecoder::padded_window() const {
  const auto used = static_cast<int64_t>(window_.size());
  const int64_t length = std::min((used + kRound - 1) / kRound * kRound, layers_.config().ctx_len);
  Tensor tokens = Tensor::empty({1, length}, DType::i32, kCpu);
  std::fill_n(std::copy(window_.begin(), window_.end(), tokens.data<int32_t>()), length - used, kEndOfDocument);
  return tokens;
}

std::span<const float> WindowDecoder::feed(std::span<const int32_t> tokens) {
  remember(tokens);
  GF_CHECK(!window_.empty(), "nothing read yet, so that nothing follows");
  const Batch batch{padded_window(), {}, {0}};
  Tape tape(arena_, Tape::Mode::evaluate);
  const Tensor x = layers_.forward(tape, {batch}, {}).x_BTC.value();
  const auto last = static_cast<int64_t>(window_.size()) - 1;
  const Tensor row = x.view({x.size(1), x.size(2)}).slice(last, last + 1).view({1, 1, x.size(2)});
  copy(layers_.head()->logits(tape.leaf(row, false)).value().view({vocab_size()}), logits_V_);
  return {logits_V_.data<float>(), static_cast<size_t>(vocab_size())};
}

}  // namespace gf
