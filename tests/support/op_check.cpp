// SPDX-License-Identifier: Apache-2.0
#include "support/op_check.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "support/bits.h"
#include "support/threads.h"

namespace gf {
namespace {

double hashed(const std::string& name, double low, double high, int64_t i) {
  return low + (high - low) * Random(5, name).unit(static_cast<uint64_t>(i));
}

template <class T>
Tensor filled(const std::string& name, const Shape& shape, double low, double high) {
  Tensor t = Tensor::empty(shape, dtype_of<T>, kCpu);
  // Through float32, so that the float and the double run see the same numbers.
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<T>()[i] = static_cast<T>(static_cast<float>(hashed(name, low, high, i)));
  return t;
}

template <class T>
std::vector<Tensor> inputs_of(const OpCase& c) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    inputs.push_back(filled<T>(cat("input ", i), c.inputs[i].shape, c.inputs[i].low, c.inputs[i].high));
  return inputs;
}

struct Result {
  std::vector<Tensor> outputs, grads;  // grads: one an input, empty where none was asked for
};

template <class T>
Tensor direction(const OpCase& c, size_t output, const Shape& shape) {
  return filled<T>(cat("direction ", output), shape, c.is_loss ? 1 : -1, 1);
}

enum class Leaves : uint8_t { plain, parameters };

// Forward, and the gradient of sum_i <direction_i, output_i>.
template <class T>
Result run(const OpCase& c, const std::vector<Tensor>& inputs, const std::vector<bool>& wanted,
           Leaves kind = Leaves::plain, WeightGradients weights = WeightGradients::now) {
  Arena arena(kCpu);
  Tape tape(arena);
  std::vector<Var> leaves;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (kind == Leaves::plain || !wanted[i])
      leaves.push_back(tape.leaf(inputs[i], wanted[i]));
    else
      leaves.push_back(tape.parameter(inputs[i], Tensor::zeros(inputs[i].shape(), dtype_of<T>, kCpu)));
  }
  Result result;
  std::vector<Tape::Seed> seeds;
  {
    const std::vector<Var> outputs = c.run(tape, leaves);
    for (size_t i = 0; i < outputs.size(); ++i) {
      result.outputs.push_back(outputs[i].value());
      seeds.push_back({outputs[i], direction<T>(c, i, outputs[i].shape())});
    }
  }
  tape.backward(std::move(seeds), weights);
  if (weights == WeightGradients::later) tape.backward_weights();
  for (size_t i = 0; i < inputs.size(); ++i) result.grads.push_back(wanted[i] ? tape.grad(leaves[i]) : Tensor());
  return result;
}

double loss_of(const OpCase& c, const std::vector<Tensor>& inputs) {
  Arena arena(kCpu);
  Tape tape(arena, Tape::Mode::evaluate);
  std::vector<Var> leaves;
  for (const Tensor& t : inputs) leaves.push_back(tape.leaf(t, false));
  const std::vector<Var> outputs = c.run(tape, leaves);
  double loss = 0;
  for (size_t o = 0; o < outputs.size(); ++o) {
    const Tensor d = direction<double>(c, o, outputs[o].shape());
    for (int64_t i = 0; i < d.numel(); ++i) loss += d.data<double>()[i] * outputs[o].value().data<double>()[i];
  }
  return loss;
}

std::vector<bool> all_differentiable(const OpCase& c) {
  std::vector<bool> wanted;
  for (const OpInput& i : c.inputs) wanted.push_back(i.differentiable);
  return wanted;
}

Tensor numeric_gradient(const OpCase& c, std::vector<Tensor> inputs, size_t which) {
  const Tensor& x = inputs[which];
  Tensor grad = Tensor::empty(x.shape(), DType::f64, kCpu);
  constexpr double h = 1e-5;  // fourth-order differences: error h^4 ~ 1e-20, rounding 1e-16 / h = 1e-11
  for (int64_t i = 0; i < x.numel(); ++i) {
    double* const at = x.data<double>() + i;
    const double before = *at;
    const auto moved = [&](double by) {
      *at = before + by;
      return loss_of(c, inputs);
    };
    grad.data<double>()[i] = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
    *at = before;
  }
  return grad;
}

