// SPDX-License-Identifier: Apache-2.0
// Which of cuBLASLt's algorithms a product is done by, as far as that was found out: as lines of text, which one run
// can leave to the next so that it does the same. A line holds for one GPU and one version of the library.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace gf {

class ProductChoices {
 public:
  using Algorithm = std::array<uint64_t, 8>;  // cuBLASLt's own words
  // `machine`: the GPU and the library. Of lines for one product the first counts; what is no line is passed over.
  ProductChoices(std::string machine, const std::string& lines);
  std::optional<Algorithm> find(const std::string& product) const;
  void add(const std::string& product, const Algorithm&);
  std::string take_added();  // lines, since the last call

 private:
  std::string machine_, added_;
  std::map<std::string, Algorithm> known_;
};

}  // namespace gf
