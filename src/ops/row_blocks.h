// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/parallel_for.h"

namespace gf {

// How kernels cut M rows where each block leaves a partial sum: the same cut on any number of threads. Ops size
// their scratch by it.
inline Blocks row_blocks(int64_t M) {
  return Blocks::at_most(M, 64, 16);
}

}  // namespace gf
