// SPDX-License-Identifier: Apache-2.0
// Speed of the tokenizer on one core: tokenizer_bench VOCABULARY FILE [seconds]. Prints MB/s of the best pass and the
// mean length of a token.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "base/clock.h"
#include "base/error.h"
#include "io/text/vocabulary.h"

int main(int argc, char** argv) try {
  if (argc < 3) return std::fprintf(stderr, "usage: tokenizer_bench byte|VOCABULARY FILE [seconds]\n"), 2;
  const auto vocabulary = gf::Vocabulary::open(argv[1]);
  std::ifstream file(argv[2], std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (text.empty()) return std::fprintf(stderr, "%s: nothing to read\n", argv[2]), 2;
  const double seconds = argc > 3 ? std::atof(argv[3]) : 3;

  std::vector<int32_t> tokens;
  double best = 1e30;
  const gf::Stopwatch total;
  do {
    tokens.clear();
    const gf::Stopwatch pass;
    vocabulary->encode(text, tokens);
    best = std::min(best, pass.seconds());
  } while (total.seconds() < seconds);
  if (vocabulary->decode(tokens) != text) return std::fprintf(stderr, "the round trip lost something\n"), 1;

  const auto bytes = static_cast<double>(text.size());
  std::printf("%.1f MB/s  %.2f bytes per token  %.1f ns per token  (%zu bytes)\n", bytes / best / 1e6,
              bytes / static_cast<double>(tokens.size()), best / static_cast<double>(tokens.size()) * 1e9, text.size());
} catch (const gf::Error& e) {
  return std::fprintf(stderr, "%s\n", e.what()), 1;
}
