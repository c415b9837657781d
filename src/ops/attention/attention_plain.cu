// SPDX-License-Identifier: Apache-2.0
#include "ops/attention/attention_plain.cuh"

namespace gf::cuda {
namespace {

using namespace attention_detail;

template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads) forward_kernel(AttentionArgs<T> p) {
  using P = Plain<T, kColumns>;
  using Real = Inner<T>;
  Real* const q = dynamic_shared<Real>();
  Real* const tile = q + P::kBlockRows * P::kStride;  // of keys, then of values
  Real* const all_weights = tile + kTile * P::kStride;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int N = static_cast<int>(p.N);
  const Place place(First::last_queries, p.Tq, P::kBlockRows);
  const Head<Real> head(p, place.head);
  const int64_t block = place.block * P::kBlockRows, first = block + warp * P::kRows;
  const int64_t last = block + P::kBlockRows < p.Tq ? block + P::kBlockRows - 1 : p.Tq - 1;
  Real* const weights = all_weights + warp * P::kRows * kTile;
  load_rows<P>(p.q + head.q, head.C, N, block, p.Tq, P::kBlockRows, q);

  constexpr Real kNone = -std::numeric_limits<Real>::infinity();
  Real y[P::kRows][kColumns] = {}, max[P::kRows], sum[P::kRows];
#pragma unroll
  for (int r = 0; r < P::kRows; ++r) {
    max[r] = kNone, sum[r] = 0;
    if (!p.go_on || first + r >= p.Tq) continue;
    if (const Real lse = p.lse[head.lse + first + r]; lse > kNone) max[r] = lse, sum[r] = 1;
#pragma unroll
    for (int m = 0; m < kColumns; ++m)
      if (const int c = lane + m * kWarp; c < N) y[r][m] = wide(p.y[head.q + (first + r) * head.C + c]);
  }
  const int64_t end = head.seen(last);
  for (int64_t key = 0; key < end; key += kTile) {
    __syncthreads();  // the tile before is used up
    load_rows<P>(p.k + head.k, head.C, N, key, end, kTile, tile);
    __syncthreads();
    Real s[P::kRows];
    multiply_rows<P>(q + warp * P::kRows * P::kStride, tile, N, s);
    __syncthreads();
    load_rows<P>(p.v + head.k, head.C, N, key, end, kTile, tile);
#pragma unroll
    for (int r = 0; r < P::kRows; ++r) {
      const bool seen = key + lane < head.seen(first + r);
      s[r] = seen ? head.score(s[r], first + r, key + lane) : kNone;
      const Real here = warp_max(s[r]), top = here > max[r] ? here : max[r];
      s[r] = seen ? exp(s[r] - top) : Real(0);
      const Real factor = top > max[r] ? exp(max[r] - top) : Real(1);
      max[r] = top;
      sum[r] = sum[r] * factor + warp_sum(s[r]);
#pragma unroll
      for (int m = 0; m < kColumns; ++m) y[r][m] *= factor;
      weights[r * kTile + lane] = s[r];
    }
    __syncthreads();
    add_products<P>(weights, tile, y);
  }
#pragma unroll
  for (int r = 0; r < P::kRows; ++r) {
    const Real factor = sum[r] == 0 ? Real(0) : 1 / sum[r];  // 0: sees none of these keys
#pragma unroll
    for (int m = 0; m < kColumns; ++m) y[r][m] = sum[r] == 0 ? Real(0) : y[r][m] * factor;
    if (lane == 0 && first + r < p.Tq) p.lse[head.lse + first + r] = sum[r] == 0 ? kNone : max[r] + log(sum[r]);
  }
  store_rows<P>(y, head.C, N, first, p.Tq, p.y + head.q);
}

// dq of a block of queries, over the keys that they see.
template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads) queries_kernel(AttentionBackwardArgs<T> p) {
  using P = Plain<T, kColumns>;
  using Real = Inner<T>;
  Real* const q = dynamic_shared<Real>();
  Real* const dy = q + P::kBlockRows * P::kStride;
  Real* const tile = dy + P::kBlockRows * P::kStride;  // of values, then of keys
  Real* const all_weights = tile + kTile * P::kStride;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int N = static_cast<int>(p.N);
  const Place place(First::last_queries, p.Tq, P::kBlockRows);
  const Head<Real> head(p, place.head);
  const int64_t block = place.block * P::kBlockRows, first = block + warp * P::kRows;
  const int64_t last = block + P::kBlockRows < p.Tq ? block + P::kBlockRows - 1 : p.Tq - 1;
  Real* const weights = all_weights + warp * P::kRows * kTile;
  load_rows<P>(p.q + head.q, head.C, N, block, p.Tq, P::kBlockRows, q);
  load_rows<P>(p.dy + head.q, head.C, N, block, p.Tq, P::kBlockRows, dy);

  Real dq[P::kRows][kColumns] = {}, lse[P::kRows], delta[P::kRows];
#pragma unroll
  for (int r = 0; r < P::kRows; ++r) {
    const bool there = first + r < p.Tq;
    lse[r] = there ? p.lse[head.lse + first + r] : Real(0), delta[r] = there ? p.delta[head.lse + first + r] : Real(0);
  }
  const int64_t end = head.seen(last);
  for (int64_t key = 0; key < end; key += kTile) {
    Real s[P::kRows], ds[P::kRows];
    __syncthreads();
    load_rows<P>(p.v + head.k, head.C, N, key, end, kTile, tile);
    __syncthreads();
    multiply_rows<P>(dy + warp * P::kRows * P::kStride, tile, N, ds);
    __syncthreads();
    load_rows<P>(p.k + head.k, head.C, N, key, end, kTile, tile);
    __syncthreads();
    multiply_rows<P>(q + warp * P::kRows * P::kStride, tile, N, s);
#pragma unroll
    for (int r = 0; r < P::kRows; ++r) {
      const bool seen = key + lane < head.seen(first + r);
      const Real weight = exp(head.score(s[r], first + r, key + lane) - lse[r]);
      weights[r * kTile + lane] = seen ? weight * (ds[r] - delta[r]) * head.scale : Real(0);
    }
    __syncwarp();
    add_products<P>(weights, tile, dq);
  }
  store_rows<P>(dq, head.C, N, first, p.Tq, p.dq + head.q);
}

