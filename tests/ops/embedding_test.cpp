// SPDX-License-Identifier: Apache-2.0
#include "ops/embedding/embedding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/random.h"
#include "base/trace.h"
#include "support/op_check.h"

namespace gf {
namespace {

// One token in `often` of two positions, the others anywhere in [0, V).
Tensor tokens_of(Shape shape, int64_t V, int32_t often) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const uint64_t bits = Random(3, "tokens").bits(static_cast<uint64_t>(i));
    tokens.push_back(bits & 1 ? often : static_cast<int32_t>((bits >> 1) % static_cast<uint64_t>(V)));
  }
  return Tensor::of(shape, tokens);
}

OpCase embedding_case(Shape tokens, int64_t V, int64_t C) {
  return {"embedding", {{{V, C}}}, [=](Tape& tape, const std::vector<Var>& in) {
            const Tensor there = on(tape.arena().device(), tokens_of(tokens, V, static_cast<int32_t>(V / 2)));
            return std::vector{embedding(there, in[0])};
          }};
}

TEST(Embedding, Gradients) {
  check_gradients(embedding_case({2, 5}, 4, 3));
}
TEST(Embedding, LargeAndOdd) {
  check_float_and_bits(embedding_case({1, 1}, 1, 1));
  check_float_and_bits(embedding_case({3, 701}, 97, 131));
  check_float_and_bits(embedding_case({2, 64}, 5000, 40));
  check_float_and_bits(embedding_case({1, 300}, 70000, 8));  // more tokens than two bytes tell apart
}

// Sums of integers, which float32 has exactly: a row lost or added twice cannot pass for rounding.
TEST(Embedding, EachPositionAddsItsRowOnce) {
  constexpr int64_t M = 300, V = 7, C = 200;
  const Tensor tokens = tokens_of({1, M}, V, 3);
  Arena arena(kCpu);
  Tape tape(arena);
  const Tensor sum = Tensor::of<float>({V, C}, std::vector<float>(V * C, 1000));
  const Var y = embedding(tokens, tape.parameter(Tensor::zeros({V, C}, DType::f32, kCpu), sum));
  std::vector<float> dy(M * C), want(V * C, 1000);
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t c = 0; c < C; ++c) {
      dy[m * C + c] = static_cast<float>(m + c);
      want[tokens.data<int32_t>()[m] * C + c] += static_cast<float>(m + c);
    }
  }
  tape.backward(std::vector{Tape::Seed{y, Tensor::of<float>({1, M, C}, dy)}});
  EXPECT_EQ(std::vector<float>(sum.data<float>(), sum.data<float>() + V * C), want);
}

// A trace counts the rows looked up, not the table, in each kind of memory that a pass or its forecast uses.
TEST(Embedding, ATraceCountsTheRowsLookedUp) {
  constexpr int64_t M = 128, C = 64;
  for (const Device device : {kCpu, kMeta}) {
    for (const auto& [V, rows] : {std::pair<int64_t, int64_t>{257, M}, {100, 100}}) {
      const Trace trace;
      Arena arena(device);
      Tape tape(arena);
      const auto zeros = [&](const Shape& shape, DType dtype) { return Tensor::zeros(shape, dtype, device); };
      const Var table = tape.parameter(zeros({V, C}, DType::f32), zeros({V, C}, DType::f32));
      const Var y = embedding(zeros({2, M / 2}, DType::i32), table);
      tape.backward(std::vector{Tape::Seed{y, zeros({2, M / 2, C}, DType::f32)}});
      std::map<std::string, double> bytes;
      for (const auto& op : trace.totals()) bytes[op.name] = op.bytes;
      const double row = 4 * C, tokens = 4 * M;
      EXPECT_EQ(bytes["embedding"], tokens + M * row + static_cast<double>(rows) * row) << V;
      EXPECT_EQ(bytes["embedding backward"], tokens + M * row + 2 * static_cast<double>(rows) * row) << V;
    }
  }
}

TEST(Embedding, NamesATokenOutsideTheTable) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var table = tape.leaf(Tensor::zeros({5, 2}, DType::f32, kCpu), false);
  for (const int32_t bad : {5, -1}) {
    try {
      embedding(Tensor::of<int32_t>({1, 3}, {0, bad, 4}), table);
      FAIL() << bad;
    } catch (const Error& e) {
      const std::string what = e.what();
      EXPECT_NE(what.find(cat("token ", bad, " at position 1, vocabulary of 5")), std::string::npos) << what;
    }
  }
}

#ifdef GF_WITH_CUDA
TEST(Embedding, OnAGpuATokenOutsideTheTableMakesNoNumber) {
  constexpr Device kGpu{Device::Kind::cuda, 0};
  constexpr int64_t V = 5, C = 2;
  Arena arena(kGpu);
  Tape tape(arena);
  const Tensor sum = Tensor::zeros({V, C}, DType::f32, kGpu);
  const Var table = tape.parameter(on(kGpu, Tensor::of<float>({V, C}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9})), sum);
  const Var y = embedding(on(kGpu, Tensor::of<int32_t>({1, 4}, {0, V, -1, 4})), table);
  const Tensor rows = on(kCpu, y.value());
  for (int64_t i = 0; i < 4 * C; ++i) {
    const bool is_there = i / C == 0 || i / C == 3;
    EXPECT_EQ(std::isnan(rows.data<float>()[i]), !is_there) << i;
  }
  tape.backward(std::vector{Tape::Seed{y, on(kGpu, Tensor::of<float>({1, 4, C}, std::vector<float>(4 * C, 1)))}});
  const Tensor got = on(kCpu, sum);
  EXPECT_EQ(std::vector<float>(got.data<float>(), got.data<float>() + V * C),
            (std::vector<float>{1, 1, 0, 0, 0, 0, 0, 0, 1, 1}));
}
#endif

}  // namespace
}  // namespace gf
