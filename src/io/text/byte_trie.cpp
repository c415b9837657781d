// SPDX-License-Identifier: Apache-2.0
#include "io/text/byte_trie.h"

#include <algorithm>
#include <deque>

#include "base/error.h"

namespace gf {
namespace {
constexpr uint32_t kBlock = 256;  // base ^ byte stays within the block of base
}

// Places the nodes breadth first: the short prefixes, which every match passes, lie together.
class ByteTrie::Builder {
 public:
  using Strings = std::vector<std::pair<std::string, int32_t>>;

  Builder(const Strings& strings, std::vector<Slot>& slots) : strings_(strings), slots_(slots) {}

  uint32_t build() {
    add_block();  // block 0 stays empty: it is where nodes without children point
    std::fill(taken_.begin(), taken_.end(), true);
    open_ = kBlock;
    const uint32_t root = place({0, strings_.size(), 0});
    while (!pending_.empty()) {
      const auto [slot, range] = pending_.front();
      pending_.pop_front();
      const uint32_t base = place(range);
      slots_[slot].base = base;
    }
    label_free_slots();
    return root;
  }

 private:
  // The strings [begin, end) that share their first `depth` bytes: one node.
  struct Range {
    size_t begin, end, depth;
  };

  void add_block() {
    slots_.resize(slots_.size() + kBlock);
    taken_.resize(slots_.size(), false);
    base_used_.resize(slots_.size(), false);
  }

  unsigned char byte_at(size_t string, size_t depth) const {
    return static_cast<unsigned char>(strings_[string].first[depth]);
  }

  // Gives a node's children their slots and queues them; returns the node's base, 0 without children.
  uint32_t place(Range node) {
    if (node.begin < node.end && strings_[node.begin].first.size() == node.depth)
      ++node.begin;  // the node's own string
    if (node.begin == node.end) return 0;
    children_.clear();
    for (size_t i = node.begin; i < node.end;) {
      const unsigned char label = byte_at(i, node.depth);
      const size_t first = i;
      while (i < node.end && byte_at(i, node.depth) == label) ++i;
      children_.push_back({first, i, node.depth + 1});
    }
    const uint32_t base = find_base(node.depth);
    base_used_[base] = true;
    for (const Range& child : children_) {
      const unsigned char label = byte_at(child.begin, node.depth);
      const uint32_t slot = base ^ label;
      taken_[slot] = true;
      slots_[slot].label = label;
      const auto& [text, value] = strings_[child.begin];
      if (text.size() == child.depth) slots_[slot].value = static_cast<uint32_t>(value);
      pending_.emplace_back(slot, child);
    }
    return base;
  }

  bool fits(uint32_t base, size_t depth) const {
    if (base_used_[base]) return false;
    return std::ranges::none_of(children_, [&](const Range& c) { return taken_[base ^ byte_at(c.begin, depth)]; });
  }

  // Tries the free slots of the last few blocks for the first child. The limit keeps building linear, whatever the
  // strings.
  uint32_t find_base(size_t depth) {
    constexpr uint32_t kOpenBlocks = 16;
    constexpr int kTries = 128;
    const unsigned char first = byte_at(children_.front().begin, depth);
    if (slots_.size() > kOpenBlocks * kBlock) {
      open_ = std::max(open_, static_cast<uint32_t>(slots_.size() - kOpenBlocks * kBlock));
    }
    while (open_ < slots_.size() && taken_[open_]) ++open_;
    int tries = 0;
    for (uint32_t slot = open_; slot < slots_.size() && tries < kTries; ++slot) {
      if (taken_[slot]) continue;
      if (fits(slot ^ first, depth)) return slot ^ first;
      ++tries;
    }
    const auto block = static_cast<uint32_t>(slots_.size());
    add_block();
    return block;
  }

  // A free slot must answer to no node: its label leads back to a base of its block that no node has. There is one,
  // since each base of a block has at least one slot of it.
  void label_free_slots() {
    for (uint32_t block = 0; block < slots_.size(); block += kBlock) {
      uint32_t unused = block;
      while (unused < block + kBlock && (base_used_[unused] || unused == 0)) ++unused;
      for (uint32_t slot = block; slot < block + kBlock; ++slot) {
        if (block == 0 || !taken_[slot]) slots_[slot].label = (slot ^ unused) & (kBlock - 1);
      }
    }
  }

  const Strings& strings_;
  std::vector<Slot>& slots_;
  std::vector<bool> taken_, base_used_;
  std::vector<Range> children_;
  std::deque<std::pair<uint32_t, Range>> pending_;
  uint32_t open_ = 0;  // no slot before this one is free
};

ByteTrie::ByteTrie(const std::vector<std::pair<std::string, int32_t>>& sorted) {
  static_assert(sizeof(Slot) == 8);
  for (size_t i = 0; i < sorted.size(); ++i) {
    const auto& [text, value] = sorted[i];
    GF_CHECK(!text.empty() && value > 0 && value <= kMaxValue && (i == 0 || sorted[i - 1].first < text), "string ", i,
             " of a trie, value ", value);
  }
  root_ = Builder(sorted, slots_).build();
  slots_.shrink_to_fit();
}

}  // namespace gf
