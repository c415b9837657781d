// SPDX-License-Identifier: Apache-2.0
// Limited by bytes: forward reads y and g and writes out, backward reads y, g and dout and writes dy and dg, once each.
// A head is a few neighbouring lanes of a warp, 16 of them forward for 64 channels of float and 8 for bf16, so that its
// sums need no barrier.
#include "ops/cuda/row_sums.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/group_norm/kernels.h"

namespace gf::cuda {
namespace {

constexpr int kBlock = 128;

template <class I>
__device__ I sigmoid(I x) {
  return 1 / (1 + exp(-x));
}

// The sum over `lanes` neighbours, a power of two.
template <class I>
__device__ I head_sum(I x, int lanes) {
  for (int away = lanes / 2; away > 0; away /= 2) x += __shfl_xor_sync(kAllLanes, x, away);
  return x;
}

// A row, and kCount channels a thread.
template <class T, int kCount>
__global__ void __launch_bounds__(kBlock) forward_kernel(GroupNormArgs<T> p, int lanes) {
  using I = Inner<T>;
  const int64_t C = p.H * p.N, row = blockIdx.x, c = (int64_t{blockIdx.y} * kBlock + threadIdx.x) * kCount;
  const int64_t at = row * C + c;
  const bool mine = c < C;
  Pack<T, kCount> y{}, g{};
  if (mine) y = load<kCount>(p.y + at), g = load<kCount>(p.g + at);
  I total = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) total += wide(y.x[i]) * p.pre_scale;
  const I mean = head_sum(total, lanes) / static_cast<I>(p.N);
  I squares = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) squares += (wide(y.x[i]) * p.pre_scale - mean) * (wide(y.x[i]) * p.pre_scale - mean);
  const I rstd = 1 / sqrt(head_sum(squares, lanes) / static_cast<I>(p.N) + p.eps);
  if (!mine) return;
  const auto w = load<kCount>(p.w + c), b = load<kCount>(p.b + c);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const I gate = wide(g.x[i]);
    const I norm = (wide(y.x[i]) * p.pre_scale - mean) * rstd * wide(w.x[i]) + wide(b.x[i]);
    y.x[i] = narrow<T>(norm * (gate * sigmoid(gate)));
  }
  store(p.out + at, y);
  if (threadIdx.x % lanes == 0) p.mean[row * p.H + c / p.N] = mean, p.rstd[row * p.H + c / p.N] = rstd;
}

// Heads of any size: a warp each.
template <class T>
__global__ void __launch_bounds__(kWarp) forward_any_kernel(GroupNormArgs<T> p) {
  using I = Inner<T>;
  const int64_t channel = blockIdx.y * p.N, at = blockIdx.x * p.H * p.N + channel;
  I total = 0;
  for (int64_t n = threadIdx.x; n < p.N; n += kWarp) total += wide(p.y[at + n]) * p.pre_scale;
  const I mean = warp_sum(total) / static_cast<I>(p.N);
  I squares = 0;
  for (int64_t n = threadIdx.x; n < p.N; n += kWarp) {
    const I away = wide(p.y[at + n]) * p.pre_scale - mean;
    squares += away * away;
  }
  const I rstd = 1 / sqrt(warp_sum(squares) / static_cast<I>(p.N) + p.eps);
  for (int64_t n = threadIdx.x; n < p.N; n += kWarp) {
    const I gate = wide(p.g[at + n]);
    const I norm = (wide(p.y[at + n]) * p.pre_scale - mean) * rstd * wide(p.w[channel + n]) + wide(p.b[channel + n]);
    p.out[at + n] = narrow<T>(norm * (gate * sigmoid(gate)));
  }
  if (threadIdx.x == 0) p.mean[blockIdx.x * p.H + blockIdx.y] = mean, p.rstd[blockIdx.x * p.H + blockIdx.y] = rstd;
}

