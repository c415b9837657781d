// SPDX-License-Identifier: Apache-2.0
#include "io/data/sampler.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "support/expect_error.h"

namespace gf {
namespace {

constexpr int64_t kMinipile = 1498226207;
constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

TEST(Primes, AgreeWithASieve) {
  constexpr int n = 100'000;
  std::vector<bool> composite(n);
  for (int i = 2; i < n; ++i) {
    ASSERT_EQ(is_prime(i), !composite[i]) << i;
    for (int64_t j = int64_t{i} * i; j < n; j += i) composite[j] = true;
  }
  for (const int64_t i : {int64_t{0}, int64_t{1}, int64_t{-7}}) EXPECT_FALSE(is_prime(i)) << i;
}

TEST(Primes, LargeOnes) {
  EXPECT_TRUE(is_prime((int64_t{1} << 61) - 1));  // a Mersenne prime
  EXPECT_TRUE(is_prime(9223372036854775783));     // the largest below 2^63
  EXPECT_FALSE(is_prime(kHuge));                  // 7^2 * 73 * 127 * 337 * 92737 * 649657
  EXPECT_FALSE(is_prime(3215031751));             // passes Miller-Rabin for 2, 3, 5, 7
  EXPECT_FALSE(is_prime(3825123056546413051));    // passes for the first nine primes
  EXPECT_FALSE(is_prime(int64_t{3037000493} * 3037000453));
}

TEST(MagicPrime, ThePublishedOnesOfMinipile) {
  EXPECT_EQ(magic_prime_for(kMinipile, 512), 2926181);
  EXPECT_EQ(magic_prime_for(kMinipile, 1024), 1463027);
  EXPECT_EQ(magic_prime_for(kMinipile, 2048), 731531);
  EXPECT_EQ(magic_prime_for(kMinipile, 4096), 365759);
}

TEST(MagicPrime, FitsTheDataExactly) {
  EXPECT_EQ(magic_prime_for(11 * 8 + 1, 8), 11);
  EXPECT_EQ(magic_prime_for(11 * 8, 8), 5);
  EXPECT_EQ(magic_prime_for(2 * 8 + 1, 8), 2);
  EXPECT_EQ(magic_prime_for(kHuge, 1) % 3, 2);
}

TEST(MagicPrime, DataTooShortIsRefused) {
  expect_refused({"16 tokens", "ctx_len 8", "17", "ctx_len 7"}, [] { magic_prime_for(16, 8); });
  expect_refused({"0 tokens", "9"}, [] { magic_prime_for(0, 4); });
  expect_refused({"5 tokens", "18446744073709551615"}, [] { magic_prime_for(5, kHuge); });
}

TEST(Sampler, ThePublishedOrder) {
  // Worked out with Python's integers: int(p * ((sqrt(5) - 1) / 2)) * (i + 1)**3 % p * ctx_len.
  const Sampler sampler(kMinipile, 512, 2926181);
  EXPECT_EQ(sampler.magic_prime(), 2926181);
  EXPECT_EQ(sampler.offset(0), 925941248);
  EXPECT_EQ(sampler.offset(1), 1414711296);
  EXPECT_EQ(sampler.offset(2), 1029138944);
  EXPECT_EQ(sampler.offset(1000000), 643169792);
  EXPECT_EQ(sampler.offset(2926180), 0);
  EXPECT_EQ(sampler.offset(2926181), sampler.offset(0));
}

TEST(Sampler, ThePublishedOrderNeeds128Bits) {
  const Sampler sampler(kHuge, 1, 0);
  EXPECT_EQ(sampler.magic_prime(), 9223372036854775643);
  EXPECT_EQ(sampler.offset(0), 5700357409661599744);
  EXPECT_EQ(sampler.offset(123456789012345), 204947797568947238);
}

TEST(Sampler, APassVisitsEveryPlaceOnceAndStaysInside) {
  for (const int64_t tokens : {17, 100, 1000, 12345}) {
    const Sampler sampler(tokens, 8);
    std::vector<int> visits(static_cast<size_t>(sampler.magic_prime()));
    for (int64_t i = 0; i < 2 * sampler.magic_prime(); ++i) {
      const int64_t offset = sampler.offset(i);
      ASSERT_EQ(offset % 8, 0);
      ASSERT_LE(offset + 9, tokens);
      ++visits[static_cast<size_t>(offset / 8)];
    }
    for (const int n : visits) ASSERT_EQ(n, 2);
  }
}

TEST(Sampler, RefusesAPrimeThatIsNone) {
  const auto refused = [](int64_t prime, const std::string& why) {
    expect_refused({cat("magic_prime ", prime), why, "2926181"}, [&] { const Sampler sampler(kMinipile, 512, prime); });
  };
  refused(2926182, "not a prime");
  refused(-5, "not a prime");
  refused(2926177, "leaves 1");
  refused(2926271, "too large");
  refused(1463027, "too small");
}

TEST(Sampler, APrimeSlightlyBelowTheLargestIsTaken) {
  EXPECT_EQ(Sampler(kMinipile, 512, 2926169).magic_prime(), 2926169);
}

}  // namespace
}  // namespace gf
