// SPDX-License-Identifier: Apache-2.0
// Works on runs of rows that stay in the cache: shift, both small products and the interpolation of a run follow each
// other before the next run is touched.
#include <array>
#include <vector>

#include "ops/cpu/gemm.h"
#include "ops/cpu/row_sums.h"
#include "ops/cpu/simd.h"
#include "ops/cpu/with_constant.h"
#include "ops/ddlerp/kernels.h"

namespace gf::cpu {
namespace {

constexpr int64_t kRun = 128;  // rows

// In the backward pass a run has the factors of all targets in the second-level cache.
int64_t backward_run(int64_t C) {
  constexpr int64_t kWide = 512;
  return C > kWide ? kRun / 2 : kRun;
}

// A thread's working memory: pieces of a run's rows, a row of zeros, and one for what nobody wants.
template <class T>
class Scratch {
 public:
  static Scratch& of(int pieces, int64_t rows, int64_t C) {
    thread_local Scratch scratch;
    scratch.piece_ = rows * C;
    scratch.rows_.resize(std::max<size_t>(scratch.rows_.size(), pieces * rows * C));
    scratch.zeros_.resize(std::max<size_t>(scratch.zeros_.size(), C));
    scratch.unwanted_.resize(scratch.zeros_.size());
    return scratch;
  }
  T* piece(int i) { return rows_.data() + i * piece_; }
  const T* zeros() const { return zeros_.data(); }
  T* unwanted() { return unwanted_.data(); }

 private:
  int64_t piece_ = 0;
  std::vector<T> rows_, zeros_, unwanted_;
};

template <class T>
struct Row {
  const T *now, *before;
};

template <class T>
Row<T> row_of(int source, int64_t row, const DdlerpArgs<T>& p, const T* zeros) {
  const T* const now = p.sources[source] + row * p.C;
  if (row % p.Tn) return {now, now - p.C};
  return {now, p.before ? p.before + row / p.Tn * p.C : zeros};
}

// shifted = x + (x_before - x) mix_x for the rows [begin, end)
template <class T>
void shift_rows(const DdlerpArgs<T>& p, int64_t begin, int64_t end, const T* zeros, T* shifted) {
  for (int64_t row = begin; row < end; ++row) {
    const Row<T> x = row_of<T>(0, row, p, zeros);
    T* const out = shifted + (row - begin) * p.C;
#pragma omp simd
    for (int64_t c = 0; c < p.C; ++c) out[c] = x.now[c] + (x.before[c] - x.now[c]) * p.mix_x[c];
  }
}

// factors = z_i w2_i for the rows [begin, end)
template <class T>
void factors(const DdlerpArgs<T>& p, int i, int64_t begin, int64_t end, T* out) {
  const int64_t width = p.targets * p.R;
  gemm<T>(false, false, end - begin, p.C, p.R, T(1), p.z + begin * width + i * p.R, width, p.w2 + i * p.R * p.C, p.C,
          T(0), out, p.C);
}

template <class T>
void forward_run(const DdlerpArgs<T>& p, int64_t begin, int64_t end) {
  Scratch<T>& scratch = Scratch<T>::of(1, kRun, p.C);
  const int64_t width = p.targets * p.R;
  T* const z = p.z + begin * width;
  shift_rows(p, begin, end, scratch.zeros(), scratch.piece(0));
  gemm<T>(false, false, end - begin, width, p.C, T(1), scratch.piece(0), p.C, p.w1, width, T(0), z, width);
#pragma omp simd
  for (int64_t i = 0; i < (end - begin) * width; ++i) z[i] = simd::tanh(z[i]);
  for (int i = 0; i < p.targets; ++i) {
    factors(p, i, begin, end, p.out[i] + begin * p.C);
    const T* const mix = p.mix[i];
    for (int64_t row = begin; row < end; ++row) {
      const Row<T> s = row_of<T>(p.source_of[i], row, p, scratch.zeros());
      T* const out = p.out[i] + row * p.C;
#pragma omp simd
      for (int64_t c = 0; c < p.C; ++c) out[c] = s.now[c] + (s.before[c] - s.now[c]) * (mix[c] + out[c]);
    }
  }
}

// One block of rows in the backward pass.
template <class T>
class BackwardBlock {
 public:
  BackwardBlock(const DdlerpBackwardArgs<T>& p, int64_t begin, int64_t end, T* partial)
      : p_(p),
        f_(p.forward),
        width_(f_.targets * f_.R),
        at_(f_.C, f_.R, f_.targets, f_.num_sources),
        begin_(begin),
        end_(end),
        partial_(partial),
        run_(backward_run(f_.C)),
        scratch_(Scratch<T>::of(std::max(2, f_.targets), run_, f_.C)),
        dz_(run_ * width_) {}

