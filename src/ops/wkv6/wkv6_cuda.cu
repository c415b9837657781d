// SPDX-License-Identifier: Apache-2.0
// The sequential form, for any type, head size and length; and the choice between it and the chunked one. As on a CPU
// (wkv6_scan.h) all four passes are one scan of a state X, with every step
//   out_t[own] = sum_m X[m][own] p_t[m];    X[m][own] = X[m][own] decay_t + x_t[m] z_t[own]
// A thread keeps 128 bytes of one column `own` in registers, so a block of N threads has 32 columns of a head (16 in
// double) and 32 blocks share a large one. What limits it is the latency of one step after another.
#include "ops/wkv6/kernels.h"
#include "tensor/cuda/block.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"

namespace gf::cuda {
namespace {

constexpr int kMostSteps = 16;  // that lie in shared memory at a time; divides kWkv6Anchor
constexpr double kForgotten = 1e-7;

enum class Pass : uint8_t {
  y,   // X = S, own: value channels; p, x, z = r, k', v
  dr,  // X = S^T, own: key channels; p, x, z = dy, v, k'
  dk,  // X = D^T = (dL/dS)^T, own: key channels, backward in time; p, x, z = v, dy, r
  dv   // X = D, own: value channels, backward in time; p, x, z = k', r, dy
};
constexpr bool of_keys(Pass pass) {
  return pass == Pass::dr || pass == Pass::dk;
}
constexpr bool in_reverse(Pass pass) {
  return pass == Pass::dk || pass == Pass::dv;
}

template <class I>
constexpr int kRows = 128 / sizeof(I);  // of a column in a thread, and columns in a block

// What follows from w.
template <class I>
__device__ I log_decay(I w) {
  return -exp(w);
}
template <class I>
__device__ I key_scale(I log_of_decay) {
  return -expm1(log_of_decay);
}

// A block's share of a head, and its shared memory.
template <class T, Pass kPass>
struct Scan {
  using I = Inner<T>;
  static constexpr int kWide = kRows<I>;
  const Wkv6BackwardArgs<T>& a;
  const Wkv6Args<T>& f;
  int64_t head, base, stride;  // row t begins at base + t * stride
  int width, groups, steps;    // N in whole warps, threads a column, steps at a time
  int group, first, own;       // this thread's part of a column, the block's first column, and which one
  I *p, *x, *decay;            // steps x width
  I *z, *own_decay;            // steps x kWide
  I* sums;                     // groups x steps x kWide
  I* bonus;                    // steps: r . (u k'), or dy . v

  __device__ Scan(const Wkv6BackwardArgs<T>& args, int num_steps) : a(args), f(args.forward), steps(num_steps) {
    head = blockIdx.x, stride = f.H * f.N;
    base = head / f.H * f.Tn * stride + head % f.H * f.N;
    width = static_cast<int>(blockDim.x), groups = width / kWide;
    group = static_cast<int>(threadIdx.x) / kWide, first = static_cast<int>(blockIdx.y) * kWide;
    own = first + static_cast<int>(threadIdx.x) % kWide;
    p = dynamic_shared<I>(), x = p + steps * width, decay = x + steps * width;
    z = decay + steps * width, own_decay = z + steps * kWide;
    sums = own_decay + steps * kWide, bonus = sums + groups * steps * kWide;
  }
  __device__ bool owns() const { return own < f.N; }
  __device__ int64_t at(int64_t t, int n) const { return base + t * stride + n; }
  __device__ I log_decay_at(int64_t i) const { return log_decay(wide(f.w[i])); }
  __device__ I key_at(int64_t i) const {
    return f.scale_keys ? wide(f.k[i]) * key_scale(log_decay_at(i)) : wide(f.k[i]);
  }
  __device__ I u(int n) const { return wide(f.u[head % f.H * f.N + n]); }

