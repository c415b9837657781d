// SPDX-License-Identifier: Apache-2.0
// The chunked form forward: a scan of states over the chunks of each head, which keeps them, and then the results of
// all chunks side by side. The scan runs once more, with other operands and backward in time, in the backward pass.
#include "ops/wkv6/wkv6_chunked.h"

#include "base/error.h"
#include "ops/wkv6/wkv6_chunk.cuh"

namespace gf::cuda {
namespace {

using namespace wkv6_chunk;

// X = diag(decay of the chunk) X + P^T Q from chunk to chunk: S of k to the chunk's end and v, or, in reverse, D of r
// from its beginning and dy. P is split in two bf16, P^T Q sums up their products, so that a state that lives on over
// many chunks and calls has the accuracy of float32 (2^-17 a term); Q is bf16 as it is. While one chunk's products are
// formed, the next one's rows are on their way.
struct ScanMemory {
  struct Stage {
    Rows w, p;
    Tile q;
  } stages[2];
  Tile high, low;
  float whole[kSubs * kN];
};

template <bool kReverse>
__device__ void copy_stage(const StateScan& a, const Chunk& chunk, ScanMemory::Stage& to) {
  copy_rows<kN>(to.w.x, a.f.w + chunk.first, chunk.stride, chunk.steps);
  copy_rows<kN>(to.p.x, (kReverse ? a.f.r : a.f.k) + chunk.first, chunk.stride, chunk.steps);
  copy_tile(to.q, a.q + chunk.first, chunk.stride, chunk.steps);
}

__device__ void split(float x, BFloat16& high, BFloat16& low) {
  high = narrow<BFloat16>(x);
  low = narrow<BFloat16>(x - wide(high));
}

// P of a chunk, and the products of decays; all threads.
template <bool kReverse>
__device__ void load_p(const StateScan& a, int steps, const ScanMemory::Stage& from, ScanMemory& m) {
  const Column c;
  float decay[kSub], p[kSub], product = 1;
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    const int at = c.row(i) * kN + c.n;
    const bool there = c.row(i) < steps;
    const float log = log_decay(wide(from.w.x[at]));
    decay[i] = there ? fast_exp(log) : 1.0f;
    p[i] = wide(from.p.x[at]);
    if (!kReverse && a.f.scale_keys) p[i] *= key_scale(log, decay[i]);
    product *= decay[i];
  }
  m.whole[c.sub * kN + c.n] = product;
  __syncthreads();
  float with = kReverse ? decay_over(m.whole, 0, c.sub, c.n) : decay_over(m.whole, c.sub + 1, kSubs, c.n);
#pragma unroll
  for (int n = 0; n < kSub; ++n) {
    const int i = kReverse ? n : kSub - 1 - n;
    split(p[i] * with, *m.high.at(c.row(i), c.n), *m.low.at(c.row(i), c.n));
    with *= decay[i];
  }
}

template <bool kReverse>
__device__ void scan(const StateScan& a, ScanMemory& m) {
  const Strip strip;
  const unsigned head = blockIdx.x;
  const int64_t chunks = (a.f.Tn + kSteps - 1) / kSteps;
  const auto chunk_of = [&](int64_t n) {
    return Chunk(a.f, head, static_cast<unsigned>(kReverse ? chunks - 1 - n : n), chunks);
  };
  MmaSum state[2];
  for (int half = 0; half < 2; ++half)
    each_pair(state[half], strip.row, strip.column + 16 * half, [&](int i, int j, float& x, float& y) {
      if (!a.first) return;
      const float* const from = a.first + int64_t{head} * kStateSize + i * kN + j;
      x = from[0], y = from[1];
    });
  if (chunks > 0) copy_stage<kReverse>(a, chunk_of(0), m.stages[0]);
  for (int64_t n = 0; n < chunks; ++n) {
    const Chunk chunk = chunk_of(n);
    ScanMemory::Stage& stage = m.stages[n % 2];
    wait_for_copies();
    __syncthreads();  // this chunk's rows are there, the one before it is done with the other stage and with P
    if (n + 1 < chunks) copy_stage<kReverse>(a, chunk_of(n + 1), m.stages[(n + 1) % 2]);
    load_p<kReverse>(a, chunk.steps, stage, m);
    __syncthreads();
    const int row = strip.row + static_cast<int>(threadIdx.x) % kWarp / 4;
    const float upper = decay_over(m.whole, 0, kSubs, row), lower = decay_over(m.whole, 0, kSubs, row + 8);
    BFloat16* const kept = a.kept + chunk.state;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      each_pair(state[half], strip.row, strip.column + 16 * half, [&](int i, int j, float& x, float& y) {
        store_as(kept + i * kN + j, mma::pair(x, y));
        const float decay = i == row ? upper : lower;
        x *= decay, y *= decay;
      });
#pragma unroll
    for (int t = 0; t < kSteps; t += 16) {
      const mma::A high = mma::load_a_transposed(m.high.at(t, strip.row), kStride);
      const mma::A low = mma::load_a_transposed(m.low.at(t, strip.row), kStride);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const mma::TwoBs q = mma::load_b(stage.q.at(t, strip.column + 16 * half), kStride);
        multiply_add(state[half], high, q);
        multiply_add(state[half], low, q);
      }
    }
  }
  if (!a.last) return;
  for (int half = 0; half < 2; ++half)
    each_pair(state[half], strip.row, strip.column + 16 * half, [&](int i, int j, float x, float y) {
      float* const to = a.last + int64_t{head} * kStateSize + i * kN + j;
      to[0] = x, to[1] = y;
    });
}

