// SPDX-License-Identifier: Apache-2.0
// Products by cuBLASLt, the shift and the interpolations of all targets fused around them. With U the bytes of x and n
// targets, forward moves some (3 n + 4) U and backward (7 n + 8) U, and all of it is limited by that: R is too small
// for the products to be limited by FLOPs.
#include "ops/cuda/gemm.h"
#include "ops/cuda/row_sums.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/ddlerp/kernels.h"
#include "tensor/cuda/numbers.cuh"

namespace gf::cuda {
namespace {

constexpr int kMostRow = 256, kBlock = 128;  // threads of a block: with a row, with a run of rows

template <class T, int kCount>
struct Step {
  Pack<T, kCount> now, before;  // of a source, a row and the one before it
};

template <class T, int kCount>
__device__ Step<T, kCount> step_of(const DdlerpArgs<T>& p, const T* source, int64_t row, int64_t c) {
  Step<T, kCount> s{load<kCount>(source + row * p.C + c), {}};
  const int64_t sequence = row / p.Tn;
  if (row != sequence * p.Tn)
    s.before = load<kCount>(source + (row - 1) * p.C + c);
  else if (p.before)
    s.before = load<kCount>(p.before + sequence * p.C + c);
  return s;
}

// shifted = x + (x_before - x) mix_x: a row a block.
template <class T, int kCount>
__global__ void __launch_bounds__(kMostRow) shift_kernel(DdlerpArgs<T> p, T* shifted) {
  for (int64_t c = int64_t{threadIdx.x} * kCount; c < p.C; c += int64_t{blockDim.x} * kCount) {
    auto x = step_of<T, kCount>(p, p.sources[0], blockIdx.x, c);
    const auto mix = load<kCount>(p.mix_x + c);
#pragma unroll
    for (int j = 0; j < kCount; ++j)
      x.now.x[j] = narrow<T>(wide(x.now.x[j]) + (wide(x.before.x[j]) - wide(x.now.x[j])) * wide(mix.x[j]));
    store(shifted + blockIdx.x * p.C + c, x.now);
  }
}

// out_i = s + (s_before - s) (mix_i + out_i), where out_i holds the factors: a row a block.
template <class T, int kCount>
__global__ void __launch_bounds__(kMostRow) interpolate_kernel(DdlerpArgs<T> p) {
  for (int64_t c = int64_t{threadIdx.x} * kCount; c < p.C; c += int64_t{blockDim.x} * kCount) {
    Step<T, kCount> s[kMaxDdlerpSources] = {};
    Pack<T, kCount> out[kMaxDdlerpTargets] = {};
#pragma unroll
    for (int i = 0; i < kMaxDdlerpSources; ++i)
      if (i < p.num_sources) s[i] = step_of<T, kCount>(p, p.sources[i], blockIdx.x, c);
#pragma unroll
    for (int i = 0; i < kMaxDdlerpTargets; ++i)  // all loads first: they may not pass a store
      if (i < p.targets) out[i] = load<kCount>(p.out[i] + blockIdx.x * p.C + c);
#pragma unroll
    for (int i = 0; i < kMaxDdlerpTargets; ++i) {
      if (i >= p.targets) break;
      const auto mix = load<kCount>(p.mix[i] + c);
      const Step<T, kCount> from = p.source_of[i] == 0 ? s[0] : p.source_of[i] == 1 ? s[1] : s[2];
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const auto now = wide(from.now.x[j]);
        out[i].x[j] = narrow<T>(now + (wide(from.before.x[j]) - now) * (wide(mix.x[j]) + wide(out[i].x[j])));
      }
      store(p.out[i] + blockIdx.x * p.C + c, out[i]);
    }
  }
}

// The gradients of the factors, dout_i (s_before - s), zero where none came, and their sums over the rows of a run,
// those of the mixes. kCount columns a thread.
template <class T, int kCount>
__global__ void __launch_bounds__(kBlock) dfactors_kernel(DdlerpBackwardArgs<T> p, Blocks blocks) {
  using I = Inner<T>;
  const DdlerpArgs<T>& f = p.forward;
  const int64_t C = f.C, rows = f.B * f.Tn, begin = blocks.begin(blockIdx.x), end = blocks.end(blockIdx.x);
  const int64_t c = (int64_t{blockIdx.y} * kBlock + threadIdx.x) * kCount;
  if (c >= C) return;
  I dmix[kMaxDdlerpTargets][kCount] = {};
  Pack<T, kCount> before[kMaxDdlerpSources] = {};
#pragma unroll
  for (int s = 0; s < kMaxDdlerpSources; ++s)
    if (s < f.num_sources && begin > 0) before[s] = load<kCount>(f.sources[s] + (begin - 1) * C + c);
  int64_t place = begin % f.Tn;  // in its sequence
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = row * C + c;
    I step[kMaxDdlerpSources][kCount] = {};
    Pack<T, kCount> dout[kMaxDdlerpTargets] = {};
#pragma unroll
    for (int i = 0; i < kMaxDdlerpTargets; ++i)  // all loads first: they may not pass a store
      if (i < f.targets && p.dout[i]) dout[i] = load<kCount>(p.dout[i] + at);
#pragma unroll
    for (int s = 0; s < kMaxDdlerpSources; ++s) {
      if (s >= f.num_sources) break;
      const auto now = load<kCount>(f.sources[s] + at);
#pragma unroll
      for (int j = 0; j < kCount; ++j) step[s][j] = (place == 0 ? 0 : wide(before[s].x[j])) - wide(now.x[j]);
      before[s] = now;
    }
#pragma unroll
    for (int i = 0; i < kMaxDdlerpTargets; ++i) {
      if (i >= f.targets) break;
      const int s = f.source_of[i];
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        const I d = wide(dout[i].x[j]) * (s == 0 ? step[0][j] : s == 1 ? step[1][j] : step[2][j]);
        dmix[i][j] += p.dout[i] ? d : 0;
        dout[i].x[j] = narrow<T>(p.dout[i] ? d : 0);
      }
      store(p.factors + i * rows * C + at, dout[i]);
    }
    place = place + 1 == f.Tn ? 0 : place + 1;
  }
