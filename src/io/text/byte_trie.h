// SPDX-License-Identifier: Apache-2.0
// A set of byte strings, each with a number, made for greedy longest match at the speed of the cache: a
// double-array trie whose slot is 8 bytes, so that each byte of text costs one load and one compare, and the
// World vocabulary takes about 1 MB. Immutable once built.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gf {

class ByteTrie {
 public:
  static constexpr int32_t kMaxValue = (1 << 24) - 1;

  // Strings must differ, be sorted by bytes and not be empty; values lie in [1, kMaxValue].
  explicit ByteTrie(const std::vector<std::pair<std::string, int32_t>>& sorted);

  struct Match {
    int32_t value;             // 0: no string of the set begins here
    const unsigned char* end;  // behind the match
  };
  // The longest string of the set that [begin, end) starts with.
  Match longest(const unsigned char* begin, const unsigned char* end) const {
    Match match{0, begin};
    uint32_t base = root_;
    while (begin < end) {
      const unsigned char byte = *begin++;
      const Slot slot = slots_[base ^ byte];
      if (slot.label != byte) break;
      base = slot.base;
      if (slot.value) match = {static_cast<int32_t>(slot.value), begin};
    }
    return match;
  }

  size_t bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  // The child of a node along `byte` is slot base ^ byte, if that slot's label is `byte`. Every inner node has a base
  // of its own, so that the label alone tells whose child a slot is. Nodes without children have base 0, and slot i
  // of the first 256 carries a label other than i.
  struct Slot {
    uint32_t base = 0;
    uint32_t label : 8 = 0;
    uint32_t value : 24 = 0;
  };
  class Builder;

  std::vector<Slot> slots_;
  uint32_t root_ = 0;
};

}  // namespace gf