void expect_close(const std::string& what, const Tensor& got, const Tensor& want, double tolerance) {
  ASSERT_TRUE(got && want) << what << ": no gradient";
  ASSERT_EQ(got.shape(), want.shape()) << what;
  double scale = 0;
  for (int64_t i = 0; i < want.numel(); ++i) scale = std::max(scale, std::fabs(want.data<double>()[i]));
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double g = got.data<double>()[i], w = want.data<double>()[i];
    ASSERT_TRUE(std::fabs(g - w) <= tolerance * (scale + 1e-3))
        << what << " at " << i << ": " << g << ", expected " << w;
  }
}

void expect_same_bits(const std::string& what, const Result& a, const Result& b) {
  for (size_t i = 0; i < a.outputs.size(); ++i)
    EXPECT_TRUE(same_bits(a.outputs[i], b.outputs[i])) << what << ": output " << i;
  for (size_t i = 0; i < a.grads.size(); ++i)
    EXPECT_TRUE(same_bits(a.grads[i], b.grads[i])) << what << ": gradient " << i;
}

// Relative error over the whole tensor; NaN compares as wrong.
void expect_float_close(const std::string& what, const Tensor& got, const Tensor& want, double tolerance) {
  ASSERT_EQ(static_cast<bool>(got), static_cast<bool>(want)) << what;
  if (!want) return;
  ASSERT_EQ(got.shape(), want.shape()) << what;
  double error = 0, norm = 0;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double w = want.data<double>()[i], e = got.data<float>()[i] - w;
    error += e * e, norm += w * w;
  }
  EXPECT_TRUE(std::sqrt(error) <= tolerance * (std::sqrt(norm) + 1e-6))
      << what << ": relative error " << std::sqrt(error / norm) << " over " << want.shape();
}

void check_meta(const OpCase& c, const Result& real) {
  Arena arena(kMeta);
  Tape tape(arena);
  std::vector<Var> leaves;
  for (const OpInput& i : c.inputs)
    leaves.push_back(tape.leaf(Tensor::empty(i.shape, DType::f32, kMeta), i.differentiable));
  std::vector<Tape::Seed> seeds;
  std::vector<Shape> shapes;
  for (const Var& v : c.run(tape, leaves)) {
    shapes.push_back(v.shape());
    seeds.push_back({v, Tensor::empty(v.shape(), DType::f32, kMeta)});
  }
  tape.backward(std::move(seeds));
  ASSERT_EQ(shapes.size(), real.outputs.size());
  for (size_t i = 0; i < shapes.size(); ++i)
    EXPECT_EQ(shapes[i], real.outputs[i].shape()) << c.name << " on meta tensors";
  EXPECT_GT(arena.peak_bytes(), 0u);
}

}  // namespace

void check_gradients(const OpCase& c) {
  SCOPED_TRACE(c.name);
  const std::vector<Tensor> inputs = inputs_of<double>(c);
  const Result together = run<double>(c, inputs, all_differentiable(c));
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!c.inputs[i].differentiable) continue;
    const Tensor numeric = numeric_gradient(c, inputs, i);
    // Differences carry about 1e-11 of the loss, which is up to 1e3 times a single gradient here.
    expect_close(cat("gradient of input ", i), together.grads[i], numeric, 1e-7);
    std::vector<bool> alone(inputs.size());
    alone[i] = true;
    expect_close(cat("gradient of input ", i, " alone"), run<double>(c, inputs, alone).grads[i], numeric, 1e-7);
  }
  check_float_and_bits(c);
}

void check_float_and_bits(const OpCase& c) {
  SCOPED_TRACE(c.name);
  const std::vector<bool> wanted = all_differentiable(c);
  const std::vector<Tensor> inputs = inputs_of<float>(c);
  const Result exact = run<double>(c, inputs_of<double>(c), wanted);
  const Threads two(2);
  const Result real = run<float>(c, inputs, wanted);
  for (size_t i = 0; i < real.outputs.size(); ++i)
    expect_float_close(cat("output ", i), real.outputs[i], exact.outputs[i], c.float_tolerance);
  for (size_t i = 0; i < real.grads.size(); ++i)
    expect_float_close(cat("gradient ", i), real.grads[i], exact.grads[i], c.float_tolerance);
  expect_same_bits("a second run", run<float>(c, inputs, wanted), real);
  expect_same_bits("weight gradients later", run<float>(c, inputs, wanted, Leaves::parameters, WeightGradients::later),
                   run<float>(c, inputs, wanted, Leaves::parameters));
  {
    const Threads one(1);
    expect_same_bits("one thread", run<float>(c, inputs, wanted), real);
  }
  check_meta(c, real);
}

}  // namespace gf