#pragma unroll
  for (int i = 0; i < kMaxDdlerpTargets; ++i) {
    if (i >= f.targets) break;
#pragma unroll
    for (int j = 0; j < kCount; ++j) p.partial[(int64_t{blockIdx.x} * (f.targets + 1) + i) * C + c + j] = dmix[i][j];
  }
}

// The gradients of the sources, and the sums over a run's rows for mix_x. From the last row to the first: what a row's
// gradients give to the row before it is carried there. With share_i = mix_i + factor_i, and mix_x the share of
// shifted,
//   ds_t = sum_i dout_i,t (1 - share_i,t) + dout_i,t+1 share_i,t+1.
template <class T, int kCount>
__global__ void __launch_bounds__(kBlock) dsources_kernel(DdlerpBackwardArgs<T> p, Blocks blocks) {
  using I = Inner<T>;
  const DdlerpArgs<T>& f = p.forward;
  const int64_t C = f.C, rows = f.B * f.Tn, begin = blocks.begin(blockIdx.x), end = blocks.end(blockIdx.x);
  const int64_t c = (int64_t{blockIdx.y} * kBlock + threadIdx.x) * kCount;
  if (c >= C) return;
  const auto mix_x = load<kCount>(f.mix_x + c);
  I dmix_x[kCount] = {}, carried[kMaxDdlerpSources][kCount] = {};
  Pack<T, kCount> x = load<kCount>(f.sources[0] + (end - 1) * C + c);
  const int64_t last = end < rows ? end : end - 1;  // the row behind the run is another block's: it only gives
  int64_t place = last % f.Tn;                      // in its sequence
  for (int64_t row = last; row >= begin; --row) {
    const bool is_first = place == 0, is_ours = row < end;
    const int64_t at = row * C + c;
    Pack<T, kCount> dout[kMaxDdlerpTargets] = {}, factor[kMaxDdlerpTargets] = {}, before{};
#pragma unroll
    for (int i = 0; i < kMaxDdlerpTargets; ++i)
      if (i < f.targets && p.dout[i])
        dout[i] = load<kCount>(p.dout[i] + at), factor[i] = load<kCount>(p.factors + i * rows * C + at);
    const auto dshifted = load<kCount>(p.dshifted + at);
    if (is_ours && row > 0) before = load<kCount>(f.sources[0] + at - C);
#pragma unroll
    for (int s = 0; s < kMaxDdlerpSources; ++s) {
      if (s >= f.num_sources) break;
      I all[kCount] = {}, give[kCount] = {};
#pragma unroll
      for (int i = 0; i < kMaxDdlerpTargets; ++i) {
        if (i >= f.targets || f.source_of[i] != s || !p.dout[i]) continue;
        const auto mix = load<kCount>(f.mix[i] + c);
#pragma unroll
        for (int j = 0; j < kCount; ++j) {
          const I d = wide(dout[i].x[j]);
          all[j] += d;
          give[j] += d * (wide(mix.x[j]) + wide(factor[i].x[j]));
        }
      }
#pragma unroll
      for (int j = 0; s == 0 && j < kCount; ++j) {
        const I d = wide(dshifted.x[j]);
        all[j] += d;
        give[j] += d * wide(mix_x.x[j]);
        if (is_ours) dmix_x[j] += d * ((is_first ? 0 : wide(before.x[j])) - wide(x.x[j]));
      }
      Pack<T, kCount> ds;
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        ds.x[j] = narrow<T>(all[j] - give[j] + carried[s][j]);
        carried[s][j] = is_first ? 0 : give[j];
      }
      if (is_ours) store(p.dsources[s] + at, ds);
    }
    if (is_ours) x = before;
    place = is_first ? f.Tn - 1 : place - 1;
  }
