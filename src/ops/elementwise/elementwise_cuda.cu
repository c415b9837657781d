// SPDX-License-Identifier: Apache-2.0
#include "ops/cuda/row_sums.cuh"
#include "ops/elementwise/kernels.h"
#include "tensor/cuda/numbers.cuh"

namespace gf::cuda {
namespace {

template <class T>
__device__ T sigmoid(T x) {
  return 1 / (1 + exp(-x));
}

// Of each column over the rows of a block.
template <class T>
__global__ void column_sums_kernel(BroadcastRowsBackwardArgs<T> a, Blocks blocks) {
  const int64_t c = int64_t{blockIdx.x} * blockDim.x + threadIdx.x, b = blockIdx.y;
  if (c >= a.C) return;
  Inner<T> sum = 0;
  for (int64_t row = blocks.begin(b); row < blocks.end(b); ++row) sum += wide(a.dout[row * a.C + c]);
  a.partial[b * a.C + c] = sum;
}

}  // namespace

template <class T>
void swiglu(const SwigluArgs<T>& p, CudaStream stream) {
  each_number(
      stream, p.n,
      [] __device__(const T& a, const T& b, T& out) { out = narrow<T>(wide(a) * sigmoid(wide(a)) * wide(b)); }, p.a,
      p.b, p.out);
}

template <class T>
void swiglu_backward(const SwigluBackwardArgs<T>& p, CudaStream stream) {
  each_number(
      stream, p.n,
      [] __device__(const T& a, const T& b, const T& dout, T& da, T& db) {
        const auto s = sigmoid(wide(a));
        da = narrow<T>(wide(dout) * wide(b) * s * (1 + wide(a) * (1 - s)));
        db = narrow<T>(wide(dout) * wide(a) * s);
      },
      p.a, p.b, p.dout, p.da, p.db);
}

template <class T>
void sigmoid_gate(const SigmoidGateArgs<T>& p, CudaStream stream) {
  if (p.x)
    each_number(
        stream, p.n,
        [] __device__(const T& x, const T& r, const T& v, T& out) {
          out = narrow<T>(wide(x) + sigmoid(wide(r)) * wide(v));
        },
        p.x, p.r, p.v, p.out);
  else
    each_number(
        stream, p.n, [] __device__(const T& r, const T& v, T& out) { out = narrow<T>(sigmoid(wide(r)) * wide(v)); },
        p.r, p.v, p.out);
}

template <class T>
void sigmoid_gate_backward(const SigmoidGateBackwardArgs<T>& p, CudaStream stream) {
  each_number(
      stream, p.n,
      [] __device__(const T& r, const T& v, const T& dout, T& dr, T& dv) {
        const auto s = sigmoid(wide(r));
        dr = narrow<T>(wide(dout) * wide(v) * s * (1 - s));
        dv = narrow<T>(wide(dout) * s);
      },
      p.r, p.v, p.dout, p.dr, p.dv);
}

template <class T>
void dropout(const DropoutArgs<T>& p, CudaStream stream) {
  for (int64_t sample = 0; sample < p.num_samples; ++sample) {
    const uint64_t first = static_cast<uint64_t>(p.samples[sample]) * static_cast<uint64_t>(p.per_sample);
    const T* const x = p.x + sample * p.per_sample;
    T* const y = p.y + sample * p.per_sample;
    each(stream, p.per_sample,
         [x, y, first, random = p.random, drop_below = p.drop_below, factor = p.factor] __device__(int64_t i) {
           const bool kept = random.bits(first + static_cast<uint64_t>(i)) >= drop_below;
           y[i] = narrow<T>(kept ? wide(x[i]) * factor : 0);
         });
  }
}

template <class T>
void broadcast_rows(const BroadcastRowsArgs<T>& p, CudaStream stream) {
  each(stream, p.M * p.C, [p] __device__(int64_t i) { p.out[i] = p.row[i % p.C]; });
}

template <class T>
void broadcast_rows_backward(const BroadcastRowsBackwardArgs<T>& p, CudaStream stream) {
  constexpr int kBlock = 128;
  const Blocks blocks = row_blocks(p.M);
  launch(stream, {blocks_of(p.C, kBlock), static_cast<unsigned>(blocks.size())}, kBlock, 0, column_sums_kernel<T>, p,
         blocks);
  add_partial_rows(stream, p.partial, blocks.size(), p.C, p.C, p.drow);
}

template void swiglu(const SwigluArgs<float>&, CudaStream);
template void swiglu(const SwigluArgs<double>&, CudaStream);
template void swiglu(const SwigluArgs<BFloat16>&, CudaStream);
template void swiglu_backward(const SwigluBackwardArgs<float>&, CudaStream);
template void swiglu_backward(const SwigluBackwardArgs<double>&, CudaStream);
template void swiglu_backward(const SwigluBackwardArgs<BFloat16>&, CudaStream);
template void sigmoid_gate(const SigmoidGateArgs<float>&, CudaStream);
template void sigmoid_gate(const SigmoidGateArgs<double>&, CudaStream);
template void sigmoid_gate(const SigmoidGateArgs<BFloat16>&, CudaStream);
template void sigmoid_gate_backward(const SigmoidGateBackwardArgs<float>&, CudaStream);
template void sigmoid_gate_backward(const SigmoidGateBackwardArgs<double>&, CudaStream);
template void sigmoid_gate_backward(const SigmoidGateBackwardArgs<BFloat16>&, CudaStream);
template void dropout(const DropoutArgs<float>&, CudaStream);
template void dropout(const DropoutArgs<double>&, CudaStream);
template void dropout(const DropoutArgs<BFloat16>&, CudaStream);
template void broadcast_rows(const BroadcastRowsArgs<float>&, CudaStream);
template void broadcast_rows(const BroadcastRowsArgs<double>&, CudaStream);
template void broadcast_rows(const BroadcastRowsArgs<BFloat16>&, CudaStream);
template void broadcast_rows_backward(const BroadcastRowsBackwardArgs<float>&, CudaStream);
template void broadcast_rows_backward(const BroadcastRowsBackwardArgs<double>&, CudaStream);
template void broadcast_rows_backward(const BroadcastRowsBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
