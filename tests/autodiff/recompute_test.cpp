// SPDX-License-Identifier: Apache-2.0
#include "autodiff/recompute.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "ops/elementwise/elementwise.h"
#include "ops/linear/linear.h"
#include "support/bits.h"

namespace gf {
namespace {

constexpr int64_t kRows = 24, kWidth = 16, kPieces = 6;

Tensor hashed(const std::string& name, Shape shape) {
  const Random random(1, name);
  Tensor t = Tensor::empty(shape, DType::f32, kCpu);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<float>()[i] = static_cast<float>(random.uniform(static_cast<uint64_t>(i)));
  return t;
}

struct Chain {
  std::vector<Tensor> weights, grads;

  Chain() {
    for (int64_t i = 0; i < kPieces; ++i) {
      weights.push_back(hashed(cat("weight ", i), {kWidth, kWidth}));
      grads.push_back(Tensor::zeros({kWidth, kWidth}, DType::f32, kCpu));
    }
  }

  // A residual block whose second input, shared by all, wants a gradient of its own.
  Var block(Tape& tape, int64_t i, const Var& x, const Var& side) const {
    const Var w = tape.parameter(weights[i], grads[i]);
    return sigmoid_gate_residual(x, linear(x, w), swiglu(linear(side, w), linear(x, w)));
  }

