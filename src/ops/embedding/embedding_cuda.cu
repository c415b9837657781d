// SPDX-License-Identifier: Apache-2.0
// Limited by bytes: forward reads and writes M rows; backward reads M rows and adds to those of the tokens that occur.
// For that it sorts the positions by token, a digit of eight bits at a time from the lowest, each pass keeping the
// order of the one before among equals: so equal tokens come together, their positions in order, and what is added to
// what is the same in every run.
#include <bit>
#include <limits>

#include "ops/cuda/rows.cuh"
#include "ops/embedding/kernels.h"

namespace gf::cuda {
namespace {

constexpr int kMostRow = 256, kBlock = 128;  // threads of a block: with a row, with a run of positions
constexpr unsigned kDigits = kEmbeddingDigits;

// A token outside the table, which on a CPU ends the run, gives a row that is no number, and no gradient.
template <class T, int kCount>
__global__ void __launch_bounds__(kMostRow) forward_kernel(EmbeddingArgs<T> p) {
  const int64_t token = p.tokens[blockIdx.x];
  const bool is_there = token >= 0 && token < p.V;
  Pack<T, kCount> row;
#pragma unroll
  for (int i = 0; i < kCount; ++i) row.x[i] = narrow<T>(std::numeric_limits<Inner<T>>::quiet_NaN());
  for (int64_t c = int64_t{threadIdx.x} * kCount; c < p.C; c += int64_t{blockDim.x} * kCount) {
    if (is_there) row = load<kCount>(p.table + token * p.C + c);
    store(p.y + blockIdx.x * p.C + c, row);
  }
}

struct Keys {
  const int32_t* tokens;
  int64_t V;
  __device__ bool is_there(int32_t position) const { return tokens[position] >= 0 && tokens[position] < V; }
  // What is sorted by: the token, and 0 for those outside the table.
  __device__ int32_t of(int32_t position) const { return is_there(position) ? tokens[position] : 0; }
};

// A pass of the sort over positions in the order `from` (null: as they are), by the digit above `shift` bits. The
// positions are shared among units, a warp each: counts is (digit, unit).
struct Pass {
  Keys keys;
  Blocks units;
  int shift;
  const int32_t* from;
  int32_t *to, *counts, *totals;  // totals: of each digit
  __device__ int32_t position(int64_t i) const { return from ? from[i] : static_cast<int32_t>(i); }
  __device__ unsigned digit(int32_t position) const {
    return static_cast<unsigned>(keys.of(position)) >> shift & (kDigits - 1);
  }
};

__global__ void __launch_bounds__(kWarp) count_kernel(Pass p) {
  __shared__ int32_t count[kDigits];
  for (unsigned d = threadIdx.x; d < kDigits; d += kWarp) count[d] = 0;
  __syncwarp();
  for (int64_t i = p.units.begin(blockIdx.x) + threadIdx.x; i < p.units.end(blockIdx.x); i += kWarp)
    atomicAdd(&count[p.digit(p.position(i))], 1);
  __syncwarp();
  for (unsigned d = threadIdx.x; d < kDigits; d += kWarp) p.counts[d * p.units.size() + blockIdx.x] = count[d];
}

// The sum of x over the lanes below.
__device__ int32_t sum_below(int32_t x) {
  int32_t sum = x;
  for (unsigned away = 1; away < kWarp; away *= 2) {
    const int32_t other = __shfl_up_sync(kAllLanes, sum, away);
    if (threadIdx.x >= away) sum += other;
  }
  return sum - x;
}

// A digit's counts become what the units before have of it; a warp a digit.
__global__ void __launch_bounds__(kWarp) scan_kernel(Pass p) {
  const int64_t units = p.units.size();
  int32_t* const counts = p.counts + blockIdx.x * units;
  int32_t before = 0;
  for (int64_t first = 0; first < units; first += kWarp) {
    const int64_t unit = first + threadIdx.x;
    const int32_t count = unit < units ? counts[unit] : 0, below = sum_below(count);
    if (unit < units) counts[unit] = before + below;
    before += __shfl_sync(kAllLanes, below + count, kWarp - 1);
  }
  if (threadIdx.x == 0) p.totals[blockIdx.x] = before;
}

// Each position to its place: behind all of lower digits, those of its digit in units before, and in lanes below.
__global__ void __launch_bounds__(kWarp) place_kernel(Pass p) {
  constexpr unsigned kOfLane = kDigits / kWarp;
  __shared__ int32_t next[kDigits];
  const unsigned lane = threadIdx.x, first_digit = lane * kOfLane;
  int32_t total = 0;
  for (unsigned d = first_digit; d < first_digit + kOfLane; ++d) total += p.totals[d];
  int32_t lower = sum_below(total);
  for (unsigned d = first_digit; d < first_digit + kOfLane; ++d) {
    next[d] = lower + p.counts[d * p.units.size() + blockIdx.x];
    lower += p.totals[d];
  }
  __syncwarp();
  const int64_t end = p.units.end(blockIdx.x);
  for (int64_t first = p.units.begin(blockIdx.x); first < end; first += kWarp) {
    const bool mine = first + lane < end;
    const int32_t position = mine ? p.position(first + lane) : 0;
    const unsigned digit = mine ? p.digit(position) : 0;
    unsigned equal = __ballot_sync(kAllLanes, mine);
    for (unsigned bit = 1; bit < kDigits; bit *= 2) {
      const unsigned set = __ballot_sync(kAllLanes, (digit & bit) != 0);
      equal &= digit & bit ? set : ~set;
    }
    const int rank = __popc(equal & ((1u << lane) - 1));
    if (mine) p.to[next[digit] + rank] = position;
    __syncwarp();
    if (mine && rank == 0) next[digit] += __popc(equal);
    __syncwarp();
  }
}

// A run of sorted positions. Tokens that go on from the run before are its head, added up by itself; the run in which a
// token begins adds the heads that follow to what it has of it. So a frequent token, the space of a text, is shared
// out.
template <class T>
struct Adding {
  EmbeddingBackwardArgs<T> p;
  Keys keys;
  const int32_t* order;
  Blocks runs;
  __device__ int32_t key(int64_t i) const { return keys.of(order[i]); }
};

// What the threads of a block know of the run: positions are -1 where the token has no row.
struct Run {
  int32_t position[kEmbeddingRun], key[kEmbeddingRun];
  int32_t key_before;  // -1: none

