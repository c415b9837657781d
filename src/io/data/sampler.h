// SPDX-License-Identifier: Apache-2.0
// The published order of samples: sample i is ctx_len + 1 tokens from token
// (floor(p * (sqrt(5)-1)/2) * (i+1)^3 mod p) * ctx_len. Cubing permutes the residues of a prime p with
// p mod 3 = 2, so that p samples in a row visit p different places, and the order needs neither memory nor state.
#pragma once
#include <cstdint>

namespace gf {

bool is_prime(int64_t n);

// The largest prime p with p mod 3 = 2 and p * ctx_len + 1 <= tokens. Refuses data too short for any.
int64_t magic_prime_for(int64_t tokens, int64_t ctx_len);

class Sampler {
 public:
  // `magic_prime` 0 takes magic_prime_for(). A given one is refused unless it is prime, 2 mod 3, and the samples lie in
  // the data; one far below the largest is as well, since it leaves most of the data unused (the published bound: 99
  // %).
  Sampler(int64_t tokens, int64_t ctx_len, int64_t magic_prime = 0);

  int64_t offset(int64_t sample) const;  // of its first token; samples count from 0 over the whole run
  int64_t ctx_len() const { return ctx_len_; }
  int64_t magic_prime() const { return prime_; }
  int64_t tokens_per_pass() const { return prime_ * ctx_len_; }

 private:
  int64_t ctx_len_, prime_, factor_;
};

}  // namespace gf