// dk and dv of a block of keys, over the queries that see them.
template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads) keys_kernel(AttentionBackwardArgs<T> p) {
  using P = Plain<T, kColumns>;
  using Real = Inner<T>;
  Real* const k = dynamic_shared<Real>();
  Real* const v = k + P::kBlockRows * P::kStride;
  Real* const tile = v + P::kBlockRows * P::kStride;  // of queries, then of dy, then of queries again
  Real* const all_weights = tile + kTile * P::kStride;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int N = static_cast<int>(p.N);
  const Place place(First::first_keys, p.Tk, P::kBlockRows);
  const Head<Real> head(p, place.head);
  const int64_t block = place.block * P::kBlockRows, first = block + warp * P::kRows;
  Real* const weights = all_weights + warp * P::kRows * kTile;
  load_rows<P>(p.k + head.k, head.C, N, block, p.Tk, P::kBlockRows, k);
  load_rows<P>(p.v + head.k, head.C, N, block, p.Tk, P::kBlockRows, v);

  Real dk[P::kRows][kColumns] = {}, dv[P::kRows][kColumns] = {};
  for (int64_t query = block > p.before ? block - p.before : 0; query < p.Tq; query += kTile) {
    Real s[P::kRows], ds[P::kRows];
    const int64_t i = query + lane, seen = i < p.Tq ? head.seen(i) : 0;
    const Real lse = i < p.Tq ? p.lse[head.lse + i] : Real(0), delta = i < p.Tq ? p.delta[head.lse + i] : Real(0);
    __syncthreads();
    load_rows<P>(p.q + head.q, head.C, N, query, p.Tq, kTile, tile);
    __syncthreads();
    multiply_rows<P>(k + warp * P::kRows * P::kStride, tile, N, s);
#pragma unroll
    for (int r = 0; r < P::kRows; ++r) {
      s[r] = first + r < seen ? exp(head.score(s[r], i, first + r) - lse) : Real(0);
      weights[r * kTile + lane] = s[r];
    }
    __syncthreads();
    load_rows<P>(p.dy + head.q, head.C, N, query, p.Tq, kTile, tile);
    __syncthreads();
    add_products<P>(weights, tile, dv);
    if (!p.dk) continue;
    multiply_rows<P>(v + warp * P::kRows * P::kStride, tile, N, ds);
    __syncthreads();
    load_rows<P>(p.q + head.q, head.C, N, query, p.Tq, kTile, tile);
#pragma unroll
    for (int r = 0; r < P::kRows; ++r)
      weights[r * kTile + lane] = first + r < seen ? s[r] * (ds[r] - delta) * head.scale : Real(0);
    __syncthreads();
    add_products<P>(weights, tile, dk);
  }
  if (p.dk) store_rows<P>(dk, head.C, N, first, p.Tk, p.dk + head.k);
  if (p.dv) store_rows<P>(dv, head.C, N, first, p.Tk, p.dv + head.k);
}

// kept: how many arrays of its own rows a block keeps beside the tile.
template <class P>
size_t shared_bytes(int kept) {
  return sizeof(typename P::Real) * ((kept * P::kBlockRows + kTile) * P::kStride + P::kBlockRows * kTile);
}

template <class P, class Args>
void start(const Args& p, int64_t rows, int kept, void (*kernel)(Args), CudaStream stream) {
  const int64_t blocks = p.B * p.H * ((rows + P::kBlockRows - 1) / P::kBlockRows);
  if (blocks > 0) launch(stream, static_cast<unsigned>(blocks), kThreads, shared_bytes<P>(kept), kernel, p);
}

}  // namespace

template <class T>
void plain_attention(const AttentionArgs<T>& p, CudaStream stream) {
  with_columns(p.N, [&]<int kColumns>(std::integral_constant<int, kColumns>) {
    start<Plain<T, kColumns>>(p, p.Tq, 1, forward_kernel<T, kColumns>, stream);
  });
}

template <class T>
void plain_attention_backward(const AttentionBackwardArgs<T>& p, CudaStream stream) {
  with_columns(p.N, [&]<int kColumns>(std::integral_constant<int, kColumns>) {
    using P = Plain<T, kColumns>;
    if (p.dq) start<P>(p, p.Tq, 2, queries_kernel<T, kColumns>, stream);
    if (p.dk || p.dv) start<P>(p, p.Tk, 2, keys_kernel<T, kColumns>, stream);
  });
}

template void plain_attention(const AttentionArgs<float>&, CudaStream);
template void plain_attention(const AttentionArgs<double>&, CudaStream);
template void plain_attention(const AttentionArgs<BFloat16>&, CudaStream);
template void plain_attention_backward(const AttentionBackwardArgs<float>&, CudaStream);
template void plain_attention_backward(const AttentionBackwardArgs<double>&, CudaStream);
template void plain_attention_backward(const AttentionBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
