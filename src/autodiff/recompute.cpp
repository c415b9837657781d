// SPDX-License-Identifier: Apache-2.0
#include "autodiff/recompute.h"

#include "tensor/arithmetic.h"

namespace gf {
namespace {

std::vector<Tensor> values_of(std::span<const Var> vars) {
  std::vector<Tensor> values;
  for (const Var& v : vars) values.push_back(v.value());
  return values;
}

}  // namespace

std::vector<Var> recompute(Tape& tape, std::span<const Var> inputs, Piece piece, bool trains) {
  const std::vector<Tensor> saved = values_of(inputs);
  std::vector<Tensor> outputs;
  {
    Tape forward(tape, Tape::Mode::evaluate);
    std::vector<Var> leaves;
    for (const Tensor& t : saved) leaves.push_back(forward.leaf(t, false));
    outputs = values_of(piece(forward, leaves));
  }
  return tape.record(
      "recompute", inputs, std::move(outputs),
      [saved, piece = std::move(piece), &tape](std::span<Tensor> grad_outputs, Grads& grads) {
        Tape again(tape, Tape::Mode::record);
        std::vector<Var> leaves;
        std::vector<Tape::Seed> seeds;
        for (size_t i = 0; i < saved.size(); ++i) {
          const bool wanted = grads.wants(static_cast<int>(i));
          leaves.push_back(again.leaf(saved[i], wanted));
          // Gradients add up in the order they would without recompute, which has the same bits.
          if (Tensor g = wanted ? grads.take(static_cast<int>(i)) : Tensor())
            seeds.push_back({leaves[i], std::move(g)});
        }
        {
          const std::vector<Var> results = piece(again, leaves);
          for (size_t i = 0; i < results.size(); ++i)
            if (grad_outputs[i]) seeds.push_back({results[i], std::move(grad_outputs[i])});
        }
        again.backward(std::move(seeds), grads.weights());
        for (size_t i = 0; i < saved.size(); ++i) {
          if (!grads.wants(static_cast<int>(i))) continue;
          Tensor g = again.grad(leaves[i]);
          if (!g) {
            g = tape.empty(saved[i].shape(), saved[i].dtype());
            fill_zero(g);
          }
          grads.add(static_cast<int>(i), std::move(g));
        }
        grads.later(again.take_backward_weights());
      },
      /*always=*/trains);
}

}  // namespace gf
