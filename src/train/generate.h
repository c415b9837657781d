// SPDX-License-Identifier: Apache-2.0
// Text from a model, token by token. Which token comes at a place depends on the tokens before it, the settings, the
// seed and the text's number, and on nothing else: a text that is given as prompt goes on as it would have gone on by
// itself.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/text/vocabulary.h"
#include "train/decoder.h"
#include "train/sampling.h"
#include "train/text_stream.h"

namespace gf {

struct GenerateOptions {
  int64_t tokens = 0;  // at most
  Sampling sampling{};
  Penalties penalties{};
  uint64_t seed = 0;
  uint64_t number = 0;                    // of texts that share a seed: each is drawn by random numbers of its own
  TokenCounts read_before{};              // what the decoder read before the prompt
  std::string begun{};                    // Generation::begun of the text that goes on, where no prompt comes between
  bool goes_on = false;                   // after `tokens`, from Generation::begun: what is held back waits there
  std::vector<std::string> stops{};       // ends before the first of these
  std::function<bool()> asked_to_stop{};  // looked at between tokens: a signal that came, say
};

// Refuses settings out of range, by the names of the options.
void check(const GenerateOptions&);
// Refuses a vocabulary with tokens that the model does not know.
void check_vocabulary(const Vocabulary&, int64_t model_vocab_size);

// The tokens of a prompt; of one that has none, the end of a document, after which a new one begins.
std::vector<int32_t> prompt_tokens(const Vocabulary&, std::string_view text);

struct Generation {
  enum class End : uint8_t { tokens, document, stop, asked } end = End::tokens;  // what ended it
  int64_t tokens = 0;             // made, without the end of the document
  int64_t steps = 0;              // times the decoder was asked after the prompt
  std::vector<int32_t> unread{};  // the last token, where it was made and not fed: what goes on begins with it
  size_t left_out = 0;            // bytes of an unfinished character at the end
  // What the text could still go on with the rest of: these, and where it will go on (or was asked to stop), what may
  // become a stop text too, which was not passed on then.
  std::string begun{};
  double prompt_s = 0, steps_s = 0;
};

// Feeds the prompt, which may be empty where something was read before, then one token after the other, and passes the
// text on as it grows.
Generation generate(Decoder&, const Vocabulary&, std::span<const int32_t> prompt, const GenerateOptions&,
                    const TextStream::Sink&);

}  // namespace gf
