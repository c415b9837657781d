// SPDX-License-Identifier: Apache-2.0
#include "ops/attention/attention_mma.cuh"

namespace gf::cuda {
namespace {

using namespace attention_detail;

// Scores in powers of two: a product times `scale`, plus `slope` for each position that the key comes before the query.
struct Scores {
  float scale, slope;
  explicit __device__ Scores(const Head<float>& head) : scale(head.scale * kLog2E), slope(head.slope * kLog2E) {}
  __device__ float operator()(float product, int distance) const {
    return product * scale + slope * static_cast<float>(distance);
  }
};

// A softmax over keys that come tile by tile, of this lane's two rows. The sums are of this lane's columns alone, until
// the end.
struct RunningSoftmax {
  float max[2] = {kNoScore, kNoScore}, sum[2] = {0, 0};

  // Scores become weights, in place; y, summed up with earlier weights, is brought to the new maximum.
  template <int kColumns, int kHead>
  __device__ void add(mma::C (&s)[kColumns], mma::C (&y)[kHead]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float top = max[r];
#pragma unroll
      for (int n = 0; n < kColumns; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) top = s[n].x[2 * r + e] > top ? s[n].x[2 * r + e] : top;  // a NaN shows in the sum
      for (int away = 1; away < 4; away *= 2) {
        const float other = __shfl_xor_sync(kAllLanes, top, away);
        top = other > top ? other : top;
      }
      const float base = top == kNoScore ? 0.0f : top, factor = fast_exp2(max[r] - base);
      float more = 0;
#pragma unroll
      for (int n = 0; n < kColumns; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = s[n].x[2 * r + e];
          x = fast_exp2(x - base);
          more += x;
        }
      max[r] = top, sum[r] = sum[r] * factor + more;
#pragma unroll
      for (int n = 0; n < kHead; ++n) y[n].x[2 * r] *= factor, y[n].x[2 * r + 1] *= factor;
    }
  }
  __device__ void finish() {
    for (int away = 1; away < 4; away *= 2)
      for (float& x : sum) x += __shfl_xor_sync(kAllLanes, x, away);
  }
};

template <int kHead>
__device__ void go_on(const AttentionArgs<BFloat16>& p, const Head<float>& head, int64_t first, RunningSoftmax& softmax,
                      mma::C (&y)[kHead / 8]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t row = first + first_row_of_lane() + 8 * r;
    if (row >= p.Tq) continue;
    if (const float lse = p.lse[head.lse + row]; lse > kNoScore)
      softmax.max[r] = lse * kLog2E, softmax.sum[r] = first_column_of_lane() == 0 ? 1 : 0;
#pragma unroll
    for (int n = 0; n < kHead / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (const int c = n * 8 + first_column_of_lane() + e; c < p.N)
          y[n].x[2 * r + e] = wide(p.y[head.q + row * head.C + c]);
  }
}

// Two stages of two tiles: of keys and values, or of queries and dy.
template <int kHead, int kTile>
struct Stages {
  static constexpr int kSize = kTile * kRowStride<kHead>;
  BFloat16* memory;
  __device__ BFloat16* first(int64_t tile) const { return memory + tile % 2 * 2 * kSize; }
  __device__ BFloat16* second(int64_t tile) const { return first(tile) + kSize; }
};

template <int kHead>
__global__ void __launch_bounds__(kMmaThreads) forward_kernel(AttentionArgs<BFloat16> p, bool packs) {
  constexpr int kTile = 64, kStride = kRowStride<kHead>;
  const int N = static_cast<int>(p.N), warp = static_cast<int>(threadIdx.x) / kWarp;
  const Place place(First::last_queries, p.Tq, kBlockRows);
  const Head<float> head(p, place.head);
  const Scores score(head);
  const int64_t block = place.block * kBlockRows, first = block + warp * kWarpRows;
  const int64_t last = block + kBlockRows < p.Tq ? block + kBlockRows - 1 : p.Tq - 1;
  const int64_t end = head.seen(last), tiles = (end + kTile - 1) / kTile;
  BFloat16* const queries = dynamic_shared<BFloat16>();
  const Stages<kHead, kTile> stages{queries + kBlockRows * kStride};
  const auto load_keys = [&](int64_t tile) {
    load_tile<kHead, kTile>(p.k + head.k, head.C, N, tile * kTile, end, packs, stages.first(tile));
    load_tile<kHead, kTile>(p.v + head.k, head.C, N, tile * kTile, end, packs, stages.second(tile));
  };
  load_tile<kHead, kBlockRows>(p.q + head.q, head.C, N, block, p.Tq, packs, queries);
  if (tiles > 0) load_keys(0);
  end_copies();

  mma::C y[kHead / 8] = {};
  RunningSoftmax softmax;
  if (p.go_on) go_on<kHead>(p, head, first, softmax, y);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load_keys(tile + 1);
    end_copies();
    wait_for_copies<1>();
    __syncthreads();
    mma::C s[kTile / 8];
    multiply_transposed<kHead, kTile>(queries + warp * kWarpRows * kStride, stages.first(tile), s);
    const int64_t key = tile * kTile;
    const bool all_seen = key + kTile <= head.seen(first);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int64_t query = first + first_row_of_lane() + 8 * r, left = head.seen(query) - key;
      const int distance = static_cast<int>(key - head.before - query);
      const int seen = all_seen ? kTile : left < 0 ? 0 : left < kTile ? static_cast<int>(left) : kTile;
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = n * 8 + first_column_of_lane() + e;
          float& x = s[n].x[2 * r + e];
          x = column < seen ? score(x, distance + column) : kNoScore;
        }
    }
    softmax.add(s, y);
    multiply_add<kHead, kTile>(s, stages.second(tile), y);
    __syncthreads();  // the tile is used up
  }
  softmax.finish();
  float factor[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const bool none = softmax.sum[r] == 0;  // sees none of these keys: y is 0
    factor[r] = none ? 0.0f : 1 / softmax.sum[r];
    const int64_t row = first + first_row_of_lane() + 8 * r;
    if (first_column_of_lane() == 0 && row < p.Tq)
      p.lse[head.lse + row] = none ? kNoScore : softmax.max[r] * kLn2 + log(softmax.sum[r]);
  }
  store_rows<kHead>(y, factor, head.C, N, first, p.Tq, packs, p.y + head.q);
}

