// SPDX-License-Identifier: Apache-2.0
#include "support/op_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "base/random.h"
#include "support/bits.h"
#include "support/threads.h"
#include "tensor/arithmetic.h"
#include "tensor/float_formats.h"
#include "tensor/on_device.h"

namespace gf {

namespace {

double hashed(const std::string& name, double low, double high, int64_t i) {
  return low + (high - low) * Random(5, name).unit(static_cast<uint64_t>(i));
}

// Through bf16 for the GPU and through float32 otherwise, so that the runs that are compared see the same numbers.
enum class Through : uint8_t { f32, bf16 };

template <class T>
T number(double x, Through through) {
  const auto narrow = static_cast<float>(x);
  const float seen = through == Through::bf16 ? float_from_bf16(bf16_from_float(narrow)) : narrow;
  if constexpr (std::is_same_v<T, BFloat16>)
    return {bf16_from_float(seen)};
  else
    return static_cast<T>(seen);
}

template <class T>
Tensor filled(const std::string& name, const Shape& shape, double low, double high, Through through = Through::f32) {
  Tensor t = Tensor::empty(shape, dtype_of<T>, kCpu);
  for (int64_t i = 0; i < t.numel(); ++i) t.data<T>()[i] = number<T>(hashed(name, low, high, i), through);
  return t;
}

template <class T>
std::vector<Tensor> inputs_of(const OpCase& c, Through through = Through::f32) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    inputs.push_back(filled<T>(cat("input ", i), c.inputs[i].shape, c.inputs[i].low, c.inputs[i].high, through));
  return inputs;
}

struct Result {
  std::vector<Tensor> outputs, grads;  // grads: one an input, empty where none was asked for
};

template <class T>
Tensor direction(const OpCase& c, size_t output, const Shape& shape, Through through = Through::f32) {
  return filled<T>(cat("direction ", output), shape, c.is_loss ? 1 : -1, 1, through);
}

enum class Leaves : uint8_t { plain, parameters };

struct Run {
  Leaves leaves = Leaves::plain;
  WeightGradients weights = WeightGradients::now;
  Device device = kCpu;
  Through through = Through::f32;
};

// Forward, and the gradient of sum_i <direction_i, output_i>.
template <class T>
Result run(const OpCase& c, const std::vector<Tensor>& inputs, const std::vector<bool>& wanted, const Run& how = {}) {
  Arena arena(how.device);
  Tape tape(arena);
  std::vector<Var> leaves;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor value = on(how.device, inputs[i]);
    if (how.leaves == Leaves::plain || !wanted[i])
      leaves.push_back(tape.leaf(value, wanted[i]));
    else
      leaves.push_back(tape.parameter(value, Tensor::zeros(value.shape(), inner(dtype_of<T>), how.device)));
  }
  Result result;
  std::vector<Tape::Seed> seeds;
  {
    const std::vector<Var> outputs = c.run(tape, leaves);
    for (size_t i = 0; i < outputs.size(); ++i) {
      result.outputs.push_back(on(kCpu, outputs[i].value()));
      const bool is_inner = outputs[i].value().dtype() != dtype_of<T>;  // a loss
      const Tensor d = is_inner ? direction<Inner<T>>(c, i, outputs[i].shape(), how.through)
                                : direction<T>(c, i, outputs[i].shape(), how.through);
      seeds.push_back({outputs[i], on(how.device, d)});
    }
  }
  tape.backward(std::move(seeds), how.weights);
  if (how.weights == WeightGradients::later) tape.backward_weights();
  for (size_t i = 0; i < inputs.size(); ++i)
    result.grads.push_back(wanted[i] ? on(kCpu, tape.grad(leaves[i])) : Tensor());
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

double element(const Tensor& t, int64_t i) {
  if (t.dtype() == DType::bf16) return float_from_bf16(t.data<BFloat16>()[i].bits);
  return t.dtype() == DType::f32 ? t.data<float>()[i] : t.data<double>()[i];
}

// Relative error over the whole tensor; NaN compares as wrong.
void expect_float_close(const std::string& what, const Tensor& got, const Tensor& want, double tolerance) {
  ASSERT_EQ(static_cast<bool>(got), static_cast<bool>(want)) << what;
  if (!want) return;
  ASSERT_EQ(got.shape(), want.shape()) << what;
  double error = 0, norm = 0;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double w = want.data<double>()[i], e = element(got, i) - w;
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

// Of what a GPU makes, in each of its types, beside the double result of the CPU.
template <class T>
void check_on_gpu(const OpCase& c, Through through, double tolerance) {
  SCOPED_TRACE(cat("on the GPU in ", dtype_of<T>));
  constexpr Device kGpu{Device::Kind::cuda, 0};
  const std::vector<bool> wanted = all_differentiable(c);
  const Result exact = run<double>(c, inputs_of<double>(c, through), wanted, {.through = through});
  const Run how{.device = kGpu, .through = through};
  const std::vector<Tensor> inputs = inputs_of<T>(c, through);
  const Result there = run<T>(c, inputs, wanted, how);
  ASSERT_EQ(there.outputs.size(), exact.outputs.size());
  for (size_t i = 0; i < there.outputs.size(); ++i)
    expect_float_close(cat("output ", i), there.outputs[i], exact.outputs[i], tolerance);
  for (size_t i = 0; i < there.grads.size(); ++i)
    expect_float_close(cat("gradient ", i), there.grads[i], exact.grads[i], tolerance);
  expect_same_bits("a second run", run<T>(c, inputs, wanted, how), there);
  Run parameters = how;
  parameters.leaves = Leaves::parameters;
  const Result of_parameters = run<T>(c, inputs, wanted, parameters);
  parameters.weights = WeightGradients::later;
  expect_same_bits("weight gradients later", run<T>(c, inputs, wanted, parameters), of_parameters);
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
  expect_same_bits("weight gradients later",
                   run<float>(c, inputs, wanted, {Leaves::parameters, WeightGradients::later}),
                   run<float>(c, inputs, wanted, {Leaves::parameters}));
  {
    const Threads one(1);
    expect_same_bits("one thread", run<float>(c, inputs, wanted), real);
  }
  check_meta(c, real);
  if constexpr (kWithCuda) {
    if (!std::getenv("GF_TEST_GPU")) return;  // the tests of that label set it
    check_on_gpu<double>(c, Through::f32, c.double_tolerance);
    check_on_gpu<float>(c, Through::f32, c.float_tolerance);
    check_on_gpu<BFloat16>(c, Through::bf16, c.bf16_tolerance);
  }
}

}  // namespace gf
