// SPDX-License-Identifier: Apache-2.0
#include "train/product_file.h"

#include "io/files.h"
#include "ops/cuda/gemm.h"
#include "parallel/agreement.h"
#include "tensor/on_device.h"

namespace gf {

void use_product_file(const std::filesystem::path& path) {
  constexpr int64_t kMostBytes = int64_t{64} << 20;
  const std::string known = std::filesystem::exists(path) ? read_small_file(path, kMostBytes) : "";
  if constexpr (kWithCuda) cuda::choose_fastest_products(known);
}

void add_to_product_file(const std::filesystem::path& path, Communicator& ranks) {
  std::string own;
  if constexpr (kWithCuda) own = cuda::take_product_choices();
  std::string all;
  for (const std::string& lines : ranks.gather_text(own)) all += lines;
  all_or_none(ranks, [&] {
    if (ranks.rank() > 0 || all.empty()) return;
    File file = File::append_to(path);
    file.write(std::as_bytes(std::span(all)));
    file.close();
  });
}

}  // namespace gf
