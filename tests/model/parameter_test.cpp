// SPDX-License-Identifier: Apache-2.0
#include "model/parameter.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/process_memory.h"
#include "support/bits.h"
#include "support/expect_error.h"
#include "tensor/float_formats.h"

namespace gf {
namespace {

ParameterSpec spec(Shape shape) {
  return {shape, Role::matrix, Init::constant(0)};
}

TEST(ParameterStore, LiesFlatAndAligned) {
  ParameterStore store;
  store.add("a", spec({3, 5}));
  store.add("b", spec({16}));
  store.add("c", spec({1, 1, 17}));
  EXPECT_EQ(store.count(), 15 + 16 + 17);
  EXPECT_EQ(store.flat_size(), 16 + 16 + 32);
  store.allocate(kCpu, DType::f32, ParameterStore::Gradients::zeroed);
  const auto& all = store.all();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0]->begin(), 0);
  EXPECT_EQ(all[1]->begin(), 16);
  EXPECT_EQ(all[2]->begin(), 32);
  EXPECT_EQ(all[2]->end(), 49);
  for (const auto& p : all) {
    EXPECT_EQ(p->value().shape(), p->shape());
    EXPECT_EQ(p->value().raw(), store.values().raw() + 4 * p->begin());
    EXPECT_EQ(p->grad().raw(), store.grads().raw() + 4 * p->begin());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p->value().raw()) % 64, 0u) << "on a cache line";
    fill(p->value(), 1);
  }
  EXPECT_EQ(sum_of_squares(store.values()), 48) << "the padding is zero";
  EXPECT_EQ(sum_of_squares(store.grads()), 0);
}

TEST(ParameterStore, ASharedNameIsOneParameter) {
  ParameterStore store;
  const Parameter& first = store.add("w", spec({2, 2}));
  for (int i = 0; i < 100; ++i) store.add(cat("other ", i), spec({1}));
  EXPECT_EQ(&store.add("w", spec({2, 2})), &first) << "and where it lies does not move";
  EXPECT_EQ(store.all().size(), 101u);
  expect_error(Exit::failed, {"w", "2x2", "4"}, [&] { store.add("w", spec({4})); });
  EXPECT_EQ(store.find("w"), &first);
  EXPECT_EQ(store.find("x"), nullptr);
}

TEST(ParameterStore, IsAllocatedOnceAtTheEnd) {
  ParameterStore store;
  store.add("a", spec({2}));
  EXPECT_FALSE(store.allocated());
  store.allocate(kCpu, DType::f64, ParameterStore::Gradients::none);
  EXPECT_TRUE(store.allocated());
  EXPECT_FALSE(store.grads());
  EXPECT_FALSE(store.all()[0]->grad());
  expect_error(Exit::failed, {"twice"}, [&] { store.allocate(kCpu, DType::f64, ParameterStore::Gradients::none); });
  expect_error(Exit::failed, {"b", "after"}, [&] { store.add("b", spec({2})); });
}

// What is asked of the system before a model is read counts float32 alone.
TEST(ParameterStore, BecomesNarrowWithinTheMemoryThatItHas) {
  constexpr int64_t kWidth = 1024, kMatrices = 16;
  ParameterStore store;
  for (int64_t i = 0; i < kMatrices; ++i) store.add(cat(i), spec({kWidth, kWidth}));
  store.add("gain", {{kWidth}, Role::vector, Init::constant(0)});
  store.allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  for (size_t i = 0; i < store.all().size(); ++i) fill(store.all()[i]->value(), 1.0 + static_cast<double>(i));
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak begins anew
  const size_t before = peak_resident_bytes();
  store.narrow();
  // One matrix in both forms, in large pages; all of them would be 32 MiB.
  EXPECT_LT(peak_resident_bytes(), before + (size_t{10} << 20));
  for (size_t i = 0; i < store.all().size(); ++i) {
    const Tensor& value = store.all()[i]->value();
    EXPECT_EQ(value.dtype(), i < kMatrices ? DType::bf16 : DType::f32);
    const double last = i < kMatrices ? float_from_bf16(value.data<BFloat16>()[value.numel() - 1].bits)
                                      : value.data<float>()[value.numel() - 1];
    EXPECT_EQ(last, 1.0 + static_cast<double>(i));
  }
}

TEST(Parameter, IsALeafOnlyWhereGradientsAre) {
  for (const auto gradients : {ParameterStore::Gradients::zeroed, ParameterStore::Gradients::none}) {
    ParameterStore store;
    const Parameter& p = store.add("a", spec({2}));
    store.allocate(kCpu, DType::f32, gradients);
    Arena arena(kCpu);
    Tape record(arena), evaluate(arena, Tape::Mode::evaluate);
    EXPECT_EQ(p.on(record).needs_grad(), gradients == ParameterStore::Gradients::zeroed);
    EXPECT_FALSE(p.on(evaluate).needs_grad());
    EXPECT_EQ(p.on(record).value().raw(), store.values().raw()) << "no copy";
  }
}

}  // namespace
}  // namespace gf