// As many as registers hold, of which a block may have a half or a third of a processor's.
template <int kHead>
inline constexpr int kKeyTile = kHead > 64 ? 32 : 64;
template <int kHead>
inline constexpr int kQueryTile = kHead > 32 ? 32 : 64;
template <int kHead>
inline constexpr int kBackwardBlocks = kHead > 64 ? 2 : 3;

// dq of a block of queries, over the keys that they see.
template <int kHead>
__global__ void __launch_bounds__(kMmaThreads, kBackwardBlocks<kHead>)
    queries_kernel(AttentionBackwardArgs<BFloat16> p, bool packs) {
  constexpr int kTile = kKeyTile<kHead>, kStride = kRowStride<kHead>;
  const int N = static_cast<int>(p.N), warp = static_cast<int>(threadIdx.x) / kWarp;
  const Place place(First::last_queries, p.Tq, kBlockRows);
  const Head<float> head(p, place.head);
  const Scores score(head);
  const int64_t block = place.block * kBlockRows, first = block + warp * kWarpRows;
  const int64_t last = block + kBlockRows < p.Tq ? block + kBlockRows - 1 : p.Tq - 1;
  const int64_t end = head.seen(last), tiles = (end + kTile - 1) / kTile;
  BFloat16* const queries = dynamic_shared<BFloat16>();
  BFloat16* const dys = queries + kBlockRows * kStride;
  const Stages<kHead, kTile> stages{dys + kBlockRows * kStride};
  const auto load_keys = [&](int64_t tile) {
    load_tile<kHead, kTile>(p.k + head.k, head.C, N, tile * kTile, end, packs, stages.first(tile));
    load_tile<kHead, kTile>(p.v + head.k, head.C, N, tile * kTile, end, packs, stages.second(tile));
  };
  load_tile<kHead, kBlockRows>(p.q + head.q, head.C, N, block, p.Tq, packs, queries);
  load_tile<kHead, kBlockRows>(p.dy + head.q, head.C, N, block, p.Tq, packs, dys);
  if (tiles > 0) load_keys(0);
  end_copies();

  float lse[2], delta[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int64_t query = first + first_row_of_lane() + 8 * r;
    lse[r] = query < p.Tq ? p.lse[head.lse + query] * kLog2E : 0;
    delta[r] = query < p.Tq ? p.delta[head.lse + query] : 0;
  }
  mma::C dq[kHead / 8] = {};
  for (int64_t tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load_keys(tile + 1);
    end_copies();
    wait_for_copies<1>();
    __syncthreads();
    mma::C s[kTile / 8], ds[kTile / 8];
    multiply_transposed<kHead, kTile>(queries + warp * kWarpRows * kStride, stages.first(tile), s);
    multiply_transposed<kHead, kTile>(dys + warp * kWarpRows * kStride, stages.second(tile), ds);
    const int64_t key = tile * kTile;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int64_t query = first + first_row_of_lane() + 8 * r, left = head.seen(query) - key;
      const int distance = static_cast<int>(key - head.before - query);
      const int seen = left < 0 ? 0 : left < kTile ? static_cast<int>(left) : kTile;
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = n * 8 + first_column_of_lane() + e;
          const float weight = fast_exp2(score(s[n].x[2 * r + e], distance + column) - lse[r]);
          float& x = ds[n].x[2 * r + e];
          x = column < seen ? weight * (x - delta[r]) : 0.0f;
        }
    }
    multiply_add<kHead, kTile>(ds, stages.first(tile), dq);
    __syncthreads();
  }
  const float factor[2] = {head.scale, head.scale};
  store_rows<kHead>(dq, factor, head.C, N, first, p.Tq, packs, p.dq + head.q);
}

