// SPDX-License-Identifier: Apache-2.0
// Of flat_ranges.cpp: the table by which a GPU goes through ranges. Each is cut into pieces, of which a block of
// threads takes one.
#pragma once
#include <cstdint>

#include "optim/adamw.h"
#include "tensor/on_device.h"

namespace gf {

struct FlatPiece {
  int64_t flat, state;
  int32_t size, range;
};
inline constexpr int64_t kFlatPiece = 1 << 14;  // numbers, at most

struct FlatRate {
  double group, own, decays;  // what the learning rate is multiplied by, in this order; 1 where the range decays
};

struct FlatSquaresArgs {
  int64_t num_ranges, num_pieces;
  const FlatPiece* pieces;
  const int64_t* first;  // piece of each range, and the end
  const float* x;
  double *partial, *sums;  // of the pieces, of the ranges
};

struct FlatAdamWArgs {
  int64_t num_pieces;
  const FlatPiece* pieces;
  const FlatRate* rates;  // of the ranges
  AdamWArgs all;          // its pointers are those of the whole buffers: see FlatRanges::adamw
};

namespace cuda {
void flat_squares(const FlatSquaresArgs&, CudaStream);
void flat_adamw(const FlatAdamWArgs&, CudaStream);
}  // namespace cuda

}  // namespace gf