  // What steps [begin, end) need, zero past the head's channels.
  __device__ void load(int64_t begin, int64_t end) {
    for (int i = static_cast<int>(threadIdx.x); i < (end - begin) * width; i += width) {
      const int n = i % width;
      const int64_t from = at(begin + i / width, n);
      p[i] = x[i] = decay[i] = 0;
      if (n >= f.N) continue;
      if constexpr (kPass == Pass::y) p[i] = wide(f.r[from]), x[i] = key_at(from);
      if constexpr (kPass == Pass::dr) p[i] = wide(a.dy[from]), x[i] = wide(f.v[from]);
      if constexpr (kPass == Pass::dk) p[i] = wide(f.v[from]), x[i] = wide(a.dy[from]);
      if constexpr (kPass == Pass::dv) p[i] = key_at(from), x[i] = wide(f.r[from]);
      if constexpr (!of_keys(kPass)) decay[i] = exp(log_decay_at(from));
    }
    for (int i = static_cast<int>(threadIdx.x); i < (end - begin) * kWide; i += width) {
      const int n = first + i % kWide;
      const int64_t from = at(begin + i / kWide, n);
      z[i] = own_decay[i] = 0;
      if (n >= f.N) continue;
      if constexpr (kPass == Pass::y) z[i] = wide(f.v[from]);
      if constexpr (kPass == Pass::dr) z[i] = key_at(from);
      if constexpr (kPass == Pass::dk) z[i] = wide(f.r[from]);
      if constexpr (kPass == Pass::dv) z[i] = wide(a.dy[from]);
      if constexpr (of_keys(kPass)) own_decay[i] = exp(log_decay_at(from));
    }
  }

  // A warp sums each step's.
  __device__ void load_bonus(int64_t begin, int64_t end) {
    if (kPass == Pass::dr || !f.u) return;
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    for (int step = warp; step < end - begin; step += width / kWarp) {
      I sum = 0;
      for (int n = lane; n < f.N; n += kWarp) {
        const I product = p[step * width + n] * x[step * width + n];
        sum += kPass == Pass::dk ? product : product * u(n);
      }
      sum = warp_sum(sum);
      if (lane == 0) bonus[step] = sum;
    }
  }

  // The thread's part of the state, of an N x N one in memory: key channels by value channels.
  __device__ int64_t state_at(int row) const {
    const int m = group * kWide + row;
    return head * f.N * f.N + (of_keys(kPass) ? int64_t{own} * f.N + m : m * f.N + own);
  }
  __device__ bool has_row(int row) const { return owns() && group * kWide + row < f.N; }
  __device__ void load_state(I* state, const I* from) const {
#pragma unroll
    for (int row = 0; row < kWide; ++row) state[row] = from && has_row(row) ? from[state_at(row)] : I(0);
  }
  __device__ void store_state(const I* state, I* to) const {
    if (!to) return;
#pragma unroll
    for (int row = 0; row < kWide; ++row)
      if (has_row(row)) to[state_at(row)] = state[row];
  }

  // One step of the thread's part.
  __device__ void step(I* state, int step) {
    const int from = step * width + group * kWide, column = own - first;
    const I z_own = z[step * kWide + column];
    const I decay_own = own_decay[step * kWide + column];
    I sum = 0;
#pragma unroll
    for (int row = 0; row < kWide; ++row) {
      sum += state[row] * p[from + row];
      state[row] = state[row] * (of_keys(kPass) ? decay_own : decay[from + row]) + x[from + row] * z_own;
    }
    sums[(group * steps + step) * kWide + column] = sum;
  }
  __device__ I sum_of(int step, int column) const {
    I sum = 0;
    for (int g = 0; g < groups; ++g) sum += sums[(g * steps + step) * kWide + column];
    return sum;
  }