  template <class T>
  __device__ int read(const Adding<T>& a) {
    const int64_t begin = a.runs.begin(blockIdx.x), i = begin + threadIdx.x;
    if (i < a.runs.end(blockIdx.x)) {
      const int32_t at = a.order[i];
      position[threadIdx.x] = a.keys.is_there(at) ? at : -1;
      key[threadIdx.x] = a.keys.of(at);
    }
    if (threadIdx.x == 0) key_before = begin > 0 ? a.key(begin - 1) : -1;
    __syncthreads();
    return static_cast<int>(a.runs.end(blockIdx.x) - begin);
  }
  // The end of the positions with the key, from `first` on.
  __device__ int end_of(int32_t of, int first, int count) const {
    while (first < count && key[first] == of) ++first;
    return first;
  }
  template <int kCount, class T>
  __device__ void add_rows(const Adding<T>& a, int first, int end, int64_t c, Inner<T> (&sum)[kCount]) const {
#pragma unroll 4
    for (int i = first; i < end; ++i) {
      if (position[i] < 0) continue;
      const auto row = load<kCount>(a.p.dy + position[i] * a.p.C + c);
#pragma unroll
      for (int j = 0; j < kCount; ++j) sum[j] += wide(row.x[j]);
    }
  }
};

template <class T, int kCount>
__global__ void __launch_bounds__(kBlock) heads_kernel(Adding<T> a) {
  __shared__ Run run;
  const int count = run.read(a);
  const int64_t c = (int64_t{blockIdx.y} * kBlock + threadIdx.x) * kCount;
  if (c >= a.p.C || run.key[0] != run.key_before) return;
  Inner<T> sum[kCount] = {};
  run.add_rows(a, 0, run.end_of(run.key_before, 0, count), c, sum);
#pragma unroll
  for (int j = 0; j < kCount; ++j) a.p.heads[blockIdx.x * a.p.C + c + j] = sum[j];
}

template <class T, int kCount>
__global__ void __launch_bounds__(kBlock) rows_kernel(Adding<T> a) {
  __shared__ Run run;
  const int count = run.read(a);
  const int64_t C = a.p.C, c = (int64_t{blockIdx.y} * kBlock + threadIdx.x) * kCount;
  if (c >= C) return;
  for (int first = run.end_of(run.key_before, 0, count), end = 0; first < count; first = end) {
    const int32_t key = run.key[first];
    end = run.end_of(key, first, count);
    Inner<T> sum[kCount] = {};
    run.add_rows(a, first, end, c, sum);
    for (int64_t r = blockIdx.x + 1; end == count && r < a.runs.size() && a.key(a.runs.begin(r)) == key; ++r)
#pragma unroll
      for (int j = 0; j < kCount; ++j) sum[j] += a.p.heads[r * C + c + j];
#pragma unroll
    for (int j = 0; j < kCount; ++j) a.p.dtable[key * C + c + j] += sum[j];
  }
}

// Where the sorted positions are then.
template <class T>
const int32_t* sort(const EmbeddingBackwardArgs<T>& p, CudaStream stream) {
  const Blocks units = embedding_units(p.M);
  int32_t *const orders[2] = {p.order, p.order + p.M}, *const counts = p.order + 2 * p.M;
  Pass pass{{p.tokens, p.V}, units, 0, nullptr, orders[0], counts, counts + kDigits * units.size()};
  const auto all = static_cast<unsigned>(units.size());
  const int bits = std::bit_width(static_cast<uint64_t>(p.V - 1));
  for (int i = 0; i == 0 || pass.shift < bits; ++i) {
    pass.to = orders[i % 2];
    launch(stream, all, kWarp, 0, count_kernel, pass);
    launch(stream, kDigits, kWarp, 0, scan_kernel, pass);
    launch(stream, all, kWarp, 0, place_kernel, pass);
    pass.from = pass.to, pass.shift += 8;
  }
  return pass.from;
}

}  // namespace

template <class T>
void embedding(const EmbeddingArgs<T>& p, CudaStream stream) {
  GF_CHECK(!p.narrow_table, "a table narrower than its rows on a GPU");
  if (p.M == 0) return;
  with_pack<16, T>(p.C, 1, {p.table, p.y}, [&](auto count) {
    launch(stream, static_cast<unsigned>(p.M), std::min<unsigned>(kMostRow, whole_warps(p.C / count)), 0,
           forward_kernel<T, count>, p);
  });
}

template <class T>
void embedding_backward(const EmbeddingBackwardArgs<T>& p, CudaStream stream) {
  if (p.M == 0) return;
  const Adding<T> adding{p, {p.tokens, p.V}, sort(p, stream), embedding_runs(p.M)};
  with_pack<8, T>(p.C, 1, {p.dy}, [&](auto count) {
    const dim3 grid(static_cast<unsigned>(adding.runs.size()), blocks_of(p.C / count, kBlock));
    launch(stream, grid, kBlock, 0, heads_kernel<T, count>, adding);
    launch(stream, grid, kBlock, 0, rows_kernel<T, count>, adding);
  });
}

template void embedding(const EmbeddingArgs<float>&, CudaStream);
template void embedding(const EmbeddingArgs<double>&, CudaStream);
template void embedding(const EmbeddingArgs<BFloat16>&, CudaStream);
template void embedding_backward(const EmbeddingBackwardArgs<float>&, CudaStream);
template void embedding_backward(const EmbeddingBackwardArgs<double>&, CudaStream);
template void embedding_backward(const EmbeddingBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
