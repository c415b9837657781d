// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: each value is a function of (seed, name, index) and of nothing else, so
// that no number of ranks, threads or restarts changes it.
#pragma once
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace gf {

// Vigna's splitmix64 as a hash: one step from state x.
constexpr uint64_t splitmix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

constexpr uint64_t fnv1a64(std::string_view text) {
  uint64_t h = 0xCBF29CE484222325ull;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return h;
}

// The stream of random numbers that belongs to one name.
class Random {
 public:
  constexpr Random(uint64_t seed, std::string_view name) : key_(fnv1a64(name) ^ splitmix64(seed)) {}

  constexpr uint64_t bits(uint64_t index) const { return splitmix64(key_ + index); }
  // Uniform in [-1, 1), 53 bits.
  constexpr double uniform(uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1p-52 - 1.0; }
  // Uniform in [0, 1), 53 bits.
  constexpr double unit(uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1p-53; }
  // Standard normal (Box-Muller over two values of the stream).
  double normal(uint64_t index) const {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - unit(2 * index)));
    return radius * std::cos(2.0 * std::numbers::pi * unit(2 * index + 1));
  }

 private:
  uint64_t key_;
};

}  // namespace gf
