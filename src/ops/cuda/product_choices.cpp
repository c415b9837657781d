// SPDX-License-Identifier: Apache-2.0
#include "ops/cuda/product_choices.h"

#include <charconv>
#include <sstream>
#include <utility>

#include "base/error.h"

namespace gf {
namespace {

constexpr char kBetween = '\t';

// Eight words of 16 digits, and nothing else.
std::optional<ProductChoices::Algorithm> parse(const std::string& text) {
  constexpr size_t kDigits = 16;
  ProductChoices::Algorithm words{};
  if (text.size() != kDigits * words.size()) return std::nullopt;
  for (size_t i = 0; i < words.size(); ++i) {
    const char *const begin = text.data() + i * kDigits, *const end = begin + kDigits;
    if (std::from_chars(begin, end, words[i], 16).ptr != end) return std::nullopt;
  }
  return words;
}

std::string text_of(const ProductChoices::Algorithm& words) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const uint64_t word : words)
    for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[word >> shift & 15];
  return text;
}

}  // namespace

ProductChoices::ProductChoices(std::string machine, const std::string& lines) : machine_(std::move(machine)) {
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(kBetween), last = line.rfind(kBetween);
    if (first == last || line.substr(0, first) != machine_) continue;
    if (const auto algorithm = parse(line.substr(last + 1)))
      known_.emplace(line.substr(first + 1, last - first - 1), *algorithm);
  }
}

std::optional<ProductChoices::Algorithm> ProductChoices::find(const std::string& product) const {
  const auto found = known_.find(product);
  return found == known_.end() ? std::nullopt : std::optional(found->second);
}

void ProductChoices::add(const std::string& product, const Algorithm& algorithm) {
  known_.insert_or_assign(product, algorithm);
  added_ += cat(machine_, kBetween, product, kBetween, text_of(algorithm), "\n");
}

std::string ProductChoices::take_added() {
  return std::exchange(added_, {});
}

}  // namespace gf
