// SPDX-License-Identifier: Apache-2.0
// Between the two passes of the chunked form on a GPU.
#pragma once
#include <initializer_list>

#include "ops/wkv6/kernels.h"

namespace gf::cuda {

// S over the chunks of all heads, or D = dL/dS from their ends.
struct StateScan {
  Wkv6Args<BFloat16> f;
  const BFloat16* q;   // v, or dy
  const float* first;  // the state to begin with; null: zeros
  float* last;         // where the last one goes; null: nowhere. May be the same
  BFloat16* kept;      // the states that the chunks begin with: S before them, or D after them
};
// Of S, and where `reverse` is not null of D beside it.
void scan_states(const StateScan& forward, const StateScan* reverse, CudaStream);

// That the shape and the addresses are such that the chunked form can be.
void check_chunked(const Wkv6Args<BFloat16>&, std::initializer_list<const BFloat16*> more);

}  // namespace gf::cuda
