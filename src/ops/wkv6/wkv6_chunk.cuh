// SPDX-License-Identifier: Apache-2.0
// WKV6 in chunks of 64 steps on tensor cores: what its kernels share. A chunk's steps are four sub-chunks of 16. Within
// one, keys and receptances are brought to its ends by products of its own decays, and from one to another by the
// product of all decays of those between. So every factor is a product of decays, at most 1, and may become zero
// without harm; no logarithm is summed up and no exponential taken of a sum.
#pragma once
#include "ops/cuda/async_copy.cuh"
#include "ops/cuda/warp_product.cuh"
#include "ops/wkv6/kernels.h"
#include "tensor/cuda/launch.cuh"

namespace gf::cuda::wkv6_chunk {

inline constexpr int kSteps = kWkv6Chunk, kN = kWkv6HeadSize, kSub = 16, kSubs = kSteps / kSub;
inline constexpr int kThreads = 256, kStride = kN + 8;  // an odd number of 16 bytes
inline constexpr int kStateSize = kN * kN;
static_assert(kThreads == kSubs * kN && kThreads == kSubs * 2 * kWarp);

// 64 rows of a matrix, for tensor cores.
struct alignas(16) Tile {
  BFloat16 x[kSteps * kStride];
  __device__ BFloat16* at(int row, int column) { return x + row * kStride + column; }
};
// As it comes from memory.
struct alignas(16) Rows {
  BFloat16 x[kSteps * kN];
};

// One chunk of one head. Steps past the sequence's end count as ones without decay, whose inputs are zeros.
struct Chunk {
  int head, stride;  // its step i begins i * stride after its first, which a 32-bit number can tell
  int64_t first;
  int64_t state;  // in the kept states
  int steps;      // in the sequence

  __device__ Chunk(const Wkv6Args<BFloat16>& p, unsigned head_index, unsigned chunk, int64_t chunks) {
    const auto H = static_cast<unsigned>(p.H);  // 64-bit divisions take long
    const int64_t left = p.Tn - int64_t{chunk} * kSteps;
    head = static_cast<int>(head_index % H), stride = static_cast<int>(H) * kN;
    first = (head_index / H * p.Tn + int64_t{chunk} * kSteps) * stride + head * kN;
    state = (head_index * chunks + chunk) * kStateSize;
    steps = left < kSteps ? static_cast<int>(left) : kSteps;
  }
  __device__ int at(int step, int n) const { return step * stride + n; }
};

// Rows of 64 numbers that are `stride` apart; zeros from row `rows` on.
template <int kRowStride>
__device__ void copy_rows(BFloat16* to, const BFloat16* from, int stride, int rows) {
  constexpr int kPieces = kN / 8;
  for (int i = static_cast<int>(threadIdx.x); i < kSteps * kPieces; i += kThreads) {
    const int row = i / kPieces, column = i % kPieces * 8;
    const bool there = row < rows;
    copy_async(to + row * kRowStride + column, from + (there ? row * stride : 0) + column, there);
  }
}
__device__ inline void copy_tile(Tile& to, const BFloat16* from, int stride, int rows) {
  copy_rows<kStride>(to.x, from, stride, rows);
}

__device__ inline float fast_exp(float x) {
  return fast_exp2(x * 1.44269504f);
}
__device__ inline float log_decay(float w) {
  return -fast_exp(w);
}
// 1 - decay: -expm1 of its logarithm, near 1 by the series, whose next term is under 4e-7 of the sum.
__device__ inline float key_scale(float x, float decay) {
  const float series =
      -x * (1 + x * (1 / 2.0f + x * (1 / 6.0f + x * (1 / 24.0f + x * (1 / 120.0f + x * (1 / 720.0f))))));
  return x > -0.35f ? series : 1 - decay;
}

// A thread's place: a channel of a sub-chunk.
struct Column {
  int sub = static_cast<int>(threadIdx.x) / kN, n = static_cast<int>(threadIdx.x) % kN;
  __device__ int row(int i) const { return sub * kSub + i; }
};
// A warp's place in a 64 x 64 matrix: 16 rows of 32 columns.
struct Strip {
  int row = static_cast<int>(threadIdx.x) / (2 * kWarp) * kSub, column = static_cast<int>(threadIdx.x) / kWarp % 2 * 32;
  int sub = row / kSub;
};

// f(row, column, x, y): what the lane has of a sum that begins at (row, column): x, and y in the column after it.
template <class F>
__device__ void each_pair(MmaSum& sum, int row, int column, const F& f) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int right = 0; right < 2; ++right)
#pragma unroll
    for (int down = 0; down < 2; ++down)
      f(row + lane / 4 + 8 * down, column + 8 * right + 2 * (lane % 4), sum.half[right].x[2 * down],
        sum.half[right].x[2 * down + 1]);
}