// dk and dv of a block of keys, over the queries that see them: the same scores, transposed.
template <int kHead>
__global__ void __launch_bounds__(kMmaThreads, kBackwardBlocks<kHead>)
    keys_kernel(AttentionBackwardArgs<BFloat16> p, bool packs) {
  constexpr int kTile = kQueryTile<kHead>, kStride = kRowStride<kHead>;
  const int N = static_cast<int>(p.N), warp = static_cast<int>(threadIdx.x) / kWarp;
  const Place place(First::first_keys, p.Tk, kBlockRows);
  const Head<float> head(p, place.head);
  const Scores score(head);
  const int64_t block = place.block * kBlockRows, first = block + warp * kWarpRows;
  const int64_t begin = block > p.before ? block - p.before : 0;  // the first query that sees one of these keys
  const int64_t tiles = begin < p.Tq ? (p.Tq - begin + kTile - 1) / kTile : 0;
  BFloat16* const keys = dynamic_shared<BFloat16>();
  BFloat16* const values = keys + kBlockRows * kStride;
  const Stages<kHead, kTile> stages{values + kBlockRows * kStride};
  float* const statistics = reinterpret_cast<float*>(stages.memory + 4 * stages.kSize);  // of two stages
  const auto lse_of = [&](int64_t tile) { return statistics + tile % 2 * 2 * kTile; };
  const auto load_queries = [&](int64_t tile) {
    const int64_t query = begin + tile * kTile;
    load_tile<kHead, kTile>(p.q + head.q, head.C, N, query, p.Tq, packs, stages.first(tile));
    load_tile<kHead, kTile>(p.dy + head.q, head.C, N, query, p.Tq, packs, stages.second(tile));
    if (const int i = static_cast<int>(threadIdx.x); i < kTile) {
      const bool there = query + i < p.Tq;
      lse_of(tile)[i] = there ? p.lse[head.lse + query + i] * kLog2E : 0.0f;
      lse_of(tile)[kTile + i] = there ? p.delta[head.lse + query + i] : 0.0f;
    }
  };
  load_tile<kHead, kBlockRows>(p.k + head.k, head.C, N, block, p.Tk, packs, keys);
  load_tile<kHead, kBlockRows>(p.v + head.k, head.C, N, block, p.Tk, packs, values);
  if (tiles > 0) load_queries(0);
  end_copies();

  mma::C dk[kHead / 8] = {}, dv[kHead / 8] = {};
  for (int64_t tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load_queries(tile + 1);
    end_copies();
    wait_for_copies<1>();
    __syncthreads();
    const float *const lse = lse_of(tile), *const delta = lse + kTile;
    mma::C s[kTile / 8];
    multiply_transposed<kHead, kTile>(keys + warp * kWarpRows * kStride, stages.first(tile), s);
    const int64_t query = begin + tile * kTile;
    // Of each row's key from the tile's first query; seen from those that are as far or farther. Queries that are not
    // there are zero.
    const int distance = static_cast<int>(first + first_row_of_lane() - head.before - query);
    const auto seen = [&](int i, int column) { return distance + i / 2 * 8 <= column; };
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = n * 8 + first_column_of_lane() + i % 2;
        const float weight = fast_exp2(score(s[n].x[i], distance + i / 2 * 8 - column) - lse[column]);
        s[n].x[i] = seen(i, column) ? weight : 0.0f;
      }
    if (p.dv) multiply_add<kHead, kTile>(s, stages.second(tile), dv);
    if (p.dk) {
      mma::C ds[kTile / 8];
      multiply_transposed<kHead, kTile>(values + warp * kWarpRows * kStride, stages.second(tile), ds);
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = n * 8 + first_column_of_lane() + i % 2;
          s[n].x[i] = seen(i, column) ? s[n].x[i] * (ds[n].x[i] - delta[column]) : 0.0f;
        }
      multiply_add<kHead, kTile>(s, stages.first(tile), dk);
    }
    __syncthreads();
  }
  const float whole[2] = {1, 1}, scaled[2] = {head.scale, head.scale};
  if (p.dk) store_rows<kHead>(dk, scaled, head.C, N, first, p.Tk, packs, p.dk + head.k);
  if (p.dv) store_rows<kHead>(dv, whole, head.C, N, first, p.Tk, packs, p.dv + head.k);
}

