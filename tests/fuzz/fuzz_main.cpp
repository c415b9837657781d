// SPDX-License-Identifier: Apache-2.0
// libFuzzer's entry; GF_FUZZ_TARGET is the name of the target.
#include <algorithm>

#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto target = std::ranges::find(gf::fuzz::targets(), GF_FUZZ_TARGET, &gf::fuzz::Target::name);
  target->run({data, size});
  return 0;
}