// With z = (y pre_scale - mean) rstd and h = dout silu(g) w:  dy = pre_scale rstd (h - mean(h) - z mean(h z)). This is
// what a channel has of it.
template <class I>
struct Channel {
  I z, h, dnorm, dg;
  __device__ Channel(I y, I g, I dout, I w, I b, I mean, I rstd) {
    const I s = sigmoid(g);
    z = (y - mean) * rstd;
    dnorm = dout * (g * s);
    h = dnorm * w;
    dg = dout * (z * w + b) * (s * (1 + g * (1 - s)));
  }
};

// What a thread reads of a row.
template <class T, int kCount>
struct BackwardRow {
  Pack<T, kCount> y, g, dout;
  Inner<T> mean, rstd;

  __device__ BackwardRow(const GroupNormBackwardArgs<T>& p, int64_t row, int64_t c, int64_t head)
      : y{}, g{}, dout{}, mean(0), rstd(0) {
    const int64_t C = p.H * p.N, at = row * C + c;
    if (c >= C) return;
    y = load<kCount>(p.y + at), g = load<kCount>(p.g + at), dout = load<kCount>(p.dout + at);
    mean = p.mean[row * p.H + head], rstd = p.rstd[row * p.H + head];
  }
};

// A run of rows a block, kCount channels a thread; the next row is under way while one is worked on.
template <class T, int kCount>
__global__ void __launch_bounds__(kBlock) backward_kernel(GroupNormBackwardArgs<T> p, Blocks blocks, int lanes) {
  using I = Inner<T>;
  const int64_t C = p.H * p.N, c = (int64_t{blockIdx.y} * kBlock + threadIdx.x) * kCount, head = c / p.N;
  const int64_t begin = blocks.begin(blockIdx.x), end = blocks.end(blockIdx.x);
  const bool mine = c < C;
  Pack<T, kCount> w{}, b{};
  if (mine) w = load<kCount>(p.w + c), b = load<kCount>(p.b + c);
  I dw[kCount] = {}, db[kCount] = {};
  BackwardRow<T, kCount> next(p, begin, c, head);
  for (int64_t row = begin; row < end; ++row) {
    const BackwardRow<T, kCount> now = next;
    if (row + 1 < end) next = BackwardRow<T, kCount>(p, row + 1, c, head);
    I z[kCount], h[kCount], sum_h = 0, sum_hz = 0;
    Pack<T, kCount> dg, dy;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Channel<I> of(wide(now.y.x[i]) * p.pre_scale, wide(now.g.x[i]), wide(now.dout.x[i]), wide(w.x[i]),
                          wide(b.x[i]), now.mean, now.rstd);
      z[i] = of.z, h[i] = of.h, dg.x[i] = narrow<T>(of.dg);
      dw[i] += of.dnorm * of.z;
      db[i] += of.dnorm;
      sum_h += of.h;
      sum_hz += of.h * of.z;
    }
    const I mean_h = head_sum(sum_h, lanes) / static_cast<I>(p.N);
    const I mean_hz = head_sum(sum_hz, lanes) / static_cast<I>(p.N);
    if (!mine) continue;
#pragma unroll
    for (int i = 0; i < kCount; ++i) dy.x[i] = narrow<T>(p.pre_scale * now.rstd * (h[i] - mean_h - z[i] * mean_hz));
    store(p.dg + row * C + c, dg);
    store(p.dy + row * C + c, dy);
  }
#pragma unroll
  for (int i = 0; mine && i < kCount; ++i) {
    p.partial[blockIdx.x * 2 * C + c + i] = dw[i];
    p.partial[(blockIdx.x * 2 + 1) * C + c + i] = db[i];
  }
}

