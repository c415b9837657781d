// SPDX-License-Identifier: Apache-2.0
// The products are cuBLASLt's. Between them one block a row reads its logits twice: for the largest and the sum of the
// exponentials, and to write the gradient in their place. Memory is the limit: a row of V = 65536 is 256 KB, more than
// a block could keep; two of them on each of 132 processors are a little more than the L2 cache, so that the second
// time some come from there. 8 V bytes read and 2 V written at most. A row without a target gets a gradient of zero, so
// that nothing waits for the CPU.
#include <cmath>
#include <limits>

#include "ops/cuda/gemm.h"
#include "ops/head_loss/kernels.h"
#include "tensor/batch.h"
#include "tensor/cuda/block.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"
#include "tensor/cuda/pack.cuh"

namespace gf::cuda {
namespace {

constexpr int kNumbers = 4;  // logits that a thread reads at once; a row begins at a multiple of 64 bytes

// Of logits: the largest, its index (the first of equals), and the sum of exp(logit - largest). A NaN never compares as
// larger; it shows in the sum.
template <class Real>
struct Softmax {
  Real top = -std::numeric_limits<Real>::infinity();
  int index = std::numeric_limits<int>::max();
  Real sum = 0;

  // Of the logits from index v on. Those that are -infinity add nothing, also where all so far are.
  __device__ void add(const Pack<Real, kNumbers>& x, int v) {
    const Real before = top;
#pragma unroll
    for (int i = 0; i < kNumbers; ++i)
      if (x.x[i] > top) top = x.x[i], index = v + i;
    const Real base = reference();
    sum *= exp(before - base);
#pragma unroll
    for (int i = 0; i < kNumbers; ++i) sum += exp(x.x[i] - base);
  }

