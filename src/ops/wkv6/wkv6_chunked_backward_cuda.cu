// SPDX-License-Identifier: Apache-2.0
// The chunked form backward: the states before all chunks and their gradients after them by two scans, then the
// gradients of all chunks side by side.
//
// The gradient of a decay is a sum over what goes from steps before it to steps after it. Sums over all that begin
// and over all that end somewhere, as the sequential form takes them, leave it as a difference, of which bf16 operands
// leave nothing where decays are strong. Here each such sum has only terms that pass the step: within a sub-chunk
// what comes from before it, what goes on behind it, what does both, and pairs of its own steps.
#include "ops/wkv6/wkv6_chunk.cuh"
#include "ops/wkv6/wkv6_chunked.h"

namespace gf::cuda {
namespace {

using namespace wkv6_chunk;

constexpr int kPairs = kSubs * (kSubs - 1) / 2;  // of a sub-chunk and one before it
__device__ int pair(int sub, int before) {
  return sub * (sub - 1) / 2 + before;
}

constexpr int kFloatStride = kN + 8;  // of sums in float32; their rows are stored by halves of a warp without conflicts

// 107 KB, so that a Hopper multiprocessor has two blocks.
struct GradientMemory {
  Operands operands;
  Tile k_all, scores, dscores;
  union {
    struct {
      Tile v, dy;
    } rows;
    float dr[kSteps * kFloatStride];  // of the state before each sub-chunk: S dy
  };
  union {
    Early early;
    struct {
      Tile before, after;  // S before the chunk, D after it
    } states;
    float dk[kSteps * kFloatStride];  // of the state after each sub-chunk: D v
  };
  float passing[kN];             // sum over v of S D
  float begin_here[kSubs * kN];  // sums over a sub-chunk of k (D after the chunk) v, with decays to its end
  float end_here[kPairs * kN];   // sums over a sub-chunk of r S dy of what passes one before it, decayed through it
  float du[kSubs * kN];
};
static_assert(sizeof(GradientMemory) <= kWkv6SharedMemory);

// dscores[i][j] = dy_i . v_j, for j / 16 <= i / 16.
__device__ void score_gradients(GradientMemory& m) {
  constexpr int kBlocks = kSubs * (kSubs + 1) / 2, kWarps = kThreads / kWarp;
  for (int block = static_cast<int>(threadIdx.x) / kWarp; block < kBlocks; block += kWarps) {
    const int sub = block < 1 ? 0 : block < 3 ? 1 : block < 6 ? 2 : 3, other = block - sub * (sub + 1) / 2;
    MmaSum sum = block_product(m.rows.dy.at(sub * kSub, 0), m.rows.v.at(other * kSub, 0));
    store_sum(sum, m.dscores, sub * kSub, other * kSub);
  }
}

// dv = A^T dy + (k to the end of the chunk) D.
__device__ void value_gradients(GradientMemory& m, const Strip& strip, const Chunk& chunk, BFloat16* dv) {
  MmaSum sum[2];
#pragma unroll
  for (int n = 0; n < kN; n += 16) {
    const mma::A k = mma::load_a(m.k_all.at(strip.row, n), kStride);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      multiply_add(sum[half], k, mma::load_b(m.states.after.at(n, strip.column + 16 * half), kStride));
  }
  for (int i = strip.row; i < kSteps; i += kSub) {
    const mma::A score = mma::load_a_transposed(m.scores.at(i, strip.row), kStride);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      multiply_add(sum[half], score, mma::load_b(m.rows.dy.at(i, strip.column + 16 * half), kStride));
  }
#pragma unroll
  for (int half = 0; half < 2; ++half)
    each_pair(sum[half], strip.row, strip.column + 16 * half, [&](int row, int n, float x, float y) {
      if (row < chunk.steps) store_as(dv + chunk.first + chunk.at(row, n), mma::pair(x, y));
    });
}

// to[n] = the sum over the strip's rows of with[row][n] sum[row][n].
__device__ void sum_rows(MmaSum& sum, Tile& with, int row, int column, float* to) {
  float products[2][2] = {};
#pragma unroll
  for (int right = 0; right < 2; ++right)
#pragma unroll
    for (int down = 0; down < 2; ++down) {
      const int lane = static_cast<int>(threadIdx.x) % kWarp;
      const auto x = load_as<unsigned>(with.at(row + lane / 4 + 8 * down, column + 8 * right + 2 * (lane % 4)));
      products[right][0] += low_half(x) * sum.half[right].x[2 * down];
      products[right][1] += high_half(x) * sum.half[right].x[2 * down + 1];
    }
#pragma unroll
  for (int right = 0; right < 2; ++right)
#pragma unroll
    for (int next = 0; next < 2; ++next) {
      float x = products[right][next];
      for (int away = 4; away < kWarp; away *= 2) x += __shfl_xor_sync(kAllLanes, x, away);
      const int lane = static_cast<int>(threadIdx.x) % kWarp;
      if (lane < 4) to[column + 8 * right + 2 * lane + next] = x;
    }
}

__device__ void let_decay(MmaSum& sum, const float* whole, int column) {
  each_pair(sum, 0, column, [&](int, int n, float& x, float& y) { x *= whole[n], y *= whole[n + 1]; });
}

// S dy of the state before each sub-chunk: that of S before the chunk decays, and what sub-chunks add comes to it.
__device__ void gradients_of_r(GradientMemory& m, const Strip& strip, MmaSum* sum) {
#pragma unroll
  for (int v = 0; v < kN; v += 16) {
    const mma::A dy = mma::load_a(m.rows.dy.at(strip.row, v), kStride);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      multiply_add(sum[half], dy, mma::load_b_transposed(m.states.before.at(strip.column + 16 * half, v), kStride));
  }
  for (int before = 0; before < strip.sub; ++before) {
    const mma::A dscore = mma::load_a(m.dscores.at(strip.row, before * kSub), kStride);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = strip.column + 16 * half;
      let_decay(sum[half], m.operands.whole + before * kN, column);
      sum_rows(sum[half], m.operands.r_near, strip.row, column, m.end_here + pair(strip.sub, before) * kN);
      multiply_add(sum[half], dscore, mma::load_b(m.operands.k_near.at(before * kSub, column), kStride));
    }
  }
}

// D v of the state after each sub-chunk, likewise from behind.
__device__ void gradients_of_k(GradientMemory& m, const Strip& strip, MmaSum* sum) {
#pragma unroll
  for (int v = 0; v < kN; v += 16) {
    const mma::A value = mma::load_a(m.rows.v.at(strip.row, v), kStride);
#pragma unroll
    for (int half = 0; half < 2; ++half)
      multiply_add(sum[half], value, mma::load_b_transposed(m.states.after.at(strip.column + 16 * half, v), kStride));
  }
#pragma unroll
  for (int half = 0; half < 2; ++half)
    sum_rows(sum[half], m.operands.k_near, strip.row, strip.column + 16 * half, m.begin_here + strip.sub * kN);
  for (int behind = kSubs - 1; behind > strip.sub; --behind) {
    const mma::A dscore = mma::load_a_transposed(m.dscores.at(behind * kSub, strip.row), kStride);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = strip.column + 16 * half;
      let_decay(sum[half], m.operands.whole + behind * kN, column);
      multiply_add(sum[half], dscore, mma::load_b(m.operands.r_near.at(behind * kSub, column), kStride));
    }
  }
}