#pragma unroll
  for (int j = 0; j < kCount; ++j)
    p.partial[(int64_t{blockIdx.x} * (f.targets + 1) + f.targets) * C + c + j] = dmix_x[j];
}

template <class T>
void shift(const DdlerpArgs<T>& p, T* shifted, CudaStream stream) {
  with_pack<16, T>(p.C, 1, {p.sources[0], p.before, p.mix_x, shifted}, [&](auto count) {
    launch(stream, static_cast<unsigned>(p.B * p.Tn), std::min<unsigned>(kMostRow, whole_warps(p.C / count)), 0,
           shift_kernel<T, count>, p, shifted);
  });
}

}  // namespace

template <class T>
void ddlerp(const DdlerpArgs<T>& p, CudaStream stream) {
  using I = Inner<T>;
  const int64_t rows = p.B * p.Tn, C = p.C, R = p.R, width = p.targets * R;
  if (rows == 0) return;
  T* const shifted = p.out[0];  // until the factors come there
  shift(p, shifted, stream);
  gemm(stream, {false, false, rows, width, C, C, width, width}, I(1), shifted, p.w1, I(0), p.z);
  each_number(
      stream, rows * width, [] __device__(const T& x, T& z) { z = narrow<T>(tanh(wide(x))); }, read_of(p.z), p.z);
  for (int i = 0; i < p.targets; ++i)
    gemm(stream, {false, false, rows, C, R, width, C, C}, I(1), p.z + i * R, p.w2 + i * R * C, I(0), p.out[i]);
  const auto& [s0, s1, s2] = p.sources;
  const auto& [m0, m1, m2, m3, m4] = p.mix;
  const auto& [o0, o1, o2, o3, o4] = p.out;
  with_pack<16, T>(C, 1, {p.before, s0, s1, s2, m0, m1, m2, m3, m4, o0, o1, o2, o3, o4}, [&](auto count) {
    launch(stream, static_cast<unsigned>(rows), std::min<unsigned>(kMostRow, whole_warps(C / count)), 0,
           interpolate_kernel<T, count>, p);
  });
}