  // What exponents are taken below.
  __device__ Real reference() const {
    return top == -std::numeric_limits<Real>::infinity() ? Real(0) : top;
  }
};

// Of all threads' logits, in each thread; the sum in double.
template <class Real>
struct RowSoftmax {
  Real top;
  int index;
  double sum;
};

template <class Real>
__device__ RowSoftmax<Real> of_block(const Softmax<Real>& own) {
  __shared__ Real tops[kWarp];
  __shared__ int indices[kWarp];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  Real top = own.top;
  int index = own.index;
  const auto over_warp = [&] {
    for (int away = kWarp / 2; away > 0; away /= 2) {
      const Real other = __shfl_xor_sync(kAllLanes, top, away);
      const int at = __shfl_xor_sync(kAllLanes, index, away);
      if (other > top || (other == top && at < index)) top = other, index = at;
    }
  };
  over_warp();
  if (lane == 0) tops[warp] = top, indices[warp] = index;
  __syncthreads();
  top = lane < warps ? tops[lane] : -std::numeric_limits<Real>::infinity();
  index = lane < warps ? indices[lane] : std::numeric_limits<int>::max();
  over_warp();
  const double sum = block_sum(static_cast<double>(own.sum) * static_cast<double>(exp(own.top - top)));
  // Infinity minus itself: a largest logit that is no number makes the sum none.
  return {top, index, sum + static_cast<double>(top - top)};
}

template <class T>
__device__ Softmax<Inner<T>> of_thread(const Inner<T>* logits, int V) {
  Softmax<Inner<T>> softmax;
  const int stride = static_cast<int>(blockDim.x) * kNumbers;
  for (int v = static_cast<int>(threadIdx.x) * kNumbers; v < V; v += stride) {
    auto pack = load<kNumbers>(logits + v);
#pragma unroll
    for (int i = 0; i < kNumbers; ++i)
      if (v + i >= V) pack.x[i] = -std::numeric_limits<Inner<T>>::infinity();  // padding
    softmax.add(pack, v);
  }
  return softmax;
}

// The gradient of a row's logits in their place: as Ts, which in bf16 take the first half. A thread's are read before
// the barrier and written after it, when what they are written over has been read by all.
template <class T, class Gradient>
__device__ void write_gradient(Inner<T>* logits, int V, const Gradient& gradient) {
  T* const out = reinterpret_cast<T*>(logits);
  const int stride = static_cast<int>(blockDim.x) * kNumbers;
  for (int base = 0; base < V; base += stride) {
    const int v = base + static_cast<int>(threadIdx.x) * kNumbers;
    Pack<T, kNumbers> pack{};
    if (v < V) {
      const auto from = load<kNumbers>(logits + v);
#pragma unroll
      for (int i = 0; i < kNumbers; ++i) pack.x[i] = narrow<T>(gradient(from.x[i], v + i));
    }
    __syncthreads();
    if (v < V) store(out + v, pack);
  }
}

// Row blockIdx.x of the chunk, position first + blockIdx.x.
template <class T>
__global__ void __launch_bounds__(1024) row_kernel(HeadLossArgs<T> p, int64_t first) {
  using Real = Inner<T>;
  const int64_t m = first + blockIdx.x;
  const int V = static_cast<int>(p.V), target = p.targets[m];
  Real* const logits = p.logits + int64_t{blockIdx.x} * p.chunks.stride;
  const bool gradients = p.dx || p.dw;
  if (p.masked && target == kNoTarget) {
    if (threadIdx.x == 0) p.losses[m] = 0, p.correct[m] = 0;
    if (gradients) write_gradient<T>(logits, V, [](Real, int) { return Real(0); });
    return;
  }
  const bool known = target >= 0 && target < V;  // else a bug of ours: the loss will be a NaN
  const Real of_target = known ? logits[target] : std::numeric_limits<Real>::quiet_NaN();
  const RowSoftmax<Real> row = of_block(of_thread<T>(logits, V));
  if (threadIdx.x == 0) {
    p.losses[m] = log(row.sum) + (static_cast<double>(row.top) - static_cast<double>(of_target));
    p.correct[m] = row.index == target;
  }
  if (!gradients) return;
  // Gradients below 2^-100 are taken as zero, as on a CPU.
  const auto factor = static_cast<Real>(p.scale / row.sum), least = static_cast<Real>(0x1p-100) / factor;
  const auto scale = static_cast<Real>(p.scale), pull = static_cast<Real>(p.pull * p.scale) * row.top;
  const bool pulls = p.pull != 0;
  write_gradient<T>(logits, V, [=](Real logit, int v) {
    const Real e = exp(logit - row.top);
    Real gradient = (e < least ? Real(0) : e) * factor;
    if (v == target) gradient -= scale;
    if (pulls && v == row.index) gradient += pull;
    return gradient;
  });
}

// One block: each thread every blockDim-th position's loss, then the threads' sums, always in the same order.
template <class T>
__global__ void sum_kernel(HeadLossArgs<T> p) {
  double sum = 0;
  for (int64_t m = threadIdx.x; m < p.M; m += blockDim.x) sum += p.losses[m];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *p.loss = static_cast<Inner<T>>(p.scale * sum);
}

// So many that a thread of a wide row has 64 logits, one of a small vocabulary 16.
unsigned threads_of_row(int64_t V) {
  return static_cast<unsigned>(std::clamp<int64_t>((V / 16 + kWarp - 1) / kWarp * kWarp, kWarp, 1024));
}

}  // namespace

template <class T>
void head_loss(const HeadLossArgs<T>& p, CudaStream stream) {
  using Real = Inner<T>;
  GF_CHECK(p.V <= std::numeric_limits<int>::max() - 8192, "head_loss: a vocabulary of ", p.V);
  const T* const gradients = reinterpret_cast<const T*>(p.logits);
  const int64_t stride = p.chunks.stride, gradient_stride = stride * static_cast<int64_t>(sizeof(Real) / sizeof(T));
  for (int64_t first = 0; first < p.M; first += p.chunks.rows) {
    const int64_t rows = std::min(p.chunks.rows, p.M - first);
    const T* const x = p.x + first * p.C;
    gemm(stream, {false, true, rows, p.V, p.C, p.C, p.C, stride}, Real(1), x, p.w, Real(0), p.logits);
    launch(stream, static_cast<unsigned>(rows), threads_of_row(p.V), 0, row_kernel<T>, p, first);
    if (p.dx)
      gemm(stream, {false, false, rows, p.C, p.V, gradient_stride, p.C, p.C}, Real(1), gradients, p.w, Real(0),
           p.dx + first * p.C);
    if (p.dw)
      gemm(stream, {true, false, p.V, p.C, rows, gradient_stride, p.C, p.C}, Real(1), gradients, x, Real(1), p.dw);
  }
  launch(stream, 1, 1024, 0, sum_kernel<T>, p);
}

template void head_loss(const HeadLossArgs<float>&, CudaStream);
template void head_loss(const HeadLossArgs<double>&, CudaStream);
template void head_loss(const HeadLossArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
