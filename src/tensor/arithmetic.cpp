// SPDX-License-Identifier: Apache-2.0
#include "tensor/arithmetic.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "base/parallel_for.h"
#include "tensor/arithmetic_kernels.h"
#include "tensor/float_formats.h"

namespace gf {
namespace cpu {

constexpr int64_t kRun = 1 << 15;  // elements a task: small enough to share out, large enough to be worth it

template <class T>
void fill(T* x, T value, int64_t n) {
  std::fill_n(x, n, value);
}

template <class T>
void add(const T* a, const T* b, T* out, int64_t n) {
  parallel_ranges(n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) out[i] = a[i] + b[i];
  });
}

template <class T>
void scale(T* x, T factor, int64_t n) {
  parallel_ranges(n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) x[i] *= factor;
  });
}

template <class T>
double sum_of_squares(const T* x, int64_t n) {
  const Blocks blocks = Blocks::of_length(n, kRun);
  std::vector<double> partial(blocks.size());
  parallel_for(blocks.size(), [&](int64_t b) {
    // Many sums at a time: one alone would wait for each of its additions.
    constexpr int64_t kSums = 32;
    double sums[kSums] = {};
    int64_t i = blocks.begin(b);
    for (; i + kSums <= blocks.end(b); i += kSums)
#pragma GCC unroll 32
      for (int64_t j = 0; j < kSums; ++j) sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
    for (; i < blocks.end(b); ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    partial[b] = std::accumulate(sums, sums + kSums, 0.0);
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  return sum;
}

}  // namespace cpu

namespace {
void check_alike(const char* op, const Tensor& a, const Tensor& b) {
  GF_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype() && a.device() == b.device(), op, ": ", a.shape(), " ",
           a.dtype(), " on ", a.device(), " and ", b.shape(), " ", b.dtype(), " on ", b.device());
}
}  // namespace

void fill_zero(const Tensor& t) {
  on_device(
      t.device(), [&] { std::memset(t.raw(), 0, t.bytes()); },
      [&](auto stream) { cuda::fill_zero(t.raw(), t.bytes(), stream); });
}

// The address stays: an anonymous page that is given back reads as zeros, and is there again once it is written to.
void discard(const Tensor& t) {
  on_device(
      t.device(),
      [&] {
        const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        const auto begin = reinterpret_cast<uintptr_t>(t.raw()), end = begin + t.bytes();
        const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
        if (first >= last) return fill_zero(t);
        std::memset(t.raw(), 0, first - begin);
        std::memset(reinterpret_cast<void*>(last), 0, end - last);
        if (madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED) != 0) fill_zero(t);
      },
      [&](auto stream) { cuda::fill_zero(t.raw(), t.bytes(), stream); });
}

void fill(const Tensor& t, double value) {
  with_real(t.dtype(), [&]<class T>(Type<T>) {
    on_device(
        t.device(), [&] { cpu::fill(t.data<T>(), static_cast<T>(value), t.numel()); },
        [&](auto stream) { cuda::fill(t.data<T>(), static_cast<T>(value), t.numel(), stream); });
  });
}

void copy(const Tensor& from, const Tensor& to) {
  check_alike("copy", from, to);
  on_device(
      to.device(), [&] { std::memcpy(to.raw(), from.raw(), to.bytes()); },
      [&](auto stream) { cuda::copy(from.raw(), to.raw(), to.bytes(), stream); });
}

void add_to(const Tensor& sum, const Tensor& term) {
  add(sum, term, sum);
}

void add(const Tensor& a, const Tensor& b, const Tensor& out) {
  check_alike("add", a, b);
  check_alike("add", a, out);
  with_real(a.dtype(), [&]<class T>(Type<T>) {
    on_device(
        a.device(), [&] { cpu::add(a.data<T>(), b.data<T>(), out.data<T>(), a.numel()); },
        [&](auto stream) { cuda::add(a.data<T>(), b.data<T>(), out.data<T>(), a.numel(), stream); });
  });
}

void scale(const Tensor& t, double factor) {
  with_real(t.dtype(), [&]<class T>(Type<T>) {
    on_device(
        t.device(), [&] { cpu::scale(t.data<T>(), static_cast<T>(factor), t.numel()); },
        [&](auto stream) { cuda::scale(t.data<T>(), static_cast<T>(factor), t.numel(), stream); });
  });
}

double sum_of_squares(const Tensor& t) {
  double sum = 0;
  with_real(t.dtype(), [&]<class T>(Type<T>) {
    on_device(
        t.device(), [&] { sum = cpu::sum_of_squares(t.data<T>(), t.numel()); },
        [&](auto stream) { sum = cuda::sum_of_squares(t.data<T>(), t.numel(), stream); });
  });
  return sum;
}

namespace {

template <class From, class To, class F>
void convert_all(const Tensor& from, const Tensor& to, F&& f) {
  const From* const in = from.data<From>();
  To* const out = to.data<To>();
  parallel_ranges(from.numel(), cpu::kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) out[i] = f(in[i]);
  });
}

}  // namespace

void convert(const Tensor& from, const Tensor& to) {
  GF_CHECK(from.numel() == to.numel(), "convert: ", from.shape(), " to ", to.shape());
  const auto is = [&](DType a, DType b) { return from.dtype() == a && to.dtype() == b; };
  if (from.dtype() == to.dtype())
    std::memcpy(to.raw(), from.raw(), from.bytes());
  else if (is(DType::f32, DType::bf16))
    convert_all<float, BFloat16>(from, to, [](float x) { return BFloat16{bf16_from_float(x)}; });
  else if (is(DType::bf16, DType::f32))
    convert_all<BFloat16, float>(from, to, [](BFloat16 x) { return float_from_bf16(x.bits); });
  else if (is(DType::i32, DType::u16))
    convert_all<int32_t, uint16_t>(from, to, [](int32_t x) { return static_cast<uint16_t>(x); });
  else if (is(DType::u16, DType::i32))
    convert_all<uint16_t, int32_t>(from, to, [](uint16_t x) { return x; });
  else
    fail(cat("convert: from ", from.dtype(), " to ", to.dtype()));
}

}  // namespace gf
