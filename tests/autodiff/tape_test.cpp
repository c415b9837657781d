// SPDX-License-Identifier: Apache-2.0
#include "autodiff/tape.h"

#include <gtest/gtest.h>

#include "autodiff/recompute.h"
#include "support/bits.h"
#include "support/expect_error.h"

namespace gf {
namespace {

constexpr int64_t kN = 100;  // elements of each value here

Tensor values(double first, double step = 0) {
  std::vector<double> v(kN);
  for (int64_t i = 0; i < kN; ++i) v[i] = first + step * static_cast<double>(i);
  return Tensor::of({kN}, v);
}

Tensor product(Tape& tape, const Tensor& a, const Tensor& b) {
  Tensor out = tape.empty(a.shape(), a.dtype());
  for (int64_t i = 0; i < a.numel(); ++i) out.data<double>()[i] = a.data<double>()[i] * b.data<double>()[i];
  return out;
}

// Both inputs get the very same tensor as their gradient.
Var plus(const Var& a, const Var& b) {
  Tensor out = a.tape().empty(a.shape(), DType::f64);
  add(a.value(), b.value(), out);
  return a.tape().record("plus", {a, b}, std::move(out), [](std::span<Tensor> grad, Grads& grads) {
    const Tensor d = std::move(grad[0]);
    for (int i = 0; i < 2; ++i)
      if (grads.wants(i)) grads.add(i, d);
  });
}

Var times(const Var& a, const Var& b) {
  Tape& tape = a.tape();
  return tape.record("times", {a, b}, product(tape, a.value(), b.value()),
                     [av = a.value(), bv = b.value(), &tape](std::span<Tensor> grad, Grads& grads) {
                       if (grads.wants(0)) grads.add(0, product(tape, grad[0], bv));
                       if (grads.wants(1)) grads.add(1, product(tape, grad[0], av));
                     });
}

// As times(), with the gradient of w put off where the tape says so.
Var weighted(const Var& x, const Var& w) {
  Tape& tape = x.tape();
  return tape.record("weighted", {x, w}, product(tape, x.value(), w.value()),
                     [xv = x.value(), wv = w.value(), &tape](std::span<Tensor> grad, Grads& grads) {
                       const Tensor d = grad[0];
                       if (grads.wants(0)) grads.add(0, product(tape, d, wv));
                       if (!grads.wants(1)) return;
                       grads.later(1, [xv, d](const Tensor& sum) {
                         for (int64_t i = 0; i < kN; ++i)
                           sum.data<double>()[i] += xv.data<double>()[i] * d.data<double>()[i];
                       });
                     });
}

// Two outputs: x and x^2.
std::vector<Var> powers(const Var& x) {
  Tape& tape = x.tape();
  return tape.record("powers", std::vector{x}, {x.value(), product(tape, x.value(), x.value())},
                     [xv = x.value(), &tape](std::span<Tensor> grad, Grads& grads) {
                       Tensor d = tape.empty(xv.shape(), DType::f64);
                       fill_zero(d);
                       if (grad[0]) add_to(d, grad[0]);
                       if (grad[1])
                         for (int k = 0; k < 2; ++k) add_to(d, product(tape, grad[1], xv));
                       grads.add(0, std::move(d));
                     });
}

void backward(const Var& output, WeightGradients weights = WeightGradients::now) {
  output.tape().backward({{output, values(1)}}, weights);
}

void expect_all(const Tensor& t, double want) {
  ASSERT_TRUE(t);
  for (int64_t i = 0; i < t.numel(); ++i) ASSERT_EQ(t.data<double>()[i], want) << "at " << i;
}

class TapeTest : public testing::Test {
 protected:
  Arena arena{kCpu};
  Tape tape{arena};
};

TEST_F(TapeTest, ChainRule) {
  const Var x = tape.leaf(values(3), true), y = tape.leaf(values(5), true);
  backward(times(times(x, y), x));  // x^2 y
  expect_all(tape.grad(x), 30);
  expect_all(tape.grad(y), 9);
}

TEST_F(TapeTest, OneTensorMayBeTheGradientOfSeveralInputs) {
  const Var x = tape.leaf(values(2), true), y = tape.leaf(values(7), true);
  const Var doubled = plus(x, x);               // one input twice
  const Var sum = plus(doubled, y);             // y's gradient and doubled's are one tensor
  backward(plus(times(sum, sum), plus(y, x)));  // (2x + y)^2 + y + x
  expect_all(tape.grad(x), 4 * 11 + 1);
  expect_all(tape.grad(y), 2 * 11 + 1);
}

TEST_F(TapeTest, SharedInputsAddUpInEveryOrder) {
  for (int order = 0; order < 2; ++order) {
    Tape t(arena);
    const Var x = t.leaf(values(2), true);
    const Var square = times(x, x), twice = plus(x, x);
    backward(order ? plus(square, twice) : plus(twice, square));
    expect_all(t.grad(x), 6);
  }
}

TEST_F(TapeTest, SeedsAreLeftAlone) {
  const Var x = tape.leaf(values(2), true);
  const Var y = plus(x, x);
  const Tensor seed = values(1);
  tape.backward({{y, seed}, {y, seed}});
  expect_all(tape.grad(x), 4);
  expect_all(seed, 1);
}

TEST_F(TapeTest, SeveralOutputs) {
  const Var x = tape.leaf(values(3), true);
  {
    const auto p = powers(x);
    backward(p[1]);  // none reaches p[0]
  }
  expect_all(tape.grad(x), 6);
  Tape other(arena);
  const Var z = other.leaf(values(3), true);
  const auto p = powers(z);
  other.backward({{p[0], values(10)}, {p[1], values(1)}});
  expect_all(other.grad(z), 16);
}

TEST_F(TapeTest, AnOutputMayBeALeaf) {
  const Var x = tape.leaf(values(3), true);
  const Var y = times(x, x);
  tape.backward({{y, values(1)}, {x, values(100)}});
  expect_all(tape.grad(x), 106);
}

TEST_F(TapeTest, NoGradientWhereNoneIsAskedFor) {
  const Var x = tape.leaf(values(3), true), frozen = tape.leaf(values(5), false), aside = tape.leaf(values(1), true);
  const Var unused = times(aside, aside);
  EXPECT_FALSE(times(frozen, frozen).needs_grad());
  backward(times(x, frozen));
  expect_all(tape.grad(x), 5);
  EXPECT_FALSE(tape.grad(frozen));
  EXPECT_FALSE(tape.grad(aside)) << "nothing reached it";
}

TEST_F(TapeTest, ParametersAddIntoTheirSums) {
  const Tensor value = values(3), sum = values(1000);
  for (int microbatch = 0; microbatch < 3; ++microbatch) {
    Tape t(arena);
    const Var w = t.parameter(value, sum), again = t.parameter(value, sum), x = t.leaf(values(2), false);
    backward(plus(weighted(x, w), times(again, x)));
  }
  expect_all(sum, 1000 + 3 * 4);
  const Var frozen = tape.parameter(value, {});
  EXPECT_FALSE(frozen.needs_grad());
  expect_error(Exit::failed, {"100", "7"}, [&] { tape.parameter(value, Tensor::zeros({7}, DType::f64, kCpu)); });
}

TEST_F(TapeTest, EachGradientIsGivenExactlyOnce) {
  const auto run = [](bool wanted, Backward backward_pass) {
    Arena a(kCpu);
    Tape t(a);
    const Var x = t.leaf(values(1), true), y = t.leaf(values(1), wanted);
    backward(t.record("careless", {x, y}, values(1), std::move(backward_pass)));
  };
  expect_error(Exit::failed, {"careless gave no gradient for input 1"},
               [&] { run(true, [](std::span<Tensor>, Grads& g) { g.add(0, values(1)); }); });
  expect_error(Exit::failed, {"careless gave the gradient of input 0 twice"}, [&] {
    run(true, [](std::span<Tensor>, Grads& g) {
      g.add(0, values(1));
      g.sum(0);
    });
  });
  expect_error(Exit::failed, {"careless gave the gradient of input 1 twice"}, [&] {
    run(true, [](std::span<Tensor>, Grads& g) {
      g.add(0, values(1));
      g.later(1, [](const Tensor&) {});
      g.later(1, [](const Tensor&) {});
    });
  });
  expect_error(Exit::failed, {"careless gave a gradient for input 1, which needs none"}, [&] {
    run(false, [](std::span<Tensor>, Grads& g) {
      g.add(0, values(1));
      g.add(1, values(1));
    });
  });
  expect_error(Exit::failed, {"careless", "a gradient is 7", "expected 100"}, [&] {
    run(false, [](std::span<Tensor>, Grads& g) { g.add(0, Tensor::zeros({7}, DType::f64, kCpu)); });
  });
  EXPECT_NO_THROW(run(false, [](std::span<Tensor>, Grads& g) {
    g.add(0, values(1));
    EXPECT_FALSE(g.wants(1));
    EXPECT_FALSE(g.sum(1)) << "not wanted: nothing to add into";
  }));
}

TEST_F(TapeTest, InputsComeFromTheSameTape) {
  Tape other(arena);
  const Var x = tape.leaf(values(1), true), y = other.leaf(values(1), true);
  expect_error(Exit::failed, {"plus", "another tape"}, [&] { plus(x, y); });
}

TEST_F(TapeTest, EvaluationRecordsNothing) {
  Tape t(arena, Tape::Mode::evaluate);
  const size_t before = arena.bytes_in_use();
  {
    Var x = t.leaf(values(2), true);
    EXPECT_FALSE(x.needs_grad());
    for (int i = 0; i < 50; ++i) {
      x = plus(x, x);
      EXPECT_LE(arena.bytes_in_use() - before, 2 * 1024u) << "only the last value and the one before it";
    }
    expect_error(Exit::failed, {"does not record"}, [&] { backward(x); });
  }
  EXPECT_EQ(arena.bytes_in_use(), before) << "nothing is kept";
}

TEST_F(TapeTest, ValuesDieWhenNobodyHoldsThem) {
  const Var x = tape.leaf(values(2), true);
  const size_t before = arena.bytes_in_use();
  {
    Var y = x;
    for (int i = 0; i < 20; ++i) y = plus(y, y);  // keeps no value for its backward pass
    EXPECT_EQ(arena.bytes_in_use() - before, 1024u) << "100 doubles, rounded to 256 bytes";
    Var z = times(y, y);  // keeps y
    y = {};
    EXPECT_EQ(arena.bytes_in_use() - before, 2048u);
    backward(z);
  }
  EXPECT_EQ(arena.bytes_in_use() - before, 1024u) << "what ops saved is released; x's gradient stays";
}

TEST_F(TapeTest, GradientsDieOnTheWay) {
  const Var x = tape.leaf(values(1), true);
  Var y = x;
  for (int i = 0; i < 200; ++i) y = plus(y, y);
  arena.reset_peak();
  const size_t before = arena.bytes_in_use();
  backward(y);
  EXPECT_LE(arena.peak_bytes() - before, 3 * 1024u) << "a few gradients at a time, not 200";
}

TEST_F(TapeTest, LaterGivesTheBitsOfNow) {
  const auto run = [&](WeightGradients weights, bool recomputed) {
    const Tensor value = values(0.3, 0.01), sum = values(0.1);
    Tensor input_grad, half_way;
    Tape t(arena);
    const Var x = t.leaf(values(0.7, -0.003), true);
    const auto piece = [&](Tape& inner, std::span<const Var> in) {
      const Var w = inner.parameter(value, sum);
      return std::vector{weighted(weighted(in[0], w), inner.parameter(value, sum))};
    };
    Var y = weighted(x, t.parameter(value, sum));
    y = recomputed ? recompute(t, std::vector{y}, piece)[0] : piece(t, std::vector{y})[0];
    y = weighted(y, t.parameter(value, sum));
    backward(y, weights);
    half_way = clone(sum);
    if (weights == WeightGradients::later) {
      EXPECT_TRUE(same_bits(half_way, values(0.1))) << "put off: not touched yet";
      EXPECT_TRUE(t.grad(x)) << "input gradients are complete before";
      t.backward_weights();
    }
    return std::pair(clone(sum), clone(t.grad(x)));
  };
  const auto now = run(WeightGradients::now, false);
  EXPECT_FALSE(same_bits(now.first, values(0.1)));
  for (const auto& [weights, recomputed] :
       {std::pair(WeightGradients::later, false), {WeightGradients::now, true}, {WeightGradients::later, true}}) {
    const auto other = run(weights, recomputed);
    EXPECT_TRUE(same_bits(other.first, now.first));
    EXPECT_TRUE(same_bits(other.second, now.second));
  }
}

TEST_F(TapeTest, WhatIsPutOffMayOutliveTheTape) {
  const Tensor value = values(3), sum = values(0);
  std::vector<PutOff> work;
  {
    Tape t(arena);
    backward(weighted(t.leaf(values(2), true), t.parameter(value, sum)), WeightGradients::later);
    work = t.take_backward_weights();
    t.backward_weights();
  }
  expect_all(sum, 0);
  ASSERT_EQ(work.size(), 1u);
  work[0].run();
  expect_all(sum, 2);
}

// The gradient of a weight that an op made must be complete when that op's backward pass runs, and so must that of a
// weight from outside a piece that is run again.
TEST_F(TapeTest, OnlyParametersCanWait) {
  for (const WeightGradients weights : {WeightGradients::now, WeightGradients::later}) {
    Tape t(arena);
    const Var x = t.leaf(values(2), true), v = t.leaf(values(3), true);
    const auto piece = [](Tape&, std::span<const Var> in) { return std::vector{weighted(in[0], in[1])}; };
    const Var y = weighted(x, times(v, v));                                  // x v^2
    backward(recompute(t, std::vector{y, times(v, v)}, piece)[0], weights);  // x v^4
    t.backward_weights();
    expect_all(t.grad(v), 4 * 2 * 27);
    expect_all(t.grad(x), 81);
  }
}

TEST_F(TapeTest, GradSumIsWhereALeafsGradientGathers) {
  const Tensor sum = values(10);
  const Var w = tape.parameter(values(1), sum), x = tape.leaf(values(4), true), frozen = tape.leaf(values(1), false);
  EXPECT_EQ(tape.grad_sum(w).raw(), sum.raw());
  add_to(tape.grad_sum(x), values(5));  // as an op does in its forward pass
  expect_all(tape.grad_sum(x), 5);
  backward(times(x, w));
  expect_all(tape.grad(x), 6);
  expect_all(sum, 14);
  expect_error(Exit::failed, {"grad_sum"}, [&] { tape.grad_sum(frozen); });
}

TEST_F(TapeTest, WritableCopiesWhatOthersHold) {
  Tensor alone = values(1);
  const std::byte* const where = alone.raw();
  EXPECT_EQ(tape.writable(std::move(alone)).raw(), where);
  const Tensor held = values(2);
  Tensor second = held;
  const Tensor own = tape.writable(std::move(second));
  EXPECT_NE(own.raw(), held.raw());
  EXPECT_TRUE(same_bits(own, held));
}

TEST_F(TapeTest, TenThousandOpsNeedNoDeepStack) {
  const Var x = tape.leaf(values(1), true);
  {
    Var y = x;
    for (int i = 0; i < 10000; ++i) y = plus(y, x);
    backward(y);
  }
  expect_all(tape.grad(x), 10001);
  Tape dropped(arena);
  Var y = dropped.leaf(values(1), true);
  for (int i = 0; i < 10000; ++i) y = times(y, y);  // never walked back: the tape's end frees all of it
}

}  // namespace
}  // namespace gf
