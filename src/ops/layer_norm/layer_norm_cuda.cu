// SPDX-License-Identifier: Apache-2.0
// All limited by bytes: forward reads x (and dx) and writes y (and the sum) once, backward reads x, dy (and dsum) and
// writes dx once. A block has a row, or in the backward pass a run of rows, and a thread keeps what it needs of it in
// registers.
#include "ops/cuda/row_sums.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/layer_norm/kernels.h"

namespace gf::cuda {
namespace {

// Of the widest block: with 16 bytes a thread enough for rows of 8192 bf16 forward and 4096 backward.
constexpr int kMostForward = 1024, kMostBackward = 512;

// A row a block, kCount numbers a thread.
template <class T, int kCount>
__global__ void __launch_bounds__(kMostForward) forward_kernel(LayerNormArgs<T> p) {
  using I = Inner<T>;
  __shared__ RowSums<I, 1> sums;
  const int64_t row = blockIdx.x, c = int64_t{threadIdx.x} * kCount, at = row * p.C + c;
  const bool mine = c < p.C;
  Pack<T, kCount> in{};
  I total = 0;
  if (mine) {
    in = load<kCount>(p.x + at);
    if (p.dx) {
      const auto dx = load<kCount>(p.dx + at);
#pragma unroll
      for (int i = 0; i < kCount; ++i) in.x[i] = narrow<T>(wide(in.x[i]) + wide(dx.x[i]));
      store(p.sum + at, in);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) total += wide(in.x[i]);
  }
  const I mean = sums.add_up(total, 0) / static_cast<I>(p.C);
  I squares = 0;
#pragma unroll
  for (int i = 0; mine && i < kCount; ++i) squares += (wide(in.x[i]) - mean) * (wide(in.x[i]) - mean);
  const I rstd = 1 / sqrt(sums.add_up(squares, 1) / static_cast<I>(p.C) + p.eps);
  if (mine) {
    const auto w = load<kCount>(p.w + c), b = load<kCount>(p.b + c);
#pragma unroll
    for (int i = 0; i < kCount; ++i) in.x[i] = narrow<T>((wide(in.x[i]) - mean) * rstd * wide(w.x[i]) + wide(b.x[i]));
    store(p.y + at, in);
  }
  if (threadIdx.x == 0) p.mean[row] = mean, p.rstd[row] = rstd;
}

// Rows that are too long for that: the same, from memory each time.
template <class T>
__global__ void __launch_bounds__(kMostForward) forward_long_kernel(LayerNormArgs<T> p) {
  using I = Inner<T>;
  __shared__ RowSums<I, 1> sums;
  const int64_t row = blockIdx.x;
  const T *const dx = p.dx ? p.dx + row * p.C : nullptr, *x = p.x + row * p.C;
  I total = 0;
  for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x) {
    if (dx) p.sum[row * p.C + c] = narrow<T>(wide(x[c]) + wide(dx[c]));
    total += dx ? wide(p.sum[row * p.C + c]) : wide(x[c]);
  }
  if (dx) x = p.sum + row * p.C;
  const I mean = sums.add_up(total, 0) / static_cast<I>(p.C);
  I squares = 0;
  for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x) squares += (wide(x[c]) - mean) * (wide(x[c]) - mean);
  const I rstd = 1 / sqrt(sums.add_up(squares, 1) / static_cast<I>(p.C) + p.eps);
  for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x)
    p.y[row * p.C + c] = narrow<T>((wide(x[c]) - mean) * rstd * wide(p.w[c]) + wide(p.b[c]));
  if (threadIdx.x == 0) p.mean[row] = mean, p.rstd[row] = rstd;
}

// What a thread reads of a row.
template <class T, int kCount>
struct BackwardRow {
  Pack<T, kCount> x, dy, dsum;
  Inner<T> mean, rstd;

  __device__ BackwardRow(const LayerNormBackwardArgs<T>& p, int64_t row, int64_t c) : x{}, dy{}, dsum{} {
    mean = p.mean[row], rstd = p.rstd[row];
    if (c >= p.C) return;
    const int64_t at = row * p.C + c;
    x = load<kCount>(p.x + at), dy = load<kCount>(p.dy + at);
    if (p.dsum) dsum = load<kCount>(p.dsum + at);
  }
};

