// SPDX-License-Identifier: Apache-2.0
// A model that reads tokens one after another and says what may come next.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "model/keep.h"
#include "model/layer_stack.h"
#include "train/token_counts.h"

namespace gf {

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual int64_t vocab_size() const = 0;
  // Reads on, one token or many, and gives the logits of the token after the last one; they stay until the next call.
  // A token outside the vocabulary is refused.
  virtual std::span<const float> feed(std::span<const int32_t> tokens) = 0;
};

// Keeps a Past, so that a token costs the same work wherever it stands, but for attention. GOLD layers see only the
// tokens whose logits depend on theirs: of a prompt the last few, however long it is. Nothing ends at ctx_len; how a
// model does beyond it is its own affair.
class StatefulDecoder final : public Decoder {
 public:
  struct Options {
    Past::Options past = {};
    int64_t chunk = 512;  // tokens of a prompt that are read at once
    LayerStack::Observer observer = {};
    std::function<bool()> asked_to_stop = {};  // looked at between these pieces: feed() then leaves the rest unread
  };
  StatefulDecoder(const LayerStack&, Options);
  // Reads on from there: `logits` of the last token (vocab), and the tokens that the Past is of.
  StatefulDecoder(const LayerStack&, Options, Past, Tensor logits, TokenCounts);

  int64_t vocab_size() const override { return layers_.config().vocab_size; }
  std::span<const float> feed(std::span<const int32_t> tokens) override;
  // The logits after each of these tokens: (tokens, vocab).
  Tensor feed_all(std::span<const int32_t> tokens);
  // Reads on by itself, in the same memory for its passes, so not at the same time; after a feed, which leaves nothing
  // unseen.
  StatefulDecoder fork() const;

  const LayerStack& layers() const { return layers_; }
  const Past& past() const { return past_; }
  const Tensor& logits() const { return logits_; }  // of the last token, after a feed
  const TokenCounts& counts() const { return counts_; }
  size_t pass_bytes() const { return arena_->reserved_bytes(); }  // of passes, kept for the next

 private:
  void check(std::span<const int32_t> tokens) const;
  void read(std::span<const int32_t> tokens, int64_t wanted);
  void wait(const Tensor& rows_TC, int64_t most);
  Tensor see(int64_t wanted);

  const LayerStack& layers_;
  Options options_;
  Past past_;
  size_t head_, waiting_;   // layers: the head, and the first that waits until logits are wanted
  int64_t looks_back_ = 0;  // rows that the waiting layers are given before those that are wanted
  std::shared_ptr<Arena> arena_ = std::make_shared<Arena>(kCpu);
  Tensor waiting_TC_;   // the last rows of the stream below the waiting layers, of those that they have not seen
  int64_t unseen_ = 0;  // how many those are
  Tensor logits_;       // of the last token
  TokenCounts counts_;  // of all that was read
};

}  // namespace gf