unsigned blocks_of_heads(int64_t heads, int64_t rows) {
  return static_cast<unsigned>(heads * ((rows + kBlockRows - 1) / kBlockRows));
}

// Of a block that keeps so many arrays of its own rows, and two stages of two tiles.
template <int kHead>
size_t shared_bytes(int kept, int tile) {
  return sizeof(BFloat16) * kRowStride<kHead> * static_cast<size_t>(kept * kBlockRows + 4 * tile);
}

bool all_packs(int64_t N, std::initializer_list<const void*> pointers) {
  return N % 8 == 0 && std::all_of(pointers.begin(), pointers.end(), [](const void* p) { return is_aligned(p, 16); });
}

}  // namespace

void tensor_core_attention(const AttentionArgs<BFloat16>& p, CudaStream stream) {
  if (p.B * p.H * p.Tq == 0) return;
  const bool packs = all_packs(p.N, {p.q, p.k, p.v, p.y});
  with_head(p.N, [&]<int kHead>(std::integral_constant<int, kHead>) {
    launch(stream, blocks_of_heads(p.B * p.H, p.Tq), kMmaThreads, shared_bytes<kHead>(1, 64), forward_kernel<kHead>, p,
           packs);
  });
}

void tensor_core_attention_backward(const AttentionBackwardArgs<BFloat16>& p, CudaStream stream) {
  const bool packs = all_packs(p.N, {p.q, p.k, p.v, p.dy, p.dq, p.dk, p.dv});
  with_head(p.N, [&]<int kHead>(std::integral_constant<int, kHead>) {
    if (p.dq && p.B * p.H * p.Tq > 0)
      launch(stream, blocks_of_heads(p.B * p.H, p.Tq), kMmaThreads, shared_bytes<kHead>(2, kKeyTile<kHead>),
             queries_kernel<kHead>, p, packs);
    constexpr size_t kStatistics = 4 * kQueryTile<kHead> * sizeof(float);
    if ((p.dk || p.dv) && p.B * p.H * p.Tk > 0)
      launch(stream, blocks_of_heads(p.B * p.H, p.Tk), kMmaThreads,
             shared_bytes<kHead>(2, kQueryTile<kHead>) + kStatistics, keys_kernel<kHead>, p, packs);
  });
}

}  // namespace gf::cuda