// Of each key channel, by four threads.
__device__ void passing_states(GradientMemory& m) {
  const int n = static_cast<int>(threadIdx.x) / 4, quarter = static_cast<int>(threadIdx.x) % 4;
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kN; v += 8) {
    const auto before = load_as<unsigned>(m.states.before.at(n, v + 2 * quarter));
    const auto after = load_as<unsigned>(m.states.after.at(n, v + 2 * quarter));
    sum += low_half(before) * low_half(after) + high_half(before) * high_half(after);
  }
  sum += __shfl_xor_sync(kAllLanes, sum, 1);
  sum += __shfl_xor_sync(kAllLanes, sum, 2);
  if (quarter == 0) m.passing[n] = sum;
}

// What comes from before a sub-chunk and goes on behind it, decayed through it.
__device__ float passing_sub_chunk(const GradientMemory& m, const Column& c) {
  const float* const whole = m.operands.whole;
  float sum = decay_over(whole, 0, kSubs, c.n) * m.passing[c.n];
  for (int sub = 0; sub < c.sub; ++sub) sum += decay_over(whole, sub + 1, kSubs, c.n) * m.begin_here[sub * kN + c.n];
  for (int sub = c.sub + 1; sub < kSubs; ++sub)
    sum += decay_over(whole, c.sub + 1, sub, c.n) * m.end_here[pair(sub, c.sub) * kN + c.n];
  return sum;
}

