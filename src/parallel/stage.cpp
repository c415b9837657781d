// SPDX-License-Identifier: Apache-2.0
#include "parallel/stage.h"

#include <algorithm>
#include <utility>

#include "parallel/stage_graphs.h"
#include "tensor/arithmetic.h"

namespace gf {

Boundary BoundaryShape::empty(Arena& arena) const {
  Boundary b;
  if (fields & kX) b.x_BTC = arena.empty({B, T, C}, dtype);
  if (fields & kOrigin) b.origin_BTC = arena.empty({B, T, C}, dtype);
  if (fields & kCompressed) b.compressed_BTZ = arena.empty({B, T, Z}, dtype);
  return b;
}

std::vector<Tensor> tensors_of(const Boundary& b) {
  std::vector<Tensor> all;
  for (const Tensor& t : {b.x_BTC, b.origin_BTC, b.compressed_BTZ})
    if (t) all.push_back(t);
  return all;
}

Stage::Stage(LayerStack& layers, StageOptions options) : layers_(layers), options_(options) {}
Stage::~Stage() = default;

// With its tokens where the layers are.
Batch Stage::batch_on(const Batch& batch, Arena& arena) const {
  const auto there = [&](const Tensor& t) {
    if (!t || t.device() == arena.device()) return t;
    const Tensor moved = arena.empty(t.shape(), t.dtype());
    copy(t, moved);
    return moved;
  };
  return {there(batch.inputs_BT), there(batch.targets_BT), batch.samples_B, batch.masked};
}

Pass Stage::pass_of(const Batch& batch) const {
  return {batch, true, options_.loss_scale, options_.pull, options_.seed};
}

Flow Stage::flow_of(Tape& tape, const Boundary& in) const {
  const auto leaf = [&](const Tensor& t, Fields field) { return t ? tape.leaf(t, options_.gradients & field) : Var(); };
  Flow flow;
  flow.x_BTC = leaf(in.x_BTC, kX);
  flow.origin_BTC = leaf(in.origin_BTC, kOrigin);
  flow.compressed_BTZ = leaf(in.compressed_BTZ, kCompressed);
  return flow;
}

// What of a flow the next stage gets.
Boundary Stage::given(const Flow& flow) const {
  const auto value = [&](const Var& v, Fields field) { return v && (options_.gives & field) ? v.value() : Tensor(); };
  return {value(flow.x_BTC, kX), value(flow.origin_BTC, kOrigin), value(flow.compressed_BTZ, kCompressed)};
}

bool Stage::is_held_up() const {
  return !idle_.empty() && std::ranges::none_of(idle_, [](const auto& slot) { return slot->is_free(); });
}

std::unique_ptr<Stage::Slot> Stage::take_slot() {
  const auto free = std::ranges::find_if(idle_, [](const auto& slot) { return slot->is_free(); });
  if (free == idle_.end()) return std::make_unique<Slot>(options_.device);
  auto slot = std::move(*free);
  idle_.erase(free);
  return slot;
}

void Stage::end_flight(int microbatch) {
  InFlight& f = in_flight_.at(microbatch);
  f.tape.reset();
  if (f.slot->graphs) f.slot->graphs->ready = true;
  idle_.push_back(std::move(f.slot));
  in_flight_.erase(microbatch);
}

Stage::InFlight& Stage::in_flight(int microbatch, const char* pass) {
  const auto found = in_flight_.find(microbatch);
  GF_CHECK(found != in_flight_.end(), pass, " of microbatch ", microbatch, ", which is not in flight");
  return found->second;
}

Boundary Stage::forward(int microbatch, const Batch& batch, const Boundary& in, ParameterHooks* hooks) {
  GF_CHECK(!in_flight_.contains(microbatch), "microbatch ", microbatch, " is already in flight");
  InFlight& f = in_flight_[microbatch];
  f.slot = take_slot();
  f.captured = may_capture(f, microbatch, batch, hooks);
  Boundary up;
  if (f.captured) {
    up = launch_forward(f, batch, in, hooks);
  } else {
    f.batch = batch_on(batch, f.slot->arena);
    up = run_forward(f, in, hooks);
    if (f.loss) keep_loss(f.loss.value());
    if (options_.graphs && !f.slot->graphs) f.slot->graphs = std::make_unique<Graphs>(f.batch, in, up, f.loss);
  }
  if (!layers_.head() && !goes_back()) end_flight(microbatch);
  return up;
}

Boundary Stage::run_forward(InFlight& f, const Boundary& in, ParameterHooks* hooks) {
  f.tape = std::make_unique<Tape>(f.slot->arena, goes_back() ? Tape::Mode::record : Tape::Mode::evaluate);
  if (hooks) f.tape->between_ops([hooks] { hooks->look(); });
  f.in = flow_of(*f.tape, in);
  const Pass pass = pass_of(f.batch);
  Flow out = layers_.forward(*f.tape, pass, f.in, options_.recompute, {}, hooks);
  if (layers_.head()) {
    f.loss = layers_.loss(*f.tape, pass, out.x_BTC, hooks).loss;
    return {};
  }
  f.out = std::move(out);
  f.out.keys_BTA = {};
  f.out.values_BTC = {};
  return given(f.out);
}

Boundary Stage::backward(int microbatch, const Boundary& grad_out, WeightGradients weights) {
  InFlight& f = in_flight(microbatch, "backward");
  Boundary down;
  if (f.captured) {
    down = launch_backward(f, grad_out, weights);
  } else {
    down = run_backward(f, grad_out, weights);
    if (f.slot->graphs) f.slot->graphs->learn_backward(grad_out, down);
  }
  if (weights == WeightGradients::now) end_flight(microbatch);
  return down;
}

Boundary Stage::run_backward(InFlight& f, const Boundary& grad_out, WeightGradients weights) {
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
  f.tape->backward(std::move(seeds), weights);
  const auto grad = [&](const Var& v) { return v ? f.tape->grad(v) : Tensor(); };
  Boundary grad_in{grad(f.in.x_BTC), grad(f.in.origin_BTC), grad(f.in.compressed_BTZ)};
  f.in = {};
  f.loss = {};
  return grad_in;
}

void Stage::backward_weights(int microbatch) {
  InFlight& f = in_flight(microbatch, "weight gradients");
  if (f.captured)
    launch_backward_weights(f);
  else
    f.tape->backward_weights();
  end_flight(microbatch);
}

void Stage::keep_loss(const Tensor& loss) {
  if (options_.device.kind == Device::Kind::meta) return;
  if (options_.device == kCpu) {
    loss_ += loss.data<float>()[0];
    return;
  }
  if (!losses_ || num_losses_ == losses_.numel()) {
    constexpr int64_t kFew = 64;
    const Tensor more = Tensor::empty({std::max(kFew, 2 * num_losses_)}, loss.dtype(), loss.device());
    if (num_losses_ > 0) copy(losses_, more.range(0, num_losses_));
    losses_ = more;
  }
  copy(loss.view({1}), losses_.range(num_losses_, num_losses_ + 1));
  ++num_losses_;
}

double Stage::take_loss() {
  if (num_losses_ > 0) {
    const Tensor here = pinned_.empty({num_losses_}, losses_.dtype());
    copy(losses_.range(0, num_losses_), here);
    for (int64_t i = 0; i < num_losses_; ++i) loss_ += here.data<float>()[i];
    num_losses_ = 0;
  }
  return std::exchange(loss_, 0);
}

Boundary Stage::evaluate(Arena& arena, const Batch& batch, const Boundary& in, Sums& sum, ParameterHooks* hooks,
                         const LayerStack::Observer& observer) {
  Tape tape(arena, Tape::Mode::evaluate);
  const Batch here = batch_on(batch, arena);
  const Pass pass{here};
  const Flow out = layers_.forward(tape, pass, flow_of(tape, in), false, observer, hooks);
  if (!layers_.head()) return given(out);
  const Head::Loss result = layers_.loss(tape, pass, out.x_BTC, hooks);
  if (options_.device.kind == Device::Kind::meta) return {};
  const int64_t n = batch.targets_BT.numel(), T = batch.targets_BT.size(1);
  const auto parts = static_cast<int64_t>(sum.by_position.size());
  const Tensor losses = on(kCpu, result.losses_BT), correct_BT = on(kCpu, result.correct_BT);
  for (int64_t i = 0; i < n; ++i) {
    if (batch.targets_BT.data<int32_t>()[i] == kNoTarget) continue;
    const double loss = losses.data<double>()[i];
    const int32_t correct = correct_BT.data<int32_t>()[i];
    sum.add(loss, correct);
    if (parts > 0) sum.by_position[static_cast<size_t>(i % T * parts / T)].add(loss, correct);
  }
  return {};
}

size_t Stage::activation_bytes() const {
  size_t bytes = 0;
  for (const auto& slot : idle_) bytes += slot->arena.reserved_bytes();
  for (const auto& [microbatch, f] : in_flight_) bytes += f.slot->arena.reserved_bytes();
  return bytes;
}

}  // namespace gf
