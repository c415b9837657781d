// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ops/cpu/row_sums.h"
#include "ops/cpu/simd.h"
#include "ops/elementwise/kernels.h"

namespace gf::cpu {
namespace {

constexpr int64_t kRun = 1 << 13;  // elements a task: with a sigmoid each, some ten microseconds

}  // namespace

template <class T>
void swiglu(const SwigluArgs<T>& p) {
  parallel_ranges(p.n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) p.out[i] = p.a[i] * simd::sigmoid(p.a[i]) * p.b[i];
  });
}

template <class T>
void swiglu_backward(const SwigluBackwardArgs<T>& p) {
  parallel_ranges(p.n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const T a = p.a[i], d = p.dout[i], s = simd::sigmoid(a);
      p.da[i] = d * p.b[i] * (s * (T(1) + a * (T(1) - s)));
      p.db[i] = d * (a * s);
    }
  });
}

template <class T>
void sigmoid_gate(const SigmoidGateArgs<T>& p) {
  parallel_ranges(p.n, kRun, [&](int64_t begin, int64_t end) {
    if (p.x) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) p.out[i] = p.x[i] + simd::sigmoid(p.r[i]) * p.v[i];
    } else {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) p.out[i] = simd::sigmoid(p.r[i]) * p.v[i];
    }
  });
}

template <class T>
void sigmoid_gate_backward(const SigmoidGateBackwardArgs<T>& p) {
  parallel_ranges(p.n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const T d = p.dout[i], s = simd::sigmoid(p.r[i]);
      p.dr[i] = d * p.v[i] * (s * (T(1) - s));
      p.dv[i] = d * s;
    }
  });
}

template <class T>
void dropout(const DropoutArgs<T>& p) {
  const Blocks runs = Blocks::of_length(p.per_sample, kRun);
  parallel_for(p.num_samples * runs.size(), [&](int64_t task) {
    const int64_t sample = task / runs.size(), run = task % runs.size();
    const T* const x = p.x + sample * p.per_sample;
    T* const y = p.y + sample * p.per_sample;
    const uint64_t first = static_cast<uint64_t>(p.samples[sample]) * static_cast<uint64_t>(p.per_sample);
    const Random random = p.random;
    const uint64_t drop_below = p.drop_below;
    const T factor = p.factor;
#pragma omp simd
    for (int64_t i = runs.begin(run); i < runs.end(run); ++i) {
      const T scaled = x[i] * factor;
      y[i] = random.bits(first + static_cast<uint64_t>(i)) >= drop_below ? scaled : T(0);
    }
  });
}

template <class T>
void broadcast_rows(const BroadcastRowsArgs<T>& p) {
  parallel_ranges(p.M, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) std::copy_n(p.row, p.C, p.out + row * p.C);
  });
}

template <class T>
void broadcast_rows_backward(const BroadcastRowsBackwardArgs<T>& p) {
  const Blocks blocks = row_blocks(p.M);
  parallel_for(blocks.size(), [&](int64_t block) {
    T* const sum = p.partial + block * p.C;
    std::fill_n(sum, p.C, T(0));
    for (int64_t row = blocks.begin(block); row < blocks.end(block); ++row) {
      const T* const d = p.dout + row * p.C;
#pragma omp simd
      for (int64_t c = 0; c < p.C; ++c) sum[c] += d[c];
    }
  });
  add_partial_rows(p.partial, blocks.size(), p.C, p.C, p.drow);
}

template void swiglu(const SwigluArgs<float>&);
template void swiglu(const SwigluArgs<double>&);
template void swiglu_backward(const SwigluBackwardArgs<float>&);
template void swiglu_backward(const SwigluBackwardArgs<double>&);
template void sigmoid_gate(const SigmoidGateArgs<float>&);
template void sigmoid_gate(const SigmoidGateArgs<double>&);
template void sigmoid_gate_backward(const SigmoidGateBackwardArgs<float>&);
template void sigmoid_gate_backward(const SigmoidGateBackwardArgs<double>&);
template void dropout(const DropoutArgs<float>&);
template void dropout(const DropoutArgs<double>&);
template void broadcast_rows(const BroadcastRowsArgs<float>&);
template void broadcast_rows(const BroadcastRowsArgs<double>&);
template void broadcast_rows_backward(const BroadcastRowsBackwardArgs<float>&);
template void broadcast_rows_backward(const BroadcastRowsBackwardArgs<double>&);

}  // namespace gf::cpu
