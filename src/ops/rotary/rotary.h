// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding: each pair of neighbours in a head turns by an angle that grows with the position, so
// that products of rotated queries and keys tell only how far apart they are.
#pragma once
#include <mutex>
#include <vector>

#include "autodiff/tape.h"

namespace gf {

// Radians a position, one speed for each of the head_size / 2 pairs.
// Published `rope`: (base * rebase)^(-2i / head_size) / rescale
std::vector<double> rope_speeds(int64_t head_size, double base, double rescale = 1, double rebase = 1);
// Published `brope`: pi * 2^-i / rescale, and 0 for i >= floor(log2 ctx_len)
std::vector<double> binary_rope_speeds(int64_t head_size, int64_t ctx_len, double rescale = 1);

// Cosines and sines, taken in double from the position and the speed alone: the same bits whoever asks. One for all
// layers of a model, which owns it; may be shared by threads.
class RotaryTable {
 public:
  // Positions whose angles are kept for good. What is read on from farther takes memory for its pass alone, so that
  // nothing grows with a text that is read piece by piece.
  static constexpr int64_t kKept = 4096;
  explicit RotaryTable(std::vector<double> speeds);
  int64_t head_size() const { return 2 * static_cast<int64_t>(speeds_.size()); }

  // (end - begin, head_size / 2, 2): cosine and sine of position t times speed i, on the arena's device. From position
  // 0 on, as in training, all that are asked for are kept too, and stay where they are.
  Tensor angles(int64_t begin, int64_t end, DType, Arena&) const;

 private:
  Tensor kept(int64_t T, DType, Device) const;  // of position 0 to T, or farther
  std::vector<double> speeds_;
  mutable std::mutex guard_;
  // One a dtype and device, and behind it the longer ones that took its place: a graph goes on reading where it has
  // read.
  mutable std::vector<Tensor> kept_;
};

// (x0, x1) -> (x0 cos - x1 sin, x0 sin + x1 cos) for each pair of each head.  x: (B, T, num_heads * head_size), from
// position `first` on
Var rotary(const Var& x_BTC, int64_t num_heads, const RotaryTable&, int64_t first = 0);

}  // namespace gf
