// SPDX-License-Identifier: Apache-2.0
// Where a block of a kernel of attention is, and what the scores are there.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace gf::cuda::attention_detail {

// Blocks of one head follow one another, so that what they all read stays in the cache. Those with the most work go
// first: the last queries, which see the most keys, or the first keys, which the most queries see.
enum class First : uint8_t { last_queries, first_keys };
struct Place {
  int64_t head, block;
  __device__ Place(First order, int64_t rows, int64_t rows_of_block) {
    const int64_t blocks = (rows + rows_of_block - 1) / rows_of_block, at = int64_t{blockIdx.x} % blocks;
    head = int64_t{blockIdx.x} / blocks;
    block = order == First::last_queries ? blocks - 1 - at : at;
  }
};

// One head of one sequence.
template <class Real>
struct Head {
  int64_t q, k, lse;  // offsets of its first query, key, log-sum-exp
  int64_t C, Tq, Tk, before;
  Real scale, slope;

  template <class Args>
  __device__ Head(const Args& p, int64_t index)
      : q(index / p.H * p.Tq * p.H * p.N + index % p.H * p.N),
        k(index / p.H * p.Tk * p.H * p.N + index % p.H * p.N),
        lse(index * p.Tq),
        C(p.H * p.N),
        Tq(p.Tq),
        Tk(p.Tk),
        before(p.before),
        scale(1 / sqrt(static_cast<Real>(p.N))),
        slope(p.alibi ? static_cast<Real>(slope_of(index % p.H, p.H)) : Real(0)) {}

  // Keys that a query sees.
  __device__ int64_t seen(int64_t query) const {
    const int64_t keys = before + query + 1;
    return keys < 0 ? 0 : keys < Tk ? keys : Tk;
  }
  __device__ Real score(Real product, int64_t query, int64_t key) const {
    return product * scale + slope * static_cast<Real>(key - before - query);
  }

 private:
  // alibi_slope() of kernels.h, here.
  static __device__ double slope_of(int64_t h, int64_t H) {
    const double first = -8.0 / static_cast<double>(H);
    if (H == 1) return exp2(first);
    return exp2(first + static_cast<double>(h) * (-8 - first) / static_cast<double>(H - 1));
  }
};

}  // namespace gf::cuda::attention_detail