// A thread's channel of its sub-chunk: to the gradients through states come those of pairs of its own steps, step by
// step forward in time, while the decays from all steps before it pile up.
__device__ void channel_gradients(const Wkv6BackwardArgs<BFloat16>& a, const Chunk& chunk, GradientMemory& m) {
  const Wkv6Args<BFloat16>& p = a.forward;
  const Column c;
  const float u = p.u ? wide(p.u[chunk.head * kN + c.n]) : 0.0f;
  const BFloat16 *const w = p.w + chunk.first, *const k_given = p.k + chunk.first;
  BFloat16 given[kSub];  // all asked of the memory before the first is needed
#pragma unroll
  for (int i = 0; i < kSub; ++i) given[i] = w[chunk.at(c.row(i) < chunk.steps ? c.row(i) : 0, c.n)];
  float k[kSub], decay[kSub], since[kSub], dk[kSub], dlw[kSub];
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    decay[i] = fast_exp(log_decay(wide(given[i])));
    if (c.row(i) >= chunk.steps) decay[i] = 1;
    k[i] = wide(m.operands.k.x[c.row(i) * kN + c.n]);
  }
  float to_come = 1;
#pragma unroll
  for (int i = kSub - 1; i >= 0; --i) {
    dk[i] = m.dk[c.row(i) * kFloatStride + c.n] * to_come;
    to_come *= decay[i];
  }
  float begun = passing_sub_chunk(m, c), so_far = 1, du = 0;
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    const int row = c.row(i);
    const float r = wide(m.operands.r.x[row * kN + c.n]);
    float* const kept = m.dr + row * kFloatStride + c.n;
    const float through_states = *kept * so_far;
    *kept = r * through_states;  // for the sum over steps behind
    dlw[i] = begun;
    begun += k[i] * dk[i];
    float own = 0, diagonal = 0;
#pragma unroll
    for (int four = 0; four <= i; four += 4) {
      const Four dscore(m.dscores.at(row, c.sub * kSub + four));
#pragma unroll
      for (int j = four; j < four + 4; ++j) {
        if (j == i) diagonal = dscore.x[j - four];
        if (j >= i) continue;
        const float product = dscore.x[j - four] * since[j];
        own += product * k[j];
        dk[j] += product * r;
        if (j + 1 < i) dlw[j + 1] += own * r;
        since[j] *= decay[i];
      }
    }
    since[i] = 1;
    const float bonus = diagonal * u;
    dk[i] += bonus * r;
    du += diagonal * r * k[i];
    if (row < chunk.steps)
      a.dr[chunk.first + chunk.at(row, c.n)] = narrow<BFloat16>(through_states + own + bonus * k[i]);
    so_far *= decay[i];
  }
  m.du[c.sub * kN + c.n] = du;
#pragma unroll
  for (int i = 0; i < kSub; ++i) given[i] = w[chunk.at(c.row(i) < chunk.steps ? c.row(i) : 0, c.n)];
  float ended = 0;
#pragma unroll
  for (int i = kSub - 1; i >= 0; --i) {
    dlw[i] += ended;
    ended += m.dr[c.row(i) * kFloatStride + c.n];
  }
  if (p.scale_keys) {
    BFloat16 key[kSub];
#pragma unroll
    for (int i = 0; i < kSub; ++i) key[i] = k_given[chunk.at(c.row(i) < chunk.steps ? c.row(i) : 0, c.n)];
#pragma unroll
    for (int i = 0; i < kSub; ++i) {
      dlw[i] -= dk[i] * wide(key[i]) * decay[i];
      dk[i] *= key_scale(log_decay(wide(given[i])), decay[i]);
    }
  }
  BFloat16 *const dk_out = a.dk + chunk.first, *const dw_out = a.dw + chunk.first;
