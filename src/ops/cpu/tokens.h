// SPDX-License-Identifier: Apache-2.0
// Token numbers are checked where they are first used as indices: readers of data have checked them before, so a
// wrong one here is a bug of ours.
#pragma once
#include <cstdint>

#include "base/error.h"

namespace gf::cpu {

inline void check_token(const char* what, int32_t token, int64_t position, int64_t vocabulary) {
  GF_CHECK(token >= 0 && token < vocabulary, what, " ", token, " at position ", position, ", vocabulary of ",
           vocabulary);
}

inline void check_tokens(const char* what, const int32_t* tokens, int64_t count, int64_t vocabulary) {
  for (int64_t i = 0; i < count; ++i) check_token(what, tokens[i], i, vocabulary);
}

}  // namespace gf::cpu
