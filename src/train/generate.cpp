// SPDX-License-Identifier: Apache-2.0
#include "train/generate.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"

namespace gf {
namespace {

// The first text has the seed itself, as it has where it is alone. The others' are hashed, since seed + number would
// make the second text of one seed the first of the next.
uint64_t seed_of_text(const GenerateOptions& o) {
  return o.number == 0 ? o.seed : o.seed ^ splitmix64(o.number);
}

// The tokens that stand for something: bytes, or the end of a document. Sizes of vocabularies and models are rounded
// up, and vocabularies may have gaps.
class Drawing {
 public:
  explicit Drawing(const Vocabulary& vocabulary) {
    for (int32_t token = 0; token < vocabulary.size(); ++token)
      if (token == kEndOfDocument || !vocabulary.decode({&token, 1}).empty()) tokens_.push_back(token);
  }
  int32_t draw(std::span<const float> logits, const Sampling& sampling, double unit) {
    if (tokens_.size() == logits.size()) return sample(logits, sampling, unit);
    check_finite(logits);  // by their own numbers
    logits_.clear();
    for (const int32_t token : tokens_) logits_.push_back(logits[static_cast<size_t>(token)]);
    return tokens_[static_cast<size_t>(sample(logits_, sampling, unit))];
  }

 private:
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;  // theirs
};

}  // namespace

void check(const GenerateOptions& o) {
  if (o.tokens < 1) refuse(cat("--tokens is ", o.tokens), "1 or more");
  check(o.sampling);
  check(o.penalties);
  for (const std::string& stop : o.stops)
    if (stop.empty()) refuse("--stop is empty, and an empty text is everywhere", "the text before which to stop");
}

void check_vocabulary(const Vocabulary& vocabulary, int64_t model_vocab_size) {
  if (vocabulary.size() > model_vocab_size)
    refuse(cat("the vocabulary has ", vocabulary.size(), " tokens, and the model's vocab_size is ", model_vocab_size),
           "the --vocab that the model was trained with");
}

std::vector<int32_t> prompt_tokens(const Vocabulary& vocabulary, std::string_view text) {
  std::vector<int32_t> tokens;
  vocabulary.encode(text, tokens);
  if (tokens.empty()) tokens.push_back(kEndOfDocument);
  return tokens;
}

Generation generate(Decoder& decoder, const Vocabulary& vocabulary, std::span<const int32_t> prompt,
                    const GenerateOptions& options, const TextStream::Sink& sink) {
  check(options);
  check_vocabulary(vocabulary, decoder.vocab_size());
  const Random random(seed_of_text(options), "generate");
  Drawing drawing(vocabulary);
  PenalisedLogits penalised(options.penalties, options.read_before);
  penalised.add(prompt);
  const auto first = static_cast<uint64_t>(options.read_before.total()) + prompt.size();
  TextStream text(options.stops, sink, options.begun);
  Generation result;
  Stopwatch watch;
  std::span<const float> logits = decoder.feed(prompt);
  result.prompt_s = watch.lap();
  while (true) {
    if (options.asked_to_stop && options.asked_to_stop()) {  // all that was made is read
      result.end = Generation::End::asked;
      break;
    }
    const double unit = random.unit(first + static_cast<uint64_t>(result.tokens));
    const int32_t token = drawing.draw(penalised.of(logits), options.sampling, unit);
    result.unread = {token};
    if (token == kEndOfDocument) {
      result.end = Generation::End::document;
      break;
    }
    ++result.tokens;
    penalised.add({&token, 1});
    if (!text.add(vocabulary.decode({&token, 1}))) {
      result.end = Generation::End::stop;
      break;
    }
    if (result.tokens == options.tokens) break;
    logits = decoder.feed({&token, 1});
    result.unread.clear();
    ++result.steps;
  }
  const bool cut_off = result.end == Generation::End::asked, out_of_tokens = result.end == Generation::End::tokens;
  const std::string held = cut_off || (out_of_tokens && options.goes_on) ? text.take_held() : text.finish();
  result.left_out = unfinished_character(held);
  if (cut_off || out_of_tokens) result.begun = held;
  result.steps_s = watch.seconds();
  return result;
}

}  // namespace gf