__device__ inline void store_sum(MmaSum& sum, Tile& to, int row, int column) {
  each_pair(sum, row, column, [&](int i, int j, float x, float y) { store_as(to.at(i, j), mma::pair(x, y)); });
}

// The product of the decays of whole sub-chunks [begin, end), for a channel.
__device__ inline float decay_over(const float* whole, int begin, int end, int n) {
  float product = 1;
  for (int sub = begin; sub < end; ++sub) product *= whole[sub * kN + n];
  return product;
}

// What a chunk's own products are made of: r with the decays from the beginning of its sub-chunk on, k (scaled) with
// those to the end of it; both as they are, too.
struct Operands {
  Tile r_near, k_near;
  Rows r, k;
  float whole[kSubs * kN];  // products of decays over sub-chunks
};
// What is needed for scores alone.
struct alignas(16) Early {
  float decay[kSteps * kN];
  BFloat16 r_far[3][kSub * kStride];  // r from the end of sub-chunks further before it: (2, 0), (3, 1), (3, 0)
};

// Fills them; what threads write at last is to be seen after a barrier. store_r(row, n, x) and store_k get r with the
// decays from the beginning of the chunk on, k with those to its end.
template <class StoreR, class StoreK>
__device__ void prepare(const Wkv6Args<BFloat16>& p, const Chunk& chunk, Operands& o, Early& early,
                        const StoreR& store_r, const StoreK& store_k) {
  const Column c;
  BFloat16 given[3][kSub];  // all asked of the memory before the first is needed
  const BFloat16 *const w = p.w + chunk.first, *const r_given = p.r + chunk.first, *const k_given = p.k + chunk.first;
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    const int at = chunk.at(c.row(i) < chunk.steps ? c.row(i) : 0, c.n);
    given[0][i] = w[at], given[1][i] = r_given[at], given[2][i] = k_given[at];
  }
  float decay[kSub], r[kSub], k[kSub], product = 1;
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    const bool there = c.row(i) < chunk.steps;
    k[i] = log_decay(wide(given[0][i]));
    decay[i] = there ? fast_exp(k[i]) : 1.0f;
    r[i] = there ? wide(given[1][i]) : 0.0f;
  }
  if (p.scale_keys) {
#pragma unroll
    for (int i = 0; i < kSub; ++i) k[i] = key_scale(k[i], decay[i]) * wide(given[2][i]);
  } else {
#pragma unroll
    for (int i = 0; i < kSub; ++i) k[i] = wide(given[2][i]);
  }
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    const int at = c.row(i) * kN + c.n;
    k[i] = c.row(i) < chunk.steps ? k[i] : 0.0f;
    o.r.x[at] = narrow<BFloat16>(r[i]), o.k.x[at] = narrow<BFloat16>(k[i]), early.decay[at] = decay[i];
    product *= decay[i];
  }
  o.whole[c.sub * kN + c.n] = product;
  __syncthreads();
  const float before = decay_over(o.whole, 0, c.sub, c.n), after = decay_over(o.whole, c.sub + 1, kSubs, c.n);
  const float last = c.sub > 1 ? o.whole[(c.sub - 1) * kN + c.n] : 0.0f;
  const float last_two = c.sub > 2 ? last * o.whole[kN + c.n] : 0.0f;
  float so_far = 1;
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    const float near = r[i] * so_far;
    *o.r_near.at(c.row(i), c.n) = narrow<BFloat16>(near);
    if (c.sub > 1) early.r_far[c.sub - 2][i * kStride + c.n] = narrow<BFloat16>(near * last);
    if (c.sub > 2) early.r_far[2][i * kStride + c.n] = narrow<BFloat16>(near * last_two);
    store_r(c.row(i), c.n, near * before);
    so_far *= decay[i];
  }
  float to_come = 1;
