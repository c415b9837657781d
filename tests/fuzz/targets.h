// SPDX-License-Identifier: Apache-2.0
// What a fuzzer feeds with bytes: the parser of each kind of file that comes from outside. A parser may refuse its
// input with an Error of status 2; a crash, a sanitizer's finding or any other exception is a fault of ours.
//   launch/fuzz.sh [SECONDS] [TARGET...]    runs them with libFuzzer
// tests/fuzz/corpus/TARGET has inputs to begin from, and those that once were a fault; fuzz.Corpus tests them all.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace gf::fuzz {

struct Target {
  std::string_view name;
  void (*run)(std::span<const uint8_t>);
};

std::span<const Target> targets();

}  // namespace gf::fuzz