  // Where the backward pass keeps dr' and, for each anchor, S^T as this block's columns lie in threads.
  __device__ I* kept_dr() const {
    return reinterpret_cast<I*>(f.scratch);
  }
  __device__ I* anchor(int64_t end) const {
    const int64_t anchors = (f.Tn + kWkv6Anchor - 1) / kWkv6Anchor, which = (end - 1) / kWkv6Anchor;
    return kept_dr() + f.B * f.Tn * stride + (head * anchors + which) * f.N * f.N;
  }
};

template <class T, Pass kPass>
__device__ void store_outputs(const Scan<T, kPass>& s, int64_t begin, int64_t end) {
  using I = Inner<T>;
  constexpr int kWide = kRows<I>;
  for (int i = static_cast<int>(threadIdx.x); i < (end - begin) * kWide; i += s.width) {
    const int step = i / kWide, column = i % kWide, n = s.first + column;
    if (n >= s.f.N) continue;
    const int64_t to = s.at(begin + step, n);
    I out = s.sum_of(step, column);
    if constexpr (kPass == Pass::y) {
      if (s.f.add) out += wide(s.f.add[to]);
      if (s.f.u) out += s.bonus[step] * wide(s.f.v[to]);
      s.f.y[to] = narrow<T>(out);
    } else if constexpr (kPass == Pass::dv) {
      if (s.f.u) out += s.bonus[step] * wide(s.a.dy[to]);
      s.a.dv[to] = narrow<T>(out);
    } else {
      s.kept_dr()[to] = out;
    }
  }
}

// A key channel's gradients, by one thread. The decay's as on a CPU (see decay_gradient_columns): q is made afresh at
// each anchor, and where a decay is under kForgotten.
template <class T>
__device__ void store_key_gradients(const Scan<T, Pass::dk>& s, int64_t begin, int64_t end, Inner<T>& q, Inner<T>& du) {
  using I = Inner<T>;
  for (int64_t t = end - 1; t >= begin; --t) {
    const int step = static_cast<int>(t - begin);
    const int64_t i = s.at(t, s.own);
    const I log_of_decay = s.log_decay_at(i), decay = exp(log_of_decay), r = wide(s.f.r[i]), k = wide(s.f.k[i]);
    const I scale = s.f.scale_keys ? key_scale(log_of_decay) : I(1), key = k * scale;
    I dr = s.kept_dr()[i], dkey = s.sum_of(step, s.own - s.first);
    const I dlw = decay < I(kForgotten) ? I(0) : q - key * dkey;
    q = dlw + r * dr;
    if (s.f.u) {
      const I db = s.bonus[step], u = s.u(s.own);
      dr += db * u * key, dkey += db * u * r, du += db * r * key;
    }
    s.a.dr[i] = narrow<T>(dr);
    s.a.dk[i] = narrow<T>(dkey * scale);
    s.a.dw[i] = narrow<T>((s.f.scale_keys ? dlw - dkey * k * decay : dlw) * log_of_decay);
  }
}

template <class T, Pass kPass, int kMostThreads>
__global__ __launch_bounds__(kMostThreads) void scan_kernel(Wkv6BackwardArgs<T> args, int steps) {
  using I = Inner<T>;
  constexpr int kWide = kRows<I>;
  Scan<T, kPass> s(args, steps);
  I state[kWide], q = 0, du = 0;
  s.load_state(state, in_reverse(kPass) ? s.a.dstate_last : s.f.state);
  const int64_t batches = (s.f.Tn + steps - 1) / steps;
  for (int64_t batch = 0; batch < batches; ++batch) {
    const int64_t begin = (in_reverse(kPass) ? batches - 1 - batch : batch) * steps;
    const int64_t end = begin + steps < s.f.Tn ? begin + steps : s.f.Tn;
    const bool at_anchor = end % kWkv6Anchor == 0 || end == s.f.Tn;
    __syncthreads();  // the batch before is done with shared memory
    s.load(begin, end);
    __syncthreads();
    s.load_bonus(begin, end);
    if (kPass == Pass::dk && at_anchor) {  // q = sum_j S[own][j] D[own][j]
      I sum = 0;
#pragma unroll
      for (int row = 0; row < kWide; ++row)
        if (s.has_row(row)) sum += state[row] * s.anchor(end)[int64_t{s.group * kWide + row} * s.f.N + s.own];
      s.sums[s.group * steps * kWide + s.own - s.first] = sum;
      __syncthreads();
      q = s.sum_of(0, s.own - s.first);
      __syncthreads();
    }
    const int count = static_cast<int>(end - begin);
    for (int n = 0; n < count; ++n) s.step(state, in_reverse(kPass) ? count - 1 - n : n);
    __syncthreads();
    if constexpr (kPass == Pass::dk) {
      if (s.group == 0 && s.owns()) store_key_gradients(s, begin, end, q, du);
    } else {
      store_outputs(s, begin, end);
    }
    if (kPass == Pass::dr && at_anchor) {
#pragma unroll
      for (int row = 0; row < kWide; ++row)
        if (s.has_row(row)) s.anchor(end)[int64_t{s.group * kWide + row} * s.f.N + s.own] = state[row];
    }
  }
  if constexpr (kPass == Pass::y) s.store_state(state, s.f.state);
  if constexpr (kPass == Pass::dk) {
    s.store_state(state, s.a.dstate_first);
    if (s.a.du_partial && s.group == 0 && s.owns()) s.a.du_partial[s.head * s.f.N + s.own] = du;
  }
}

template <Pass kPass, class T>
void scan(const Wkv6BackwardArgs<T>& a, CudaStream stream) {
  using I = Inner<T>;
  const Wkv6Args<T>& f = a.forward;
  if (f.B * f.H * f.N == 0) return;
  constexpr int kFew = 256, kMany = 1024;  // threads: these have registers enough, and those must be able to start
  const int64_t width = (f.N + kWarp - 1) / kWarp * kWarp;
  const int64_t bytes_a_step = (4 * width + 2 * kRows<I> + 1) * static_cast<int64_t>(sizeof(I));
  int64_t steps = kMostSteps;
  while (steps * bytes_a_step > (47 << 10)) steps /= 2;  // what a block gets without asking
  launch(stream, {static_cast<unsigned>(f.B * f.H), blocks_of(f.N, kRows<I>)}, static_cast<unsigned>(width),
         static_cast<size_t>(steps * bytes_a_step),
         width <= kFew ? scan_kernel<T, kPass, kFew> : scan_kernel<T, kPass, kMany>, a, static_cast<int>(steps));
}

}  // namespace

template <class T>
void wkv6_sequential(const Wkv6Args<T>& p, CudaStream stream) {
  Wkv6BackwardArgs<T> args{};
  args.forward = p;
  scan<Pass::y>(args, stream);
}

template <class T>
void wkv6_sequential_backward(const Wkv6BackwardArgs<T>& p, CudaStream stream) {
  scan<Pass::dr>(p, stream);
  scan<Pass::dk>(p, stream);
  scan<Pass::dv>(p, stream);
}

template <class T>
void wkv6(const Wkv6Args<T>& p, CudaStream stream) {
  if constexpr (std::is_same_v<T, BFloat16>)
    if (wkv6_kernel(p, shared_memory_of_block()) == Wkv6Kernel::chunked) return wkv6_chunked(p, stream);
  wkv6_sequential(p, stream);
}

template <class T>
void wkv6_backward(const Wkv6BackwardArgs<T>& p, CudaStream stream) {
  if constexpr (std::is_same_v<T, BFloat16>)
    if (wkv6_kernel(p.forward, shared_memory_of_block()) == Wkv6Kernel::chunked)
      return wkv6_chunked_backward(p, stream);
  wkv6_sequential_backward(p, stream);
}

template void wkv6(const Wkv6Args<float>&, CudaStream);
template void wkv6(const Wkv6Args<double>&, CudaStream);
template void wkv6(const Wkv6Args<BFloat16>&, CudaStream);
template void wkv6_backward(const Wkv6BackwardArgs<float>&, CudaStream);
template void wkv6_backward(const Wkv6BackwardArgs<double>&, CudaStream);
template void wkv6_backward(const Wkv6BackwardArgs<BFloat16>&, CudaStream);
template void wkv6_sequential(const Wkv6Args<float>&, CudaStream);
template void wkv6_sequential(const Wkv6Args<double>&, CudaStream);
template void wkv6_sequential(const Wkv6Args<BFloat16>&, CudaStream);
template void wkv6_sequential_backward(const Wkv6BackwardArgs<float>&, CudaStream);
template void wkv6_sequential_backward(const Wkv6BackwardArgs<double>&, CudaStream);
template void wkv6_sequential_backward(const Wkv6BackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
