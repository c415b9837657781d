// SPDX-License-Identifier: Apache-2.0
#include "parallel/stage.h"

#include "base/trace.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

Var leaf_of(Tape& tape, const Tensor& t) {
  return t ? tape.leaf(t, true) : Var();
}

Boundary values_of(const Flow& flow) {
  const auto value = [](const Var& v) { return v ? v.value() : Tensor(); };
  return {value(flow.x_BTC), value(flow.origin_BTC), value(flow.compressed_BTZ)};
}

}  // namespace

Pass Stage::pass_of(const Batch& batch) const {
  return {batch, true, options_.loss_scale, options_.pull, options_.seed};
}

std::unique_ptr<Arena> Stage::take_arena() {
  if (idle_.empty()) return std::make_unique<Arena>(options_.device);
  auto arena = std::move(idle_.back());
  idle_.pop_back();
  return arena;
}

Boundary Stage::forward(int microbatch, Batch batch, const Boundary& in) {
  GF_CHECK(!in_flight_.contains(microbatch), "microbatch ", microbatch, " is already in flight");
  const TraceSpan span("forward");
  InFlight& f = in_flight_[microbatch];
  f.batch = std::move(batch);
  f.arena = take_arena();
  f.tape = std::make_unique<Tape>(*f.arena);
  f.in.x_BTC = leaf_of(*f.tape, in.x_BTC);
  f.in.origin_BTC = leaf_of(*f.tape, in.origin_BTC);
  f.in.compressed_BTZ = leaf_of(*f.tape, in.compressed_BTZ);
  const Pass pass = pass_of(f.batch);
  Flow out = layers_.forward(*f.tape, pass, f.in, options_.recompute);
  if (const Head* head = layers_.head()) {
    f.loss = head->loss(pass, out.x_BTC).loss;
    if (options_.device.kind == Device::Kind::cpu) loss_ += f.loss.value().data<float>()[0];
    return {};
  }
  f.out = std::move(out);
  f.out.keys_BTA = {};
  f.out.values_BTC = {};
  return values_of(f.out);
}

Boundary Stage::backward(int microbatch, const Boundary& grad_out) {
  const auto found = in_flight_.find(microbatch);
  GF_CHECK(found != in_flight_.end(), "backward of microbatch ", microbatch, ", which is not in flight");
  const TraceSpan span("backward");
  const auto node = in_flight_.extract(found);  // stays where it is: what the tape recorded refers to the batch
  InFlight& f = node.mapped();
  std::vector<Tape::Seed> seeds;
  if (f.loss) {
    const Tensor one = f.tape->empty({1}, f.loss.value().dtype());
    fill(one, 1);
    seeds.push_back({f.loss, one});
  } else {
    if (grad_out.x_BTC) seeds.push_back({f.out.x_BTC, grad_out.x_BTC});
    if (grad_out.origin_BTC) seeds.push_back({f.out.origin_BTC, grad_out.origin_BTC});
    if (grad_out.compressed_BTZ) seeds.push_back({f.out.compressed_BTZ, grad_out.compressed_BTZ});
  }
  f.out = {};
  f.tape->backward(std::move(seeds));
  const auto grad = [&](const Var& v) { return v ? f.tape->grad(v) : Tensor(); };
  Boundary grad_in{grad(f.in.x_BTC), grad(f.in.origin_BTC), grad(f.in.compressed_BTZ)};
  f.in = {};
  f.loss = {};
  f.tape.reset();
  idle_.push_back(std::move(f.arena));
  return grad_in;
}

double Stage::take_loss() {
  const double loss = loss_;
  loss_ = 0;
  return loss;
}

size_t Stage::activation_bytes() const {
  size_t bytes = 0;
  for (const auto& arena : idle_) bytes += arena->reserved_bytes();
  for (const auto& [microbatch, f] : in_flight_) bytes += f.arena->reserved_bytes();
  return bytes;
}

}  // namespace gf
