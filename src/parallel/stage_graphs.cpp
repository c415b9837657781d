// SPDX-License-Identifier: Apache-2.0
#include "parallel/stage_graphs.h"

#include <functional>
#include <tuple>

#include "base/trace.h"
#include "tensor/arithmetic.h"
#include "tensor/pinned_memory.h"

namespace gf {
namespace {

Tensor like(const Tensor& t) {
  return t ? Tensor::empty(t.shape(), t.dtype(), t.device()) : Tensor();
}

Boundary like(const Boundary& b) {
  return {like(b.x_BTC), like(b.origin_BTC), like(b.compressed_BTZ)};
}

}  // namespace

void copy(const Boundary& from, const Boundary& to) {
  const auto source = tensors_of(from), target = tensors_of(to);
  GF_CHECK(source.size() == target.size(), source.size(), " tensors at a cut where there were ", target.size());
  for (size_t i = 0; i < source.size(); ++i) copy(source[i], target[i]);
}

Stage::Graphs::Graphs(const Batch& b, const Boundary& in, const Boundary& out, const Var& loss)
    : batch{like(b.inputs_BT), like(b.targets_BT), b.samples_B, b.masked},
      in(like(in)),
      out(like(out)),
      loss(loss ? like(loss.value()) : Tensor()) {
  PinnedMemory pinned;
  const auto beside = [&](const Tensor& t) { return t ? pinned.empty(t.shape(), t.dtype()) : Tensor(); };
  staged = {beside(b.inputs_BT), beside(b.targets_BT), {}, false};
}

void Stage::Graphs::learn_backward(const Boundary& out_grad, const Boundary& in_grad) {
  if (ready) return;
  grad_out = like(out_grad);
  grad_in = like(in_grad);
}

bool Stage::Graphs::is_for(const Batch& b) const {
  const auto alike = [](const Tensor& a, const Tensor& c) { return a.shape() == c.shape(); };
  return alike(b.inputs_BT, batch.inputs_BT) && alike(b.targets_BT, batch.targets_BT) &&
         b.samples_B.size() == batch.samples_B.size() && b.masked == batch.masked;
}

bool Stage::Graphs::is_free() const {
  for (const Boundary& b : {std::cref(out), std::cref(grad_in)})
    for (const Tensor* t : {&b.x_BTC, &b.origin_BTC, &b.compressed_BTZ})
      if (*t && !t->sole_owner()) return false;
  return true;
}

void Stage::Graphs::set(const Batch& b, const Boundary& boundary) {
  copied.wait();
  for (const auto& [from, between, to] : {std::tie(b.inputs_BT, staged.inputs_BT, batch.inputs_BT),
                                          std::tie(b.targets_BT, staged.targets_BT, batch.targets_BT)}) {
    if (!from) continue;
    gf::copy(from, between);
    gf::copy(between, to);
  }
  copied = StreamEvent::of_current(batch.inputs_BT ? batch.inputs_BT.device() : kCpu);
  gf::copy(boundary, in);
}

bool Stage::may_capture(const InFlight& f, int microbatch, const Batch& batch, ParameterHooks* hooks) const {
  const Graphs* const graphs = f.slot->graphs.get();
  return graphs && graphs->ready && graphs->is_for(batch) && !Trace::current() &&
         (!hooks || hooks->may_come_at_once(microbatch));
}

Boundary Stage::launch_forward(InFlight& f, const Batch& batch, const Boundary& in, ParameterHooks* hooks) {
  Graphs& g = *f.slot->graphs;
  f.hooks = hooks;
  if (hooks) layers_.announce_uses(*hooks);
  g.set(batch, in);
  if (!g.forward)
    g.forward = CapturedWork([&] {
      f.batch = g.batch;
      copy(run_forward(f, g.in, nullptr), g.out);
      if (f.loss) gf::copy(f.loss.value(), g.loss);
    });
  g.forward.launch();
  if (g.loss) keep_loss(g.loss);
  return g.out;
}

// Where the graphs put weight gradients off and this microbatch does not, or the other way round, it takes them as
// the graphs do.
Boundary Stage::launch_backward(InFlight& f, const Boundary& grad_out, WeightGradients weights) {
  Graphs& g = *f.slot->graphs;
  copy(grad_out, g.grad_out);
  if (!g.backward) g.backward = CapturedWork([&] { copy(run_backward(f, g.grad_out, weights), g.grad_in); });
  g.backward.launch();
  if (weights == WeightGradients::now) launch_backward_weights(f);
  return g.grad_in;
}

void Stage::launch_backward_weights(InFlight& f) {
  Graphs& g = *f.slot->graphs;
  if (f.tape && f.tape->has_put_off()) g.backward_weights = CapturedWork([&] { f.tape->backward_weights(); });
  if (g.backward_weights) g.backward_weights.launch();
  if (f.hooks) layers_.announce_gradients(*f.hooks);
}

}  // namespace gf