// The gradients of the factors stand where then the factors do, and what was shifted where the gradient of x will: so
// that no more than (n + 1) times the bytes of x are needed.
template <class T>
void ddlerp_backward(const DdlerpBackwardArgs<T>& p, CudaStream stream) {
  using I = Inner<T>;
  const DdlerpArgs<T>& f = p.forward;
  const int64_t rows = f.B * f.Tn, C = f.C, R = f.R, n = f.targets, width = n * R;
  if (rows == 0) return;
  const Blocks blocks = gpu_row_blocks(rows, C);
  const auto with_run_grid = [&](auto&& start) {
    const auto& [s0, s1, s2] = f.sources;
    const auto& [g0, g1, g2] = p.dsources;
    const auto& [m0, m1, m2, m3, m4] = f.mix;
    const auto& [d0, d1, d2, d3, d4] = p.dout;
    with_pack<8, T>(C, 1,
                    {f.mix_x, s0, s1, s2, g0, g1, g2, m0, m1, m2, m3, m4, d0, d1, d2, d3, d4, p.factors, p.dshifted},
                    [&](auto count) {
                      const dim3 grid(static_cast<unsigned>(blocks.size()), blocks_of(C / count, kBlock));
                      start(grid, count);
                    });
  };
  with_run_grid([&](dim3 grid, auto count) { launch(stream, grid, kBlock, 0, dfactors_kernel<T, count>, p, blocks); });
  batched_gemm(stream, {false, true, rows, R, C, C, C, width}, {n, rows * C, R * C, R}, I(1), p.factors, f.w2, I(0),
               p.dz);
  if (p.dw2)
    batched_gemm(stream, {true, false, R, C, rows, width, C, C}, {n, R, rows * C, R * C}, I(1), f.z, p.factors, I(1),
                 p.dw2);
  each_number(
      stream, rows * width,
      [] __device__(const T& z, const T& dtanh, T& dz) { dz = narrow<T>(wide(dtanh) * (1 - wide(z) * wide(z))); },
      read_of(f.z), read_of(p.dz), p.dz);
  if (p.dw1) {
    T* const shifted = p.dsources[0];
    shift(f, shifted, stream);
    gemm(stream, {true, false, C, width, rows, C, width, width}, I(1), shifted, p.dz, I(1), p.dw1);
  }
  gemm(stream, {false, true, rows, C, width, width, width, C}, I(1), p.dz, f.w1, I(0), p.dshifted);
  batched_gemm(stream, {false, false, rows, C, R, width, C, C}, {n, R, R * C, rows * C}, I(1), f.z, f.w2, I(0),
               p.factors);
  with_run_grid([&](dim3 grid, auto count) { launch(stream, grid, kBlock, 0, dsources_kernel<T, count>, p, blocks); });
  Sums<I> sums{};
  std::copy_n(p.dmix, n, sums.sum);
  sums.sum[n] = p.dmix_x;
  add_partial_rows(stream, p.partial, blocks.size(), (n + 1) * C, C, sums, f.targets + 1);
}

template void ddlerp(const DdlerpArgs<float>&, CudaStream);
template void ddlerp(const DdlerpArgs<double>&, CudaStream);
template void ddlerp(const DdlerpArgs<BFloat16>&, CudaStream);
template void ddlerp_backward(const DdlerpBackwardArgs<float>&, CudaStream);
template void ddlerp_backward(const DdlerpBackwardArgs<double>&, CudaStream);
template void ddlerp_backward(const DdlerpBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