  void run() {
    std::fill_n(partial_ + at_.dmix_x, at_.size - at_.dmix_x, T(0));
    for (int64_t begin = begin_; begin < end_; begin += run_) {
      const int64_t end = std::min(begin + run_, end_);
      std::fill(dz_.begin(), dz_.end(), T(0));
      for (int s = 0; s < f_.num_sources; ++s) source(s, begin, end);
      mixing_input(begin, end);
    }
    for (int i = 0; i < f_.targets; ++i)
      if (!p_.dout[i]) std::fill_n(partial_ + at_.dw2 + i * f_.R * f_.C, f_.R * f_.C, T(0));
  }

 private:
  // The products of a block's first run replace what is there, those of later runs are added.
  T keep(int64_t begin) const { return begin == begin_ ? T(0) : T(1); }

  // Where the gradient of the row before `row` goes: into the source's gradient, or beside it where another block
  // owns that row. Before the first row of a sequence there is none.
  T* before(int source, int64_t row) {
    if (row % f_.Tn == 0) return scratch_.unwanted();
    return row > begin_ ? p_.dsources[source] + (row - 1) * f_.C : partial_ + at_.before + source * f_.C;
  }

  // The targets that come from one source, together: its gradient is written once, not once a target.
  void source(int source, int64_t begin, int64_t end) {
    const int64_t C = f_.C, rows = end - begin;
    std::array<int, kMaxDdlerpTargets> targets{};
    int count = 0;
    for (int i = 0; i < f_.targets; ++i)
      if (f_.source_of[i] == source && p_.dout[i]) targets[count++] = i;
    for (int k = 0; k < count; ++k) factors(f_, targets[k], begin, end, scratch_.piece(k));
    with_constant<0, kMaxDdlerpTargets>(count, [&](auto n) {
      for (int64_t row = begin; row < end; ++row) interpolate<n>(source, row, targets.data(), (row - begin) * C);
    });
    for (int k = 0; k < count; ++k) {
      const int i = targets[k];
      const T* const dfactor = scratch_.piece(k);
      const T* const w2 = f_.w2 + i * f_.R * C;
      const T* const z = f_.z + begin * width_ + i * f_.R;
      gemm<T>(false, true, rows, f_.R, C, T(1), dfactor, C, w2, C, T(0), dz_.data() + i * f_.R, width_);
      gemm<T>(true, false, f_.R, C, rows, T(1), z, width_, dfactor, C, keep(begin), partial_ + at_.dw2 + i * f_.R * C,
              C);
    }
  }

  // The backward pass of now + (before - now) (mix + factor) for a row and n targets: sets the gradient of the row,
  // adds to that of the one before it, and leaves the gradients of the factors in their place.
  template <int n>
  void interpolate(int source, int64_t row, const int* targets, int64_t at) {
    const Row<T> s = row_of<T>(source, row, f_, scratch_.zeros());
    T *const dnow = p_.dsources[source] + row * f_.C, *const dbefore = before(source, row);
    std::array<const T*, n> d, mix;
    std::array<T*, n> factor, dmix;
    for (int k = 0; k < n; ++k) {
      d[k] = p_.dout[targets[k]] + row * f_.C;
      mix[k] = f_.mix[targets[k]];
      factor[k] = scratch_.piece(k) + at;
      dmix[k] = partial_ + at_.dmix + targets[k] * f_.C;
    }
#pragma omp simd
    for (int64_t c = 0; c < f_.C; ++c) {
      const T step = s.before[c] - s.now[c];
      T all = 0, to_before = 0;
      for (int k = 0; k < n; ++k) {
        const T dk = d[k][c], dshare = dk * step;
        all += dk;
        to_before += dk * (mix[k][c] + factor[k][c]);
        factor[k][c] = dshare;
        dmix[k][c] += dshare;
      }
      dnow[c] = all - to_before;
      dbefore[c] += to_before;
    }
  }

