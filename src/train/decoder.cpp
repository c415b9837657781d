// SPDX-License-Identifier: Apache-2.0
#include "train/decoder.h"

#include <algorithm>

#include "tensor/arithmetic.h"

namespace gf {

StatefulDecoder::StatefulDecoder(const LayerStack& layers, Options options)
    : StatefulDecoder(layers, options, Past(options.past), {}, {}) {}

StatefulDecoder::StatefulDecoder(const LayerStack& layers, Options options, Past past, Tensor logits,
                                 TokenCounts counts)
    : layers_(layers),
      options_(std::move(options)),
      past_(std::move(past)),
      head_(layers.layers().size() - 1),
      waiting_(head_),
      logits_(std::move(logits)),
      counts_(std::move(counts)) {
  GF_CHECK(layers.head() && layers.layers()[0].kind == LayerSpec::Kind::embed, "a decoder needs the whole model");
  GF_CHECK(options_.chunk > 0, "pieces of ", options_.chunk, " tokens");
  const auto& specs = layers.layers();
  const auto expands = [](const LayerSpec& spec) { return spec.kind == LayerSpec::Kind::key_expand; };
  const auto expand = std::find_if(specs.begin(), specs.end(), expands);
  if (expand == specs.end()) return;
  // Each of a block's two mixers looks back by one row of the stream at most. Their keys and values need no stream.
  waiting_ = static_cast<size_t>(expand - specs.begin()) + 1;
  looks_back_ = 2 * static_cast<int64_t>(head_ - waiting_);
}

void StatefulDecoder::check(std::span<const int32_t> tokens) const {
  for (const int32_t token : tokens)
    if (token < 0 || token >= vocab_size())
      refuse(cat("token ", token, " is not one of the model's ", vocab_size()),
             "the vocabulary that the model was trained with");
}

void StatefulDecoder::read(std::span<const int32_t> tokens, int64_t wanted) {
  const auto T = std::ssize(tokens);
  const Tensor piece = Tensor::of<int32_t>({1, T}, {tokens.begin(), tokens.end()});
  past_.read_on(T);
  counts_.add(tokens);
  const Batch batch{piece, {}, {0}};
  Tape tape(*arena_, Tape::Mode::evaluate);
  const Pass pass{.batch = batch, .past = &past_};
  const Tensor x = layers_.forward(tape, pass, {}, false, options_.observer, nullptr, 0, waiting_).x_BTC.value();
  unseen_ += T;
  wait(x.view({T, x.size(2)}), looks_back_ + wanted);
}

// Keeps the last `most` rows of those that wait and these.
void StatefulDecoder::wait(const Tensor& rows_TC, int64_t most) {
  const int64_t C = rows_TC.size(1), before = waiting_TC_ ? waiting_TC_.size(0) : 0;
  const int64_t all = before + rows_TC.size(0), keep = std::min(all, most);
  const int64_t from_before = std::max<int64_t>(0, keep - rows_TC.size(0)), from_new = keep - from_before;
  const Tensor kept = Tensor::empty({keep, C}, rows_TC.dtype(), kCpu);
  if (from_before > 0) copy(waiting_TC_.slice(before - from_before, before), kept.slice(0, from_before));
  copy(rows_TC.slice(rows_TC.size(0) - from_new, rows_TC.size(0)), kept.slice(from_before, keep));
  waiting_TC_ = kept;
}

// Through the layers that wait and the head, for the last rows.
Tensor StatefulDecoder::see(int64_t wanted) {
  const int64_t rows = waiting_TC_.size(0), C = waiting_TC_.size(1);
  GF_CHECK(wanted <= rows && wanted <= unseen_, wanted, " positions of ", unseen_);
  // With all the rows that those wanted depend on, mixers need nothing kept of the row before, which they may not have
  // seen, and each that looks back gives a row fewer: if one row is wanted, attention of the lowest of G blocks runs
  // for 2 G rows, and for 2 fewer in each block above. With fewer rows than that, none was dropped, and all run.
  past_.look_back_to_first(looks_back_ > 0 && rows == looks_back_ + wanted);
  const Batch batch{};
  Tape tape(*arena_, Tape::Mode::evaluate);
  Flow flow;
  flow.x_BTC = tape.leaf(waiting_TC_.view({1, rows, C}), false);
  // The last that were made: where a token is decoded, all GOLD layers ask for the same, those of this token and the
  // one before. Nothing they are made from changes meanwhile.
  Flow made;
  int64_t made_begin = 0, made_end = 0;
  flow.expand = [&](int64_t begin, int64_t end) {
    if (begin == made_begin && end == made_end) return made;
    made = {};  // its memory is there for the next
    const int64_t T = end - begin;
    const Tensor compressed = kept_compressed(past_, layers_.config()).rows(begin, end);
    made = layers_.expand_keys(tape, kept_tokens(past_, layers_.config()).rows(begin, end).view({1, T}),
                               compressed.view({1, T, compressed.size(1)}));
    made_begin = begin, made_end = end;
    return made;
  };
  const Pass pass{.batch = batch, .past = &past_};
  flow = layers_.forward(tape, pass, std::move(flow), false, options_.observer, nullptr, waiting_);
  const Var x = last_rows(flow.x_BTC, wanted);
  past_.look_back_to_first(false);
  unseen_ = 0;
  waiting_TC_ = {};
  const Tensor logits = layers_.head()->logits(x).value();
  Tensor kept = Tensor::empty({wanted, vocab_size()}, logits.dtype(), kCpu);
  copy(logits.view(kept.shape()), kept);
  return kept;
}

std::span<const float> StatefulDecoder::feed(std::span<const int32_t> tokens) {
  check(tokens);
  for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(options_.chunk)) {
    if (at > 0 && options_.asked_to_stop && options_.asked_to_stop()) break;
    read(tokens.subspan(at, std::min(tokens.size() - at, static_cast<size_t>(options_.chunk))), 1);
  }
  if (unseen_ > 0) logits_ = see(1).view({vocab_size()});
  GF_CHECK(logits_, "nothing read yet, so that nothing follows");
  return {logits_.data<float>(), static_cast<size_t>(vocab_size())};
}

StatefulDecoder StatefulDecoder::fork() const {
  GF_CHECK(unseen_ == 0, "tokens without logits");
  StatefulDecoder other(layers_, options_, past_.copy(), logits_, counts_);
  other.arena_ = arena_;
  return other;
}

Tensor StatefulDecoder::feed_all(std::span<const int32_t> tokens) {
  check(tokens);
  Tensor all;
  for (int64_t at = 0; at < std::ssize(tokens);) {
    const int64_t n = std::min(std::ssize(tokens) - at, options_.chunk);
    read(tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(n)), n);
    const Tensor some = see(n);
    if (!all) all = Tensor::empty({std::ssize(tokens), vocab_size()}, some.dtype(), kCpu);
    copy(some, all.slice(at, at + n));
    at += n;
  }
  if (!tokens.empty()) logits_ = all.slice(all.size(0) - 1, all.size(0)).view({vocab_size()});
  return all;
}

}  // namespace gf
