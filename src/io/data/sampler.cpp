// SPDX-License-Identifier: Apache-2.0
#include "io/data/sampler.h"

#include <bit>
#include <cmath>

#include "base/error.h"

namespace gf {
namespace {

uint64_t multiply_mod(uint64_t a, uint64_t b, uint64_t m) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b % m);
}

uint64_t power_mod(uint64_t base, uint64_t exponent, uint64_t m) {
  uint64_t result = 1;
  for (base %= m; exponent; exponent >>= 1) {
    if (exponent & 1) result = multiply_mod(result, base, m);
    base = multiply_mod(base, base, m);
  }
  return result;
}

// Miller-Rabin: whether the odd n > 2 passes for this base.
bool passes(uint64_t n, uint64_t base) {
  const int twos = std::countr_zero(n - 1);
  uint64_t x = power_mod(base, (n - 1) >> twos, n);
  if (x == 1 || x == n - 1) return true;
  for (int i = 1; i < twos; ++i) {
    x = multiply_mod(x, x, n);
    if (x == n - 1) return true;
  }
  return false;
}

}  // namespace

bool is_prime(int64_t n) {
  // The first twelve primes as bases decide every n below 3.3e24 (Sorenson and Webster, 2015).
  constexpr int64_t kBases[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
  if (n < 2) return false;
  for (const int64_t base : kBases) {
    if (n % base == 0) return n == base;
  }
  for (const int64_t base : kBases) {
    if (!passes(static_cast<uint64_t>(n), static_cast<uint64_t>(base))) return false;
  }
  return true;
}

int64_t magic_prime_for(int64_t tokens, int64_t ctx_len) {
  GF_CHECK(ctx_len > 0 && tokens >= 0, "ctx_len ", ctx_len, ", ", tokens, " tokens");
  const int64_t most = tokens > 0 ? (tokens - 1) / ctx_len : 0;
  if (most < 2) {
    refuse(cat("the data has ", tokens, " tokens, and ctx_len ", ctx_len, " needs at least ",
               2 * static_cast<uint64_t>(ctx_len) + 1),
           tokens > 2 ? cat("more data, or model.ctx_len ", (tokens - 1) / 2, " at most") : "more data");
  }
  for (int64_t p = most; p > 2; --p) {
    if (p % 3 == 2 && is_prime(p)) return p;
  }
  return 2;
}

Sampler::Sampler(int64_t tokens, int64_t ctx_len, int64_t magic_prime) : ctx_len_(ctx_len), prime_(magic_prime) {
  const int64_t best = magic_prime_for(tokens, ctx_len);
  if (prime_ == 0) prime_ = best;
  const auto refuse_prime = [&](const std::string& why) {
    refuse(
        cat("train.magic_prime ", prime_, " ", why),
        cat("train.magic_prime ", best, " for ", tokens, " tokens and ctx_len ", ctx_len, ", or 0 to have it found"));
  };
  if (!is_prime(prime_)) refuse_prime("is not a prime");
  if (prime_ % 3 != 2) refuse_prime(cat("leaves ", prime_ % 3, " when divided by 3, and must leave 2"));
  if (prime_ > (tokens - 1) / ctx_len) {
    refuse_prime(
        cat("is too large: its samples of ctx_len ", ctx_len, " + 1 would reach beyond the ", tokens, " tokens"));
  }
  if (prime_ < best - best / 100 - 1) {
    refuse_prime(cat("is too small: it leaves more than 1 % of the data unused; ", best, " is possible"));
  }
  factor_ = static_cast<int64_t>(static_cast<double>(prime_) * ((std::sqrt(5.0) - 1) / 2));
}

int64_t Sampler::offset(int64_t sample) const {
  const auto p = static_cast<uint64_t>(prime_);
  const uint64_t n = (static_cast<uint64_t>(sample) + 1) % p;
  const uint64_t cube = multiply_mod(multiply_mod(n, n, p), n, p);
  return static_cast<int64_t>(multiply_mod(static_cast<uint64_t>(factor_), cube, p)) * ctx_len_;
}

}  // namespace gf