  void mixing_input(int64_t begin, int64_t end) {
    const int64_t C = f_.C, rows = end - begin;
    const T* const z = f_.z + begin * width_;
#pragma omp simd
    for (int64_t i = 0; i < rows * width_; ++i) dz_[i] *= T(1) - z[i] * z[i];
    T* const shifted = scratch_.piece(0);
    T* const dshifted = scratch_.piece(1);
    shift_rows(f_, begin, end, scratch_.zeros(), shifted);
    gemm<T>(true, false, C, width_, rows, T(1), shifted, C, dz_.data(), width_, keep(begin), partial_ + at_.dw1,
            width_);
    gemm<T>(false, true, rows, C, width_, T(1), dz_.data(), width_, f_.w1, width_, T(0), dshifted, C);
    T* const dmix_x = partial_ + at_.dmix_x;
    for (int64_t row = begin; row < end; ++row) {
      const Row<T> x = row_of<T>(0, row, f_, scratch_.zeros());
      T *const dnow = p_.dsources[0] + row * C, *const dbefore = before(0, row);
      const T* const d = dshifted + (row - begin) * C;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) {
        const T to_before = d[c] * f_.mix_x[c];
        dnow[c] += d[c] - to_before;
        dbefore[c] += to_before;
        dmix_x[c] += d[c] * (x.before[c] - x.now[c]);
      }
    }
  }

  const DdlerpBackwardArgs<T>& p_;
  const DdlerpArgs<T>& f_;
  const int64_t width_;
  const DdlerpPartial at_;
  const int64_t begin_, end_;
  T* const partial_;
  const int64_t run_;
  Scratch<T>& scratch_;
  std::vector<T> dz_;
};

}  // namespace

template <class T>
void ddlerp(const DdlerpArgs<T>& p) {
  parallel_ranges(p.B * p.Tn, kRun, [&](int64_t begin, int64_t end) { forward_run(p, begin, end); });
}

template <class T>
void ddlerp_backward(const DdlerpBackwardArgs<T>& p) {
  const DdlerpArgs<T>& f = p.forward;
  const int64_t C = f.C, weight = f.targets * f.R * C;
  const Blocks blocks = ddlerp_blocks(f.B * f.Tn);
  const DdlerpPartial at(C, f.R, f.targets, f.num_sources);
  parallel_for(blocks.size(),
               [&](int64_t b) { BackwardBlock<T>(p, blocks.begin(b), blocks.end(b), p.partial + b * at.size).run(); });
  for (int64_t b = 1; b < blocks.size(); ++b)
    for (int s = 0; s < f.num_sources; ++s) {
      const T* const from = p.partial + b * at.size + at.before + s * C;
      T* const to = p.dsources[s] + (blocks.begin(b) - 1) * C;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) to[c] += from[c];
    }
  const auto sum = [&](int64_t from, int64_t n, T* into) {
    if (into) add_partial_rows(p.partial + from, blocks.size(), at.size, n, into);
  };
  sum(at.dw1, weight, p.dw1);
  sum(at.dw2, weight, p.dw2);
  sum(at.dmix_x, C, p.dmix_x);
  for (int i = 0; i < f.targets; ++i) sum(at.dmix + i * C, C, p.dmix[i]);
}

template void ddlerp(const DdlerpArgs<float>&);
template void ddlerp(const DdlerpArgs<double>&);
template void ddlerp_backward(const DdlerpBackwardArgs<float>&);
template void ddlerp_backward(const DdlerpBackwardArgs<double>&);

}  // namespace gf::cpu