  struct Result {
    Tensor out, dx, dside;
    size_t peak;
    int looks = 0;  // between ops
  };
  Result run(bool recomputed, WeightGradients when) const {
    Arena arena(kCpu);
    Tape tape(arena);
    const Var start = tape.leaf(hashed("x", {kRows, kWidth}), true),
              side = tape.leaf(hashed("side", {kRows, kWidth}), true);
    Result r;
    tape.between_ops([&r] { ++r.looks; });
    {
      Var x = start;
      for (int64_t i = 0; i < kPieces; ++i) {
        const auto piece = [this, i](Tape& t, std::span<const Var> in) {
          return std::vector{block(t, i, in[0], in[1])};
        };
        x = recomputed ? recompute(tape, std::vector{x, side}, piece)[0] : piece(tape, std::vector{x, side})[0];
      }
      r.out = clone(x.value());
      tape.backward({{x, hashed("seed", x.shape())}}, when);
    }
    if (when == WeightGradients::later) tape.backward_weights();
    r.dx = clone(tape.grad(start)), r.dside = clone(tape.grad(side));
    r.peak = arena.peak_bytes();
    return r;
  }
};

// What goes on beside the ops is looked after as often within a piece.
TEST(Recompute, LooksBetweenTheOpsOfAPiece) {
  const int plain = Chain().run(false, WeightGradients::now).looks;
  EXPECT_GT(plain, 0);
  EXPECT_GT(Chain().run(true, WeightGradients::now).looks, plain) << "forward runs twice";
}

TEST(Recompute, ChangesNoBits) {
  const Chain plain;
  const auto want = plain.run(false, WeightGradients::now);
  for (const WeightGradients when : {WeightGradients::now, WeightGradients::later}) {
    const Chain chain;
    const auto got = chain.run(true, when);
    EXPECT_TRUE(same_bits(got.out, want.out));
    EXPECT_TRUE(same_bits(got.dx, want.dx));
    EXPECT_TRUE(same_bits(got.dside, want.dside));
    for (int64_t i = 0; i < kPieces; ++i) {
      EXPECT_TRUE(same_bits(chain.grads[i], plain.grads[i])) << "weight " << i;
      EXPECT_GT(sum_of_squares(plain.grads[i]), 0);
    }
  }
}

// a + (b + c) is not (a + b) + c: a value that other ops read too, before and after, and the piece more than once.
TEST(Recompute, AddsSharedGradientsInTheOrderWithout) {
  const auto run = [](bool recomputed) {
    Arena arena(kCpu);
    Tape tape(arena);
    const Var x = tape.leaf(hashed("x", {kRows, kWidth}), true),
              side = tape.leaf(hashed("side", {kRows, kWidth}), true);
    Var y = swiglu(x, side);
    const auto piece = [](Tape&, std::span<const Var> in) {
      return std::vector{swiglu(swiglu(in[0], in[1]), swiglu(in[1], in[0]))};
    };
    for (int i = 0; i < 3; ++i)
      y = recomputed ? recompute(tape, std::vector{y, side}, piece)[0] : piece(tape, std::vector{y, side})[0];
    y = swiglu(y, side);
    tape.backward({{y, hashed("seed", y.shape())}});
    return std::pair(clone(tape.grad(x)), clone(tape.grad(side)));
  };
  const auto plain = run(false), again = run(true);
  EXPECT_TRUE(same_bits(again.first, plain.first));
  EXPECT_TRUE(same_bits(again.second, plain.second));
}

TEST(Recompute, KeepsOnlyThePiecesInputs) {
  EXPECT_LT(Chain().run(true, WeightGradients::now).peak, Chain().run(false, WeightGradients::now).peak * 6 / 10);
  Arena arena(kCpu);
  Tape tape(arena);
  const Chain chain;
  const Var x = tape.leaf(hashed("x", {kRows, kWidth}), true);
  const Var y = recompute(tape, std::vector{x}, [&](Tape& t, std::span<const Var> in) {
    return std::vector{chain.block(t, 0, in[0], in[0])};
  })[0];
  EXPECT_EQ(arena.bytes_in_use(), y.value().bytes()) << "after the forward pass: the output alone";
}

TEST(Recompute, RunsThePieceOnceMore) {
  Arena arena(kCpu);
  Tape tape(arena);
  std::vector<bool> recording;
  const Var x = tape.leaf(hashed("x", {kRows, kWidth}), true);
  const Var y = recompute(tape, std::vector{x}, [&](Tape& t, std::span<const Var> in) {
    recording.push_back(t.recording());
    return std::vector{add(in[0], in[0])};
  })[0];
  EXPECT_EQ(recording, (std::vector{false}));
  tape.backward({{y, hashed("seed", y.shape())}});
  EXPECT_EQ(recording, (std::vector{false, true}));
}

TEST(Recompute, ParametersAloneMayWantGradients) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Chain chain;
  const Var x = tape.leaf(hashed("x", {kRows, kWidth}), false);  // the first block of a model whose embedding is frozen
  const Var y = recompute(tape, std::vector{x}, [&](Tape& t, std::span<const Var> in) {
    return std::vector{chain.block(t, 0, in[0], in[0])};
  })[0];
  tape.backward({{y, hashed("seed", y.shape())}});
  EXPECT_GT(sum_of_squares(chain.grads[0]), 0);
  EXPECT_FALSE(tape.grad(x));
}

TEST(Recompute, AnUnusedInputGetsAZeroGradient) {
  Arena arena(kCpu);
  Tape tape(arena);
  const Var x = tape.leaf(hashed("x", {3}), true), unused = tape.leaf(hashed("y", {5}), true);
  const Var y = recompute(tape, std::vector{x, unused},
                          [](Tape&, std::span<const Var> in) { return std::vector{add(in[0], in[0])}; })[0];
  tape.backward({{y, hashed("seed", {3})}});
  ASSERT_TRUE(tape.grad(unused));
  EXPECT_EQ(sum_of_squares(tape.grad(unused)), 0.0);
}

TEST(Recompute, MayBeNested) {
  const auto run = [](int depth) {
    Arena arena(kCpu);
    Tape tape(arena);
    const Chain chain;
    const Var x = tape.leaf(hashed("x", {kRows, kWidth}), true);
    Piece piece = [&](Tape& t, std::span<const Var> in) { return std::vector{chain.block(t, 0, in[0], in[0])}; };
    for (int i = 0; i < depth; ++i)
      piece = [inner = piece](Tape& t, std::span<const Var> in) { return recompute(t, in, inner); };
    const Var y = piece(tape, std::vector{x})[0];
    tape.backward({{y, hashed("seed", y.shape())}});
    return std::pair(clone(tape.grad(x)), chain.grads[0]);
  };
  const auto plain = run(0), nested = run(2);
  EXPECT_TRUE(same_bits(plain.first, nested.first));
  EXPECT_TRUE(same_bits(plain.second, nested.second));
}

}  // namespace
}  // namespace gf
