// SPDX-License-Identifier: Apache-2.0
// Works on runs of kRun rows that stay in the cache: shift, both small products and the interpolation of a run
// follow each other before the next run is touched.
#include <vector>

#include "ops/cpu/gemm.h"
#include "ops/cpu/row_sums.h"
#include "ops/cpu/simd.h"
#include "ops/ddlerp/kernels.h"

namespace gf::cpu {
namespace {

constexpr int64_t kRun = 128;

// A thread's working memory: pieces of kRun x C, a row of zeros, and one for what nobody wants.
template <class T>
class Scratch {
 public:
  static Scratch& of(int64_t C) {
    thread_local Scratch scratch;
    scratch.C_ = C;
    scratch.rows_.resize(std::max<size_t>(scratch.rows_.size(), kPieces * kRun * C));
    scratch.zeros_.resize(std::max<size_t>(scratch.zeros_.size(), C));
    scratch.unwanted_.resize(scratch.zeros_.size());
    return scratch;
  }
  T* piece(int i) { return rows_.data() + i * kRun * C_; }
  const T* zeros() const { return zeros_.data(); }
  T* unwanted() { return unwanted_.data(); }

 private:
  static constexpr int64_t kPieces = 2;
  int64_t C_ = 0;
  std::vector<T> rows_, zeros_, unwanted_;
};

template <class T>
struct Row {
  const T *now, *before;
};

template <class T>
Row<T> row_of(const T* x, int64_t row, const DdlerpArgs<T>& p, const T* zeros) {
  const T* const now = x + row * p.C;
  return {now, row % p.Tn ? now - p.C : zeros};
}

// shifted = x + (x_before - x) mix_x for the rows [begin, end)
template <class T>
void shift_rows(const DdlerpArgs<T>& p, int64_t begin, int64_t end, const T* zeros, T* shifted) {
  for (int64_t row = begin; row < end; ++row) {
    const Row<T> x = row_of(p.sources[0], row, p, zeros);
    T* const out = shifted + (row - begin) * p.C;
#pragma omp simd
    for (int64_t c = 0; c < p.C; ++c) out[c] = x.now[c] + (x.before[c] - x.now[c]) * p.mix_x[c];
  }
}

// factors = z_i w2_i for the rows [begin, end): `out` kRun x C
template <class T>
void factors(const DdlerpArgs<T>& p, int i, int64_t begin, int64_t end, T* out) {
  const int64_t width = p.targets * p.R;
  gemm<T>(false, false, end - begin, p.C, p.R, T(1), p.z + begin * width + i * p.R, width, p.w2 + i * p.R * p.C, p.C,
          T(0), out, p.C);
}

template <class T>
void forward_run(const DdlerpArgs<T>& p, int64_t begin, int64_t end) {
  Scratch<T>& scratch = Scratch<T>::of(p.C);
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
      const Row<T> s = row_of(p.sources[p.source_of[i]], row, p, scratch.zeros());
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
        scratch_(Scratch<T>::of(f_.C)),
        dz_(kRun * width_) {}

  void run() {
    std::fill_n(partial_ + at_.dmix_x, at_.size - at_.dmix_x, T(0));
    for (int s = 0; s < f_.num_sources; ++s)
      std::fill(p_.dsources[s] + begin_ * f_.C, p_.dsources[s] + end_ * f_.C, T(0));
    for (int64_t begin = begin_; begin < end_; begin += kRun) {
      const int64_t end = std::min(begin + kRun, end_);
      std::fill(dz_.begin(), dz_.end(), T(0));
      for (int i = 0; i < f_.targets; ++i)
        if (p_.dout[i]) target(i, begin, end);
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

  void target(int i, int64_t begin, int64_t end) {
    const int64_t C = f_.C, rows = end - begin;
    const int source = f_.source_of[i];
    T* const factor = scratch_.piece(0);
    T* const dfactor = scratch_.piece(1);
    T* const dmix = partial_ + at_.dmix + i * C;
    factors(f_, i, begin, end, factor);
    for (int64_t row = begin; row < end; ++row)
      interpolate(source, row, p_.dout[i] + row * C, f_.mix[i], factor + (row - begin) * C,
                  [dm = dfactor + (row - begin) * C, dmix](int64_t c, T g) {
                    dm[c] = g;
                    dmix[c] += g;
                  });
    const T* const w2 = f_.w2 + i * f_.R * C;
    const T* const z = f_.z + begin * width_ + i * f_.R;
    gemm<T>(false, true, rows, f_.R, C, T(1), dfactor, C, w2, C, T(0), dz_.data() + i * f_.R, width_);
    gemm<T>(true, false, f_.R, C, rows, T(1), z, width_, dfactor, C, keep(begin), partial_ + at_.dw2 + i * f_.R * C, C);
  }

  // The backward pass of now + (before - now) share, with share = mix + factor, or mix alone where factor is null:
  // adds to the gradients of the row and of the one before it, and hands that of `share` to give(c, gradient).
  template <class Give>
  void interpolate(int source, int64_t row, const T* d, const T* mix, const T* factor, Give&& give) {
    const Row<T> s = row_of(f_.sources[source], row, f_, scratch_.zeros());
    T *const dnow = p_.dsources[source] + row * f_.C, *const dbefore = before(source, row);
#pragma omp simd
    for (int64_t c = 0; c < f_.C; ++c) {
      const T to_before = d[c] * (factor ? mix[c] + factor[c] : mix[c]);
      dnow[c] += d[c] - to_before;
      dbefore[c] += to_before;
      give(c, d[c] * (s.before[c] - s.now[c]));
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
    for (int64_t row = begin; row < end; ++row)
      interpolate(0, row, dshifted + (row - begin) * C, f_.mix_x, nullptr,
                  [dmix_x](int64_t c, T g) { dmix_x[c] += g; });
  }

  const DdlerpBackwardArgs<T>& p_;
  const DdlerpArgs<T>& f_;
  const int64_t width_;
  const DdlerpPartial at_;
  const int64_t begin_, end_;
  T* const partial_;
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