// Both ways side by side: 512 heads alone do not fill a Hopper evenly.
__global__ __launch_bounds__(kThreads, 3) void state_scan_kernel(StateScan forward, StateScan reverse) {
  ScanMemory& m = *dynamic_shared<ScanMemory>();
  if (blockIdx.y == 0)
    scan<false>(forward, m);
  else
    scan<true>(reverse, m);
}

// y = (r from the beginning of the chunk) S + A v + add. 100 KB of shared memory: two blocks on a Hopper
// multiprocessor, one on Ampere; what limits it is the arithmetic of scores_near.
struct OutputMemory {
  Operands operands;
  Tile r_all, state, v, scores;
  Early early;
};
static_assert(sizeof(OutputMemory) <= kWkv6SharedMemory && sizeof(ScanMemory) <= kWkv6SharedMemory);

__global__ __launch_bounds__(kThreads, 2) void output_kernel(Wkv6Args<BFloat16> p, unsigned chunks,
                                                             const BFloat16* states) {
  OutputMemory& m = *dynamic_shared<OutputMemory>();
  const Chunk chunk(p, blockIdx.x / chunks, blockIdx.x % chunks, chunks);
  copy_tile(m.v, p.v + chunk.first, chunk.stride, chunk.steps);
  copy_tile(m.state, states + chunk.state, kN, kSteps);
  prepare(
      p, chunk, m.operands, m.early, [&](int row, int n, float r) { *m.r_all.at(row, n) = narrow<BFloat16>(r); },
      [](int, int, float) {});
  __syncthreads();
  scores_below(m.operands, m.early, m.scores);
  scores_near(m.operands, m.early, p.u ? p.u + chunk.head * kN : nullptr, m.scores);
  wait_for_copies();
  __syncthreads();
  const Strip strip;
  MmaSum y[2];
#pragma unroll
  for (int n = 0; n < kN; n += 16) {
    const mma::A r = mma::load_a(m.r_all.at(strip.row, n), kStride);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      multiply_add(y[half], r, mma::load_b(m.state.at(n, strip.column + 16 * half), kStride));
  }
  for (int j = 0; j <= strip.row; j += kSub) {
    const mma::A score = mma::load_a(m.scores.at(strip.row, j), kStride);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      multiply_add(y[half], score, mma::load_b(m.v.at(j, strip.column + 16 * half), kStride));
  }
#pragma unroll
  for (int half = 0; half < 2; ++half)
    each_pair(y[half], strip.row, strip.column + 16 * half, [&](int row, int n, float a, float b) {
      if (row >= chunk.steps) return;
      const int at = chunk.at(row, n);
      if (p.add) {
        const auto add = load_as<unsigned>(p.add + chunk.first + at);
        a += low_half(add), b += high_half(add);
      }
      store_as(p.y + chunk.first + at, mma::pair(a, b));
    });
}

}  // namespace

void scan_states(const StateScan& forward, const StateScan* reverse, CudaStream stream) {
  launch(stream, {static_cast<unsigned>(forward.f.B * forward.f.H), reverse ? 2u : 1u}, kThreads, sizeof(ScanMemory),
         state_scan_kernel, forward, reverse ? *reverse : StateScan{});
}

void check_chunked(const Wkv6Args<BFloat16>& p, std::initializer_list<const BFloat16*> more) {
  GF_CHECK(p.N == kN, "wkv6: chunks of heads of ", p.N, " channels");
  const auto check = [](const BFloat16* x) {
    GF_CHECK(reinterpret_cast<uintptr_t>(x) % 16 == 0, "wkv6: a tensor that does not begin on 16 bytes");
  };
  for (const BFloat16* x : {p.r, p.k, p.v, p.w, p.add}) check(x);
  for (const BFloat16* x : more) check(x);
}

void wkv6_chunked(const Wkv6Args<BFloat16>& p, CudaStream stream) {
  check_chunked(p, {p.y});
  const int64_t chunks = (p.Tn + kSteps - 1) / kSteps;
  if (p.B * p.H * chunks == 0) return;
  auto* const states = reinterpret_cast<BFloat16*>(p.scratch);
  scan_states({.f = p, .q = p.v, .first = p.state, .last = p.state, .kept = states}, nullptr, stream);
  launch(stream, static_cast<unsigned>(p.B * p.H * chunks), kThreads, sizeof(OutputMemory), output_kernel, p,
         static_cast<unsigned>(chunks), states);
}

}  // namespace gf::cuda