#pragma unroll
  for (int i = kSub - 1; i >= 0; --i) {
    const float near = k[i] * to_come;
    *o.k_near.at(c.row(i), c.n) = narrow<BFloat16>(near);
    store_k(c.row(i), c.n, near * after);
    to_come *= decay[i];
  }
}

// A 16 x 16 block of a b^T, a product over 64 channels.
__device__ inline MmaSum block_product(const BFloat16* a, const BFloat16* b) {
  MmaSum sum;
#pragma unroll
  for (int n = 0; n < kN; n += 16)
    multiply_add(sum, mma::load_a(a + n, kStride), mma::load_b_transposed(b + n, kStride));
  return sum;
}

// A[i][j] = sum_n r_i k_j decay_{j+1} .. decay_{i-1}, for sub-chunks i / 16 > j / 16.
__device__ inline void scores_below(Operands& o, Early& early, Tile& to) {
  constexpr int kBlocks = kSubs * (kSubs - 1) / 2;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (warp >= kBlocks) return;
  const int sub = warp < 1 ? 1 : warp < 3 ? 2 : 3, other = warp - sub * (sub - 1) / 2;
  const BFloat16* const r = other == sub - 1 ? o.r_near.at(sub * kSub, 0) : early.r_far[2 * sub - 4 - other];
  MmaSum sum = block_product(r, o.k_near.at(other * kSub, 0));
  store_sum(sum, to, sub * kSub, other * kSub);
}

struct Four {
  float x[4];
  __device__ explicit Four(const BFloat16* from) {
    const auto bits = load_as<uint2>(from);
    x[0] = low_half(bits.x), x[1] = high_half(bits.x), x[2] = low_half(bits.y), x[3] = high_half(bits.y);
  }
};

// The same within sub-chunks, where no single matrix product has factors of at most 1, and r . (u k) on the diagonal.
// Four threads have a key each, 16 channels of it, which decays as it meets one step after another.
__device__ inline void scores_near(const Operands& o, const Early& early, const BFloat16* u, Tile& to) {
  constexpr int kFours = kN / 16;
  const int quarter = static_cast<int>(threadIdx.x) % 4, j = static_cast<int>(threadIdx.x) / 4 % kSub;
  const int first = static_cast<int>(threadIdx.x) / kN * kSub, first_of_warp = j / 8 * 8;
  float key[4 * kFours], bonus = 0;
#pragma unroll
  for (int m = 0; m < kFours; ++m) {
    const int n = 16 * m + 4 * quarter, at = (first + j) * kN + n;
    const Four k(o.k.x + at), r(o.r.x + at);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      key[4 * m + e] = k.x[e];
      if (u) bonus += r.x[e] * wide(u[n + e]) * k.x[e];
    }
  }
  for (int i = quarter; i < first_of_warp; i += 4) *to.at(first + i, first + j) = BFloat16{0};
  for (int i = first_of_warp; i < kSub; ++i) {
    float sum = 0;
#pragma unroll
    for (int m = 0; m < kFours; ++m) {
      const int at = (first + i) * kN + 16 * m + 4 * quarter;
      const Four r(o.r.x + at);
      const float4 decay = *reinterpret_cast<const float4*>(early.decay + at);
      const float decays[4] = {decay.x, decay.y, decay.z, decay.w};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        sum += r.x[e] * key[4 * m + e];
        if (i > j) key[4 * m + e] *= decays[e];
      }
    }
    sum = i > j ? sum : i == j ? bonus : 0.0f;
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (quarter == 0) *to.at(first + i, first + j) = narrow<BFloat16>(sum);
  }
}

}  // namespace gf::cuda::wkv6_chunk