#pragma unroll
  for (int i = 0; i < kSub; ++i) {
    const int at = chunk.at(c.row(i), c.n);
    const float dw = dlw[i] * log_decay(wide(given[i]));
    if (c.row(i) < chunk.steps) dk_out[at] = narrow<BFloat16>(dk[i]), dw_out[at] = narrow<BFloat16>(dw);
  }
}

__global__ __launch_bounds__(kThreads, 2) void gradient_kernel(Wkv6BackwardArgs<BFloat16> a, unsigned chunks,
                                                               const BFloat16* before, const BFloat16* after,
                                                               float* du) {
  GradientMemory& m = *dynamic_shared<GradientMemory>();
  const Wkv6Args<BFloat16>& p = a.forward;
  const Chunk chunk(p, blockIdx.x / chunks, blockIdx.x % chunks, chunks);
  copy_tile(m.rows.v, p.v + chunk.first, chunk.stride, chunk.steps);
  copy_tile(m.rows.dy, a.dy + chunk.first, chunk.stride, chunk.steps);
  prepare(
      p, chunk, m.operands, m.early, [](int, int, float) {},
      [&](int row, int n, float k) { *m.k_all.at(row, n) = narrow<BFloat16>(k); });
  wait_for_copies();
  __syncthreads();
  score_gradients(m);
  scores_below(m.operands, m.early, m.scores);
  scores_near(m.operands, m.early, p.u ? p.u + chunk.head * kN : nullptr, m.scores);
  __syncthreads();  // m.early gives way to the states
  copy_tile(m.states.before, before + chunk.state, kN, kSteps);
  copy_tile(m.states.after, after + chunk.state, kN, kSteps);
  wait_for_copies();
  __syncthreads();
  const Strip strip;
  value_gradients(m, strip, chunk, a.dv);
  passing_states(m);
  MmaSum dr[2], dk[2];
  gradients_of_r(m, strip, dr);
  gradients_of_k(m, strip, dk);
  __syncthreads();  // m.rows and m.states give way to the sums
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const auto store = [&](MmaSum& sum, float* to) {
      each_pair(sum, strip.row, strip.column + 16 * half, [&](int row, int n, float x, float y) {
        *reinterpret_cast<float2*>(to + row * kFloatStride + n) = make_float2(x, y);
      });
    };
    store(dr[half], m.dr);
    store(dk[half], m.dk);
  }
  __syncthreads();
  channel_gradients(a, chunk, m);
  __syncthreads();
  const int n = static_cast<int>(threadIdx.x);
  if (du && n < kN) du[int64_t{blockIdx.x} * kN + n] = m.du[n] + m.du[kN + n] + m.du[2 * kN + n] + m.du[3 * kN + n];
}

}  // namespace

void wkv6_chunked_backward(const Wkv6BackwardArgs<BFloat16>& a, CudaStream stream) {
  const Wkv6Args<BFloat16>& p = a.forward;
  check_chunked(p, {a.dy, a.dr, a.dk, a.dv, a.dw});
  const int64_t heads = p.B * p.H, chunks = (p.Tn + kSteps - 1) / kSteps;
  if (heads * chunks == 0) return;
  auto* const before = reinterpret_cast<BFloat16*>(p.scratch);
  BFloat16* const after = before + heads * chunks * kStateSize;
  float* const du = a.du_partial ? reinterpret_cast<float*>(after + heads * chunks * kStateSize) : nullptr;
  const StateScan reverse{.f = p, .q = a.dy, .first = a.dstate_last, .last = a.dstate_first, .kept = after};
  scan_states({.f = p, .q = p.v, .first = p.state, .last = nullptr, .kept = before}, &reverse, stream);
  launch(stream, static_cast<unsigned>(heads * chunks), kThreads, sizeof(GradientMemory), gradient_kernel, a,
         static_cast<unsigned>(chunks), before, after, du);
  if (du)
    each(stream, heads * kN, [du, sum = a.du_partial, chunks] __device__(int64_t i) {
      float all = 0;
      for (int64_t c = 0; c < chunks; ++c) all += du[(i / kN * chunks + c) * kN + i % kN];
      sum[i] = all;
    });
}

}  // namespace gf::cuda
