// SPDX-License-Identifier: Apache-2.0
// Legend: B sequences, H heads of size N, C = H N. Query i sees the keys up to i + before, counted from the first that
// is given: where all positions are, before = Tk - Tq.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

template <class T>
struct AttentionArgs {
  int64_t B, Tq, Tk, H, N;
  int64_t before;  // positions from the first key to the first query; may be negative
  bool go_on;      // y and lse have what the queries found in keys of another call, and become that of both
  bool alibi;
  const T *q, *k, *v;  // B x Tq x C, B x Tk x C twice
  T* y;                // B x Tq x C
  Inner<T>*
      lse;  // B x H x Tq: log of the sum of the exponentials of the scores; -infinity where none is seen, y being 0
};

template <class T>
struct AttentionBackwardArgs {
  int64_t B, Tq, Tk, H, N;
  int64_t before;
  bool alibi;
  const T *q, *k, *v, *y;
  const Inner<T>* lse;
  const T* dy;
  T *dq, *dk, *dv;    // written over; null where not wanted
  Inner<T>* delta;    // scratch: B x H x Tq
  Inner<T>* partial;  // scratch on a CPU: (attention_key_groups(B, H, Tk) - 1) x B x Tq x C; null where dq is
};

inline double alibi_slope(int64_t h, int64_t H) {
  const double first = -8.0 / static_cast<double>(H), last = -8;
  if (H == 1) return std::exp2(first);
  return std::exp2(first + static_cast<double>(h) * (last - first) / static_cast<double>(H - 1));
}

// The backward pass on a CPU gives the keys of a head to so many tasks, each with its own sum for dq: a few, where
// the heads alone would not keep the cores of a large machine busy. Told by the shape, never by the machine.
inline constexpr int64_t kAttentionKeyBlock = 512;
inline int64_t attention_key_groups(int64_t B, int64_t H, int64_t Tk) {
  const int64_t blocks = (Tk + kAttentionKeyBlock - 1) / kAttentionKeyBlock;
  return std::clamp<int64_t>(64 / (B * H), 1, std::min<int64_t>(4, blocks));
}

namespace cpu {
template <class T>
void attention(const AttentionArgs<T>&);
template <class T>
void attention_backward(const AttentionBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void attention(const AttentionArgs<T>&, CudaStream);
template <class T>
void attention_backward(const AttentionBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
