// SPDX-License-Identifier: Apache-2.0
// Limited by bytes: forward reads x once (the row before comes from a cache) and writes the outputs, backward reads x
// and the outputs' gradients and writes that of x.
#include "ops/cuda/row_sums.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/token_shift/kernels.h"

namespace gf::cuda {
namespace {

constexpr int kMostForward = 256, kBackward = 128;  // threads of a block

// The factor of the previous position: m, or 1 - m.
template <class I>
__device__ I previous_share(I m, bool toward_current) {
  return toward_current ? 1 - m : m;
}

// A row a block; its threads take kCount numbers at a time.
template <class T, int kCount>
__global__ void __launch_bounds__(kMostForward) forward_kernel(TokenShiftArgs<T> p) {
  using I = Inner<T>;
  const int64_t row = blockIdx.x, sequence = row / p.Tn;
  const bool is_first = row == sequence * p.Tn;
  for (int64_t c = int64_t{threadIdx.x} * kCount; c < p.C; c += int64_t{blockDim.x} * kCount) {
    const auto x = load<kCount>(p.x + row * p.C + c);
    Pack<T, kCount> before{};
    if (!is_first)
      before = load<kCount>(p.x + (row - 1) * p.C + c);
    else if (p.before)
      before = load<kCount>(p.before + sequence * p.C + c);
#pragma unroll
    for (int i = 0; i < kMaxShiftOutputs; ++i) {
      if (i >= p.count) break;
      const auto mix = load<kCount>(p.mix[i] + c);
      Pack<T, kCount> out;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const I now = wide(x.x[j]), share = previous_share<I>(wide(mix.x[j]), p.toward_current);
        out.x[j] = narrow<T>(now + (wide(before.x[j]) - now) * share);
      }
      store(p.out[i] + row * p.C + c, out);
    }
  }
}

// A run of rows a block and kCount columns a thread, from the last row to the first: what a row's gradients give to the
// row before it is carried there. dx_t = sum_i dout_i,t (1 - s_i) + dout_i,t+1 s_i, with s the previous position's
// share.
template <class T, int kCount>
__global__ void __launch_bounds__(kBackward) backward_kernel(TokenShiftBackwardArgs<T> p, Blocks blocks) {
  using I = Inner<T>;
  const TokenShiftArgs<T>& f = p.forward;
  const int64_t C = f.C, rows = f.B * f.Tn, begin = blocks.begin(blockIdx.x), end = blocks.end(blockIdx.x);
  const int64_t c = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kCount;
  if (c >= C) return;
  const I sign = f.toward_current ? -1 : 1;
  I dmix[kMaxShiftOutputs][kCount] = {}, share[kMaxShiftOutputs][kCount] = {}, carried[kCount] = {};
#pragma unroll
  for (int i = 0; i < kMaxShiftOutputs; ++i) {
    if (i >= f.count) break;
    const auto mix = load<kCount>(f.mix[i] + c);
#pragma unroll
    for (int j = 0; j < kCount; ++j) share[i][j] = previous_share<I>(wide(mix.x[j]), f.toward_current);
  }
  Pack<T, kCount> x = load<kCount>(f.x + (end - 1) * C + c);
  int64_t place = (end < rows ? end : end - 1) % f.Tn;  // in its sequence
  for (int64_t row = end < rows ? end : end - 1; row >= begin; --row) {
    const bool is_first = place == 0, is_ours = row < end;
    Pack<T, kCount> before{};
    if (is_ours && row > 0) before = load<kCount>(f.x + (row - 1) * C + c);
    Pack<T, kCount> dout[kMaxShiftOutputs] = {};
#pragma unroll
    for (int i = 0; i < kMaxShiftOutputs; ++i)
      if (i < f.count && p.dout[i]) dout[i] = load<kCount>(p.dout[i] + row * C + c);
    I own[kCount], give[kCount] = {};
#pragma unroll
    for (int j = 0; j < kCount; ++j) own[j] = carried[j];
#pragma unroll
    for (int i = 0; i < kMaxShiftOutputs; ++i) {
      if (i >= f.count) break;
      if (!p.dout[i]) continue;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const I d = wide(dout[i].x[j]);
        own[j] += d * (1 - share[i][j]);
        give[j] += d * share[i][j];
        if (is_ours) dmix[i][j] += d * ((is_first ? 0 : wide(before.x[j])) - wide(x.x[j])) * sign;
      }
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) carried[j] = is_first ? 0 : give[j];
    if (is_ours) {
      Pack<T, kCount> dx;
#pragma unroll
      for (int j = 0; j < kCount; ++j) dx.x[j] = narrow<T>(own[j]);
      if (p.dx) store(p.dx + row * C + c, dx);
      x = before;
    }
    place = is_first ? f.Tn - 1 : place - 1;
  }
#pragma unroll
  for (int i = 0; i < kMaxShiftOutputs; ++i) {
    if (i >= f.count) break;
#pragma unroll
    for (int j = 0; j < kCount; ++j) p.partial[(int64_t{blockIdx.x} * f.count + i) * C + c + j] = dmix[i][j];
  }
}

}  // namespace

template <class T>
void token_shift(const TokenShiftArgs<T>& p, CudaStream stream) {
  const int64_t rows = p.B * p.Tn;
  if (rows == 0) return;
  const auto& [m0, m1, m2, m3, m4] = p.mix;
  const auto& [o0, o1, o2, o3, o4] = p.out;
  with_pack<16, T>(p.C, 1, {p.x, p.before, m0, m1, m2, m3, m4, o0, o1, o2, o3, o4}, [&](auto count) {
    launch(stream, static_cast<unsigned>(rows), std::min<unsigned>(kMostForward, whole_warps(p.C / count)), 0,
           forward_kernel<T, count>, p);
  });
}

template <class T>
void token_shift_backward(const TokenShiftBackwardArgs<T>& p, CudaStream stream) {
  const TokenShiftArgs<T>& f = p.forward;
  const int64_t rows = f.B * f.Tn;
  if (rows == 0) return;
  const Blocks blocks = gpu_row_blocks(rows, f.C);
  const auto& [m0, m1, m2, m3, m4] = f.mix;
  const auto& [d0, d1, d2, d3, d4] = p.dout;
  with_pack<8, T>(f.C, 1, {f.x, p.dx, m0, m1, m2, m3, m4, d0, d1, d2, d3, d4}, [&](auto count) {
    launch(stream, {static_cast<unsigned>(blocks.size()), blocks_of(f.C / count, kBackward)}, kBackward, 0,
           backward_kernel<T, count>, p, blocks);
  });
  Sums<Inner<T>> sums{};
  std::copy_n(p.dmix, f.count, sums.sum);
  add_partial_rows(stream, p.partial, blocks.size(), f.count * f.C, f.C, sums, f.count);
}

template void token_shift(const TokenShiftArgs<float>&, CudaStream);
template void token_shift(const TokenShiftArgs<double>&, CudaStream);
template void token_shift(const TokenShiftArgs<BFloat16>&, CudaStream);
template void token_shift_backward(const TokenShiftBackwardArgs<float>&, CudaStream);
template void token_shift_backward(const TokenShiftBackwardArgs<double>&, CudaStream);
template void token_shift_backward(const TokenShiftBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
