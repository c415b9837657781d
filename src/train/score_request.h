// SPDX-License-Identifier: Apache-2.0
// What gf score is asked, a line of JSON each: {"context": TEXT, "continuation": TEXT}, or context_tokens and
// continuation_tokens, lists of numbers, in place of either. The lines are anybody's.
#pragma once
#include <cstdint>
#include <string_view>

#include "io/text/vocabulary.h"
#include "train/score.h"

namespace gf {

// Refuses, with what is wrong alone, what is no such line, and tokens that are not below vocab_size.
ScoreRequest parse_score_request(std::string_view line, const Vocabulary&, int64_t vocab_size);

}  // namespace gf
