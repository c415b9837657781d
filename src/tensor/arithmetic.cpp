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
void fill(const FillArgs<T>& a) {
  std::fill_n(a.x, a.n, a.value);
}

template <class T>
void add(const AddArgs<T>& a) {
  parallel_ranges(a.n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) a.out[i] = a.a[i] + a.b[i];
  });
}

template <class T>
void scale(const ScaleArgs<T>& a) {
  parallel_ranges(a.n, kRun, [&](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) a.x[i] *= a.factor;
  });
}

template <class T>
void sum_of_squares(const SumOfSquaresArgs<T>& a) {
  const T* const x = a.x;
  const Blocks blocks = Blocks::of_length(a.n, kRun);
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
  *a.sum = std::accumulate(partial.begin(), partial.end(), 0.0);
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
  with_float(t.dtype(), [&]<class T>(Type<T>) {
    on_device(
        t.device(), FillArgs<T>{t.numel(), static_cast<T>(value), t.data<T>()}, [](const auto& p) { cpu::fill(p); },
        [](const auto& p, auto stream) { cuda::fill(p, stream); });
  });
}

void copy(const Tensor& from, const Tensor& to) {
  GF_CHECK(from.shape() == to.shape() && from.dtype() == to.dtype(), "copy: ", from.shape(), " ", from.dtype(), " to ",
           to.shape(), " ", to.dtype());
  on_device(
      to.device() == kCpu ? from.device() : to.device(), [&] { std::memcpy(to.raw(), from.raw(), to.bytes()); },
      [&](auto stream) {
        cuda::copy(from.raw(), to.raw(), to.bytes(), stream);
        if (to.device() == kCpu) cuda::synchronize(stream);
      });
}

void add_to(const Tensor& sum, const Tensor& term) {
  if (sum.dtype() == term.dtype()) return add(sum, term, sum);
  GF_CHECK(sum.shape() == term.shape() && sum.dtype() == inner(term.dtype()), "add_to: ", sum.shape(), " ", sum.dtype(),
           " and ", term.shape(), " ", term.dtype());
  with_real(term.dtype(), [&]<class T>(Type<T>) {
    on_device(
        sum.device(), AccumulateArgs<T>{term.numel(), term.data<T>(), sum.data<Inner<T>>()},
        [](const auto&) { GF_CHECK(false, "bf16 added up on a CPU"); },
        [](const auto& p, auto stream) { cuda::accumulate(p, stream); });
  });
}

void add(const Tensor& a, const Tensor& b, const Tensor& out) {
  check_alike("add", a, b);
  check_alike("add", a, out);
  with_real(a.dtype(), [&]<class T>(Type<T>) {
    on_device(
        a.device(), AddArgs<T>{a.numel(), a.data<T>(), b.data<T>(), out.data<T>()}, [](const auto& p) { cpu::add(p); },
        [](const auto& p, auto stream) { cuda::add(p, stream); });
  });
}

void scale(const Tensor& t, double factor) {
  with_real(t.dtype(), [&]<class T>(Type<T>) {
    on_device(
        t.device(), ScaleArgs<T>{t.numel(), static_cast<Inner<T>>(factor), t.data<T>()},
        [](const auto& p) { cpu::scale(p); }, [](const auto& p, auto stream) { cuda::scale(p, stream); });
  });
}

double sum_of_squares(const Tensor& t) {
  const Tensor numbers = Tensor::empty({1 + (t.device() == kCpu ? 0 : kPartialSums)}, DType::f64, t.device());
  double* const sum = numbers.data<double>();
  with_real(t.dtype(), [&]<class T>(Type<T>) {
    on_device(
        t.device(), SumOfSquaresArgs<T>{t.numel(), t.data<T>(), sum, sum + 1},
        [](const auto& p) { cpu::sum_of_squares(p); },
        [](const auto& p, auto stream) { cuda::sum_of_squares(p, stream); });
  });
  return t.device().kind == Device::Kind::meta ? 0 : on(kCpu, numbers.range(0, 1)).data<double>()[0];
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
  if (from.dtype() == to.dtype()) return copy(from.view(to.shape()), to);
  GF_CHECK(from.device() == to.device(), "convert: from ", from.device(), " to ", to.device());
  const auto is = [&](DType a, DType b) { return from.dtype() == a && to.dtype() == b; };
  on_device(
      from.device(),
      [&] {
        if (is(DType::f32, DType::bf16))
          convert_all<float, BFloat16>(from, to, [](float x) { return BFloat16{bf16_from_float(x)}; });
        else if (is(DType::bf16, DType::f32))
          convert_all<BFloat16, float>(from, to, [](BFloat16 x) { return float_from_bf16(x.bits); });
        else if (is(DType::i32, DType::u16))
          convert_all<int32_t, uint16_t>(from, to, [](int32_t x) { return static_cast<uint16_t>(x); });
        else if (is(DType::u16, DType::i32))
          convert_all<uint16_t, int32_t>(from, to, [](uint16_t x) { return x; });
        else
          fail(cat("convert: from ", from.dtype(), " to ", to.dtype()));
      },
      [&](auto stream) {
        if (is(DType::f32, DType::bf16))
          cuda::convert(from.data<float>(), to.data<BFloat16>(), from.numel(), stream);
        else if (is(DType::bf16, DType::f32))
          cuda::convert(from.data<BFloat16>(), to.data<float>(), from.numel(), stream);
        else
          fail(cat("convert on a GPU: from ", from.dtype(), " to ", to.dtype()));
      });
}

Tensor on(Device device, const Tensor& t) {
  if (!t || t.device() == device) return t;
  Tensor there = Tensor::empty(t.shape(), t.dtype(), device);
  copy(t, there);
  return there;
}

}  // namespace gf