// Heads of any size: a warp for the rows of a run, its sums in memory, each channel with one lane.
template <class T>
__global__ void __launch_bounds__(kWarp) backward_any_kernel(GroupNormBackwardArgs<T> p, Blocks blocks) {
  using I = Inner<T>;
  const int64_t C = p.H * p.N, head = blockIdx.y, channel = head * p.N;
  I *const dw = p.partial + blockIdx.x * 2 * C + channel, *const db = dw + C;
  for (int64_t n = threadIdx.x; n < p.N; n += kWarp) dw[n] = db[n] = 0;
  for (int64_t row = blocks.begin(blockIdx.x); row < blocks.end(blockIdx.x); ++row) {
    const int64_t at = row * C + channel;
    const I mean = p.mean[row * p.H + head], rstd = p.rstd[row * p.H + head];
    const auto channel_of = [&](int64_t n) {
      return Channel<I>(wide(p.y[at + n]) * p.pre_scale, wide(p.g[at + n]), wide(p.dout[at + n]),
                        wide(p.w[channel + n]), wide(p.b[channel + n]), mean, rstd);
    };
    I sum_h = 0, sum_hz = 0;
    for (int64_t n = threadIdx.x; n < p.N; n += kWarp) {
      const Channel<I> of = channel_of(n);
      dw[n] += of.dnorm * of.z;
      db[n] += of.dnorm;
      sum_h += of.h;
      sum_hz += of.h * of.z;
    }
    const I mean_h = warp_sum(sum_h) / static_cast<I>(p.N), mean_hz = warp_sum(sum_hz) / static_cast<I>(p.N);
    for (int64_t n = threadIdx.x; n < p.N; n += kWarp) {
      const Channel<I> of = channel_of(n);  // before dg, which may stand where dout does
      p.dg[at + n] = narrow<T>(of.dg);
      p.dy[at + n] = narrow<T>(p.pre_scale * rstd * (of.h - mean_h - of.z * mean_hz));
    }
  }
}

// Whether a head is so many lanes' worth of kCount numbers.
bool is_of_lanes(int64_t N, int64_t count) {
  const int64_t lanes = N / count;
  return N % count == 0 && lanes <= kWarp && (lanes & (lanes - 1)) == 0;
}

}  // namespace

template <class T>
void group_norm_silu_gate(const GroupNormArgs<T>& p, CudaStream stream) {
  if (p.M == 0) return;
  const auto rows = static_cast<unsigned>(p.M);
  with_pack<16, T>(p.N, 1, {p.y, p.g, p.w, p.b, p.out}, [&](auto count) {
    if (is_of_lanes(p.N, count))
      launch(stream, {rows, blocks_of(p.H * p.N / count, kBlock)}, kBlock, 0, forward_kernel<T, count>, p,
             static_cast<int>(p.N / count));
    else
      launch(stream, {rows, static_cast<unsigned>(p.H)}, kWarp, 0, forward_any_kernel<T>, p);
  });
}

template <class T>
void group_norm_silu_gate_backward(const GroupNormBackwardArgs<T>& p, CudaStream stream) {
  if (p.M == 0) return;
  const int64_t C = p.H * p.N;
  const Blocks blocks = gpu_row_blocks(p.M, C);
  const auto runs = static_cast<unsigned>(blocks.size());
  with_pack<8, T>(p.N, 1, {p.y, p.g, p.w, p.b, p.dout, p.dy, p.dg}, [&](auto count) {
    if (is_of_lanes(p.N, count))
      launch(stream, {runs, blocks_of(C / count, kBlock)}, kBlock, 0, backward_kernel<T, count>, p, blocks,
             static_cast<int>(p.N / count));
    else
      launch(stream, {runs, static_cast<unsigned>(p.H)}, kWarp, 0, backward_any_kernel<T>, p, blocks);
  });
  add_partial_rows(stream, p.partial, blocks.size(), 2 * C, C, Sums<Inner<T>>{{p.dw, p.db}}, 2);
}

template void group_norm_silu_gate(const GroupNormArgs<float>&, CudaStream);
template void group_norm_silu_gate(const GroupNormArgs<double>&, CudaStream);
template void group_norm_silu_gate(const GroupNormArgs<BFloat16>&, CudaStream);
template void group_norm_silu_gate_backward(const GroupNormBackwardArgs<float>&, CudaStream);
template void group_norm_silu_gate_backward(const GroupNormBackwardArgs<double>&, CudaStream);
template void group_norm_silu_gate_backward(const GroupNormBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
