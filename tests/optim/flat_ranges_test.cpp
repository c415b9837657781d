// SPDX-License-Identifier: Apache-2.0
#include "optim/flat_ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "support/bits.h"
#include "tensor/arithmetic.h"
#include "tensor/float_formats.h"

namespace gf {
namespace {

// Ranges that begin anywhere, one of several pieces, one empty, and numbers between them that are nobody's.
constexpr int64_t kFlat = 70'000, kStates = 60'000;

std::vector<FlatRanges::Range> ranges() {
  return {{{3, 4}, 0, {1, false}, 1},
          {{16, 40'003}, 1, {2, true}, 0.3},
          {{40'010, 40'010}, 40'000, {1, true}, 1},
          {{45'000, 61'384}, 40'100, {0.1, false}, 1},
          {{69'000, 69'333}, 59'000, {1, true}, 1}};
}

struct State {
  Tensor p, g, m, v;
};

Tensor hashed(const char* name, int64_t n, double size, double least) {
  const Random random(1, name);
  Tensor t = Tensor::empty({n}, DType::f32, kCpu);
  for (int64_t i = 0; i < n; ++i)
    t.data<float>()[i] = static_cast<float>(least + size * random.uniform(static_cast<uint64_t>(i)));
  return t;
}

State fresh() {
  return {hashed("p", kFlat, 1, 0), hashed("g", kFlat, 1e-2, 0), hashed("m", kStates, 1e-3, 0),
          hashed("v", kStates, 1e-5, 1e-5)};
}

AdamWArgs args_of(const State& s) {
  return {0,
          s.p.data<float>(),
          s.g.data<float>(),
          s.m.data<float>(),
          s.v.data<float>(),
          nullptr,
          0.5,
          1e-3,
          0.9,
          0.99,
          0.2,
          0.03,
          1e-8,
          0.1};
}

TEST(FlatRanges, EachIsUpdatedAtItsRateAndNothingElseIs) {
  const State all = fresh(), want = fresh();
  FlatRanges(ranges(), kCpu).adamw(args_of(all));
  for (const FlatRanges::Range& r : ranges()) {
    AdamWArgs one = args_of(want);
    one.n = r.flat.size();
    one.p += r.flat.begin, one.g += r.flat.begin, one.m += r.state, one.v += r.state;
    one.lr = 1e-3 * r.group.lr_scale * r.lr_scale, one.decay = r.group.decays ? 0.1 : 0;
    cpu::adamw(one);
  }
  EXPECT_TRUE(same_bits(all.p, want.p));
  EXPECT_TRUE(same_bits(all.g, want.g));
  EXPECT_TRUE(same_bits(all.m, want.m));
  EXPECT_TRUE(same_bits(all.v, want.v));
}

TEST(FlatRanges, SquaresAreThoseOfEach) {
  const Tensor flat = hashed("g", kFlat, 1, 0);
  FlatRanges some(ranges(), kCpu);
  some.begin_squares(flat);
  const auto squares = some.take_squares();
  ASSERT_EQ(squares.size(), ranges().size());
  for (size_t i = 0; i < squares.size(); ++i) {
    const FlatRange r = ranges()[i].flat;
    EXPECT_EQ(squares[i], sum_of_squares(flat.range(r.begin, r.end))) << i;
  }
}

// The numbers of each range, as they lie among the moments.
Tensor masters_of(const Tensor& flat) {
  const Tensor masters = Tensor::zeros({kStates}, DType::f32, kCpu);
  for (const FlatRanges::Range& r : ranges())
    std::copy_n(flat.data<float>() + r.flat.begin, r.flat.size(), masters.data<float>() + r.state);
  return masters;
}

// As values that are their own masters, of which each range's come out rounded; nothing between ranges is touched.
void expect_rounded(const Tensor& masters, const Tensor& rounded, const Tensor& want) {
  const Tensor want_masters = masters_of(want);
  EXPECT_TRUE(same_bits(masters, want_masters));
  std::vector<uint16_t> want_rounded(kFlat);
  for (const FlatRanges::Range& r : ranges())
    for (int64_t i = r.flat.begin; i < r.flat.end; ++i) want_rounded[i] = bf16_from_float(want.data<float>()[i]);
  for (int64_t i = 0; i < kFlat; ++i) ASSERT_EQ(rounded.data<BFloat16>()[i].bits, want_rounded[i]) << i;
}

TEST(FlatRanges, MastersLieAsTheMomentsDo) {
  const State all = fresh(), want = fresh();
  const Tensor masters = masters_of(all.p), rounded = Tensor::zeros({kFlat}, DType::bf16, kCpu);
  AdamWArgs args = args_of(all);
  args.p = masters.data<float>(), args.rounded = rounded.data<BFloat16>();
  FlatRanges(ranges(), kCpu).adamw(args);
  FlatRanges(ranges(), kCpu).adamw(args_of(want));
  expect_rounded(masters, rounded, want.p);
  EXPECT_TRUE(same_bits(all.p, fresh().p)) << "no masters of anybody's";
  EXPECT_TRUE(same_bits(all.g, want.g));
  EXPECT_TRUE(same_bits(all.m, want.m));
  EXPECT_TRUE(same_bits(all.v, want.v));
}

#ifdef GF_WITH_CUDA
constexpr Device kGpu{Device::Kind::cuda, 0};

// The same formula: what differs is how a compiler joins multiplications and additions.
TEST(FlatRangesOnGpu, AreUpdatedAsOnTheCpu) {
  const State here = fresh(), start = fresh();
  const State there{on(kGpu, here.p), on(kGpu, here.g), on(kGpu, here.m), on(kGpu, here.v)};
  FlatRanges(ranges(), kGpu).adamw(args_of(there));
  FlatRanges(ranges(), kCpu).adamw(args_of(here));
  const State back{on(kCpu, there.p), on(kCpu, there.g), on(kCpu, there.m), on(kCpu, there.v)};
  for (int64_t i = 0; i < kFlat; ++i) {
    const float value = here.p.data<float>()[i], moved = std::fabs(value - start.p.data<float>()[i]);
    ASSERT_NEAR(back.p.data<float>()[i], value, 1e-5F * moved + 1e-7F) << i;
    ASSERT_EQ(back.g.data<float>()[i], here.g.data<float>()[i]) << i;
  }
  for (int64_t i = 0; i < kStates; ++i) {
    ASSERT_NEAR(back.m.data<float>()[i], here.m.data<float>()[i], 1e-9F) << i;
    ASSERT_NEAR(back.v.data<float>()[i], here.v.data<float>()[i], 1e-11F) << i;
  }
}

TEST(FlatRangesOnGpu, MastersLieAsTheMomentsDo) {
  const auto there = [](const State& s) { return State{on(kGpu, s.p), on(kGpu, s.g), on(kGpu, s.m), on(kGpu, s.v)}; };
  const State start = fresh(), all = there(start), want = there(start);
  const Tensor masters = on(kGpu, masters_of(start.p)), rounded = Tensor::zeros({kFlat}, DType::bf16, kGpu);
  AdamWArgs args = args_of(all);
  args.p = masters.data<float>(), args.rounded = rounded.data<BFloat16>();
  FlatRanges(ranges(), kGpu).adamw(args);
  FlatRanges(ranges(), kGpu).adamw(args_of(want));
  expect_rounded(on(kCpu, masters), on(kCpu, rounded), on(kCpu, want.p));
}

TEST(FlatRangesOnGpu, SquaresAreThoseOfTheCpuTwiceTheSameBits) {
  const Tensor flat = hashed("g", kFlat, 1, 0), there = on(kGpu, flat);
  FlatRanges here(ranges(), kCpu), some(ranges(), kGpu), again(ranges(), kGpu);
  here.begin_squares(flat), some.begin_squares(there), again.begin_squares(there);
  const auto want = here.take_squares(), got = some.take_squares();
  EXPECT_EQ(again.take_squares(), got);
  ASSERT_EQ(got.size(), want.size());
  // At most 2^15 terms of one sign in double: 2^15 * 2^-53 is 4e-12.
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 4e-12 * want[i]) << i;
}
#endif

}  // namespace
}  // namespace gf
