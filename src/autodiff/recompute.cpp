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

std::vector<Var> recompute(Tape& tape, std::span<const Var> inputs, Piece piece) {
  const std::vector<Tensor> saved = values_of(inputs);
  std::vector<Tensor> outputs;
  {
    Tape forward(tape.arena(), Tape::Mode::evaluate);
    std::vector<Var> leaves;
    for (const Tensor& t : saved) leaves.push_back(forward.leaf(t, false));
    outputs = values_of(piece(forward, leaves));
  }
  Arena& arena = tape.arena();
  // Parameters inside the piece want gradients even where no input does, so the node is kept in any case.
  return tape.record(
      "recompute", inputs, std::move(outputs),
      [saved, piece = std::move(piece), &arena](std::span<Tensor> grad_outputs, Grads& grads) {
        Tape again(arena);
        std::vector<Var> leaves;
        for (int i = 0; const Tensor& value : saved) {
          leaves.push_back(again.leaf(value, grads.wants(i), grads.take(i)));
          ++i;
        }
        std::vector<Tape::Seed> seeds;
        {
          const std::vector<Var> results = piece(again, leaves);
          for (size_t i = 0; i < results.size(); ++i)
            if (grad_outputs[i]) seeds.push_back({results[i], grad_outputs[i]});
        }
        again.backward(seeds, grads.weights());
        for (size_t i = 0; i < saved.size(); ++i) {
          if (!grads.wants(static_cast<int>(i))) continue;
          Tensor g = again.grad(leaves[i]);
          if (!g) {
            g = arena.empty(saved[i].shape(), saved[i].dtype());
            fill_zero(g);
          }
          grads.add(static_cast<int>(i), std::move(g));
        }
        grads.later(again.take_backward_weights());
      },
      /*always=*/true);
}

}  // namespace gf