// A run of rows a block. The next row is under way while this one's sums are taken.
// With n = (x - mean) rstd and g = dy w:  dx = rstd (g - mean(g) - n mean(g n)).
template <class T, int kCount>
__global__ void __launch_bounds__(kMostBackward) backward_kernel(LayerNormBackwardArgs<T> p, Blocks blocks) {
  using I = Inner<T>;
  __shared__ RowSums<I, 2> sums;
  const int64_t begin = blocks.begin(blockIdx.x), end = blocks.end(blockIdx.x), c = int64_t{threadIdx.x} * kCount;
  const bool mine = c < p.C;
  Pack<T, kCount> w{};
  if (mine) w = load<kCount>(p.w + c);
  I dw[kCount] = {}, db[kCount] = {};
  BackwardRow<T, kCount> next(p, begin, c);
  for (int64_t row = begin; row < end; ++row) {
    const BackwardRow<T, kCount> now = next;
    if (row + 1 < end) next = BackwardRow<T, kCount>(p, row + 1, c);
    I sum[2] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const I dy = wide(now.dy.x[i]), n = (wide(now.x.x[i]) - now.mean) * now.rstd, g = dy * wide(w.x[i]);
      sum[0] += mine ? g : 0;
      sum[1] += mine ? g * n : 0;
      dw[i] += dy * n;
      db[i] += dy;
    }
    sums.add_up(sum, row & 1);
    const I mean_g = sum[0] / static_cast<I>(p.C), mean_gn = sum[1] / static_cast<I>(p.C);
    if (!mine) continue;
    Pack<T, kCount> dx;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const I n = (wide(now.x.x[i]) - now.mean) * now.rstd;
      dx.x[i] = narrow<T>(wide(now.dsum.x[i]) + now.rstd * (wide(now.dy.x[i]) * wide(w.x[i]) - mean_g - n * mean_gn));
    }
    store(p.dx + row * p.C + c, dx);
  }
#pragma unroll
  for (int i = 0; mine && i < kCount; ++i) {
    p.partial[blockIdx.x * 2 * p.C + c + i] = dw[i];
    p.partial[(blockIdx.x * 2 + 1) * p.C + c + i] = db[i];
  }
}

// Rows that are too long for that: the sums of the run in memory, each column with one thread.
template <class T>
__global__ void __launch_bounds__(kMostBackward) backward_long_kernel(LayerNormBackwardArgs<T> p, Blocks blocks) {
  using I = Inner<T>;
  __shared__ RowSums<I, 2> sums;
  I *const dw = p.partial + blockIdx.x * 2 * p.C, *const db = dw + p.C;
  for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x) dw[c] = db[c] = 0;
  for (int64_t row = blocks.begin(blockIdx.x); row < blocks.end(blockIdx.x); ++row) {
    const T *const x = p.x + row * p.C, *const dy = p.dy + row * p.C;
    const I mean = p.mean[row], rstd = p.rstd[row];
    I sum[2] = {};
    for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x) {
      const I d = wide(dy[c]), n = (wide(x[c]) - mean) * rstd, g = d * wide(p.w[c]);
      sum[0] += g;
      sum[1] += g * n;
      dw[c] += d * n;
      db[c] += d;
    }
    sums.add_up(sum, row & 1);
    const I mean_g = sum[0] / static_cast<I>(p.C), mean_gn = sum[1] / static_cast<I>(p.C);
    for (int64_t c = threadIdx.x; c < p.C; c += blockDim.x) {
      const I dsum = p.dsum ? wide(p.dsum[row * p.C + c]) : 0;
      const I n = (wide(x[c]) - mean) * rstd;
      p.dx[row * p.C + c] = narrow<T>(dsum + rstd * (wide(dy[c]) * wide(p.w[c]) - mean_g - n * mean_gn));
    }
  }
}

}  // namespace

template <class T>
void layer_norm(const LayerNormArgs<T>& p, CudaStream stream) {
  if (p.M == 0) return;
  const auto rows = static_cast<unsigned>(p.M);
  with_pack<16, T>(p.C, 64, {p.x, p.dx, p.w, p.b, p.sum, p.y}, [&](auto count) {
    if (p.C <= kMostForward * count)
      launch(stream, rows, whole_warps(p.C / count), 0, forward_kernel<T, count>, p);
    else
      launch(stream, rows, kMostForward, 0, forward_long_kernel<T>, p);
  });
}

template <class T>
void layer_norm_backward(const LayerNormBackwardArgs<T>& p, CudaStream stream) {
  const Blocks blocks = gpu_row_blocks(p.M, p.C);
  if (p.M == 0) return;
  const auto runs = static_cast<unsigned>(blocks.size());
  with_pack<16, T>(p.C, 192, {p.x, p.w, p.dy, p.dsum, p.dx}, [&](auto count) {
    if (p.C <= kMostBackward * count)
      launch(stream, runs, whole_warps(p.C / count), 0, backward_kernel<T, count>, p, blocks);
    else
      launch(stream, runs, kMostBackward, 0, backward_long_kernel<T>, p, blocks);
  });
  add_partial_rows(stream, p.partial, blocks.size(), 2 * p.C, p.C, Sums<Inner<T>>{{p.dw, p.db}}, 2);
}

template void layer_norm(const LayerNormArgs<float>&, CudaStream);
template void layer_norm(const LayerNormArgs<double>&, CudaStream);
template void layer_norm(const LayerNormArgs<BFloat16>&, CudaStream);
template void layer_norm_backward(const LayerNormBackwardArgs<float>&, CudaStream);
template void layer_norm_backward(const LayerNormBackwardArgs<double>&, CudaStream);
template void layer_norm_backward(const LayerNormBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
