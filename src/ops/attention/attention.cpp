// SPDX-License-Identifier: Apache-2.0
#include "ops/attention/attention.h"

#include "base/trace.h"
#include "ops/attention/kernels.h"

namespace gf {
namespace {

// What the backward pass needs of the forward pass.
struct Saved {
  Tensor q, k, v, y, lse;
  bool alibi;
};

struct Gradients {
  Tensor q, k, v;  // empty where not wanted
};

// Of so many products of T x T by N, of which the causal half is needed.
double product_flops(int products, const Tensor& q, int64_t keys) {
  return products * static_cast<double>(q.numel()) * static_cast<double>(keys);
}

Gradients backward(Tape& tape, const Saved& s, const Tensor& dy, const Grads& grads) {
  const auto if_wanted = [&](int input, const Tensor& like) {
    return grads.wants(input) ? tape.empty(like.shape(), like.dtype()) : Tensor();
  };
  Gradients d{if_wanted(0, s.q), if_wanted(1, s.k), if_wanted(2, s.v)};
  const int64_t B = s.q.size(0), Tq = s.q.size(1), Tk = s.k.size(1), C = s.q.size(2), H = s.lse.size(1);
  const Tensor delta = tape.empty(s.lse.shape(), s.lse.dtype());
  const bool on_gpu = is_like_gpu(dy.device());
  const int64_t sums = d.q && !on_gpu ? attention_key_groups(B, H, Tk) - 1 : 0;
  const Tensor partial = sums > 0 ? tape.empty({sums, B, Tq, C}, inner(s.q.dtype())) : Tensor();
  Trace::add_flops(product_flops(5, s.q, Tk));
  with_real(s.q.dtype(), [&]<class T>(Type<T>) {
    const AttentionBackwardArgs<T> args{.B = B,
                                        .Tq = Tq,
                                        .Tk = Tk,
                                        .H = H,
                                        .N = C / H,
                                        .before = Tk - Tq,
                                        .alibi = s.alibi,
                                        .q = s.q.data<T>(),
                                        .k = s.k.data<T>(),
                                        .v = s.v.data<T>(),
                                        .y = s.y.data<T>(),
                                        .lse = s.lse.data<Inner<T>>(),
                                        .dy = dy.data<T>(),
                                        .dq = data_or_null<T>(d.q),
                                        .dk = data_or_null<T>(d.k),
                                        .dv = data_or_null<T>(d.v),
                                        .delta = delta.data<Inner<T>>(),
                                        .partial = data_or_null<Inner<T>>(partial)};
    on_device(
        dy.device(), args, [](const auto& p) { cpu::attention_backward(p); },
        [](const auto& p, auto stream) { cuda::attention_backward(p, stream); });
  });
  return d;
}

// Of the queries q over the keys k, written to y and lse.
void run(const Saved& s, int64_t num_heads, int64_t before, bool go_on) {
  const int64_t B = s.q.size(0), C = s.q.size(2);
  Trace::add_flops(product_flops(2, s.q, s.k.size(1)));
  with_real(s.q.dtype(), [&]<class Real>(Type<Real>) {
    const AttentionArgs<Real> args{.B = B,
                                   .Tq = s.q.size(1),
                                   .Tk = s.k.size(1),
                                   .H = num_heads,
                                   .N = C / num_heads,
                                   .before = before,
                                   .go_on = go_on,
                                   .alibi = s.alibi,
                                   .q = s.q.data<Real>(),
                                   .k = s.k.data<Real>(),
                                   .v = s.v.data<Real>(),
                                   .y = s.y.data<Real>(),
                                   .lse = s.lse.data<Inner<Real>>()};
    on_device(
        s.q.device(), args, [](const auto& p) { cpu::attention(p); },
        [](const auto& p, auto stream) { cuda::attention(p, stream); });
  });
}

void check_queries(const Var& q, int64_t num_heads) {
  GF_CHECK(q.shape().rank() == 3 && num_heads > 0 && q.size(2) % num_heads == 0, "attention: ", num_heads,
           " heads of queries ", q.shape());
}

}  // namespace

Var attention(const Var& q, const Var& k, const Var& v, int64_t num_heads, AttentionBias bias) {
  Tape& tape = q.tape();
  check_queries(q, num_heads);
  check_shape("attention", "keys", k.value(), q.shape());
  check_shape("attention", "values", v.value(), q.shape());
  const DType dtype = q.value().dtype();
  Saved s{q.value(),
          k.value(),
          v.value(),
          tape.empty(q.shape(), dtype),
          tape.empty({q.size(0), num_heads, q.size(1)}, inner(dtype)),
          bias == AttentionBias::alibi};
  run(s, num_heads, 0, false);
  Tensor y = s.y;
  return tape.record("attention", {q, k, v}, std::move(y),
                     [s = std::move(s), &tape](std::span<Tensor> grad, Grads& grads) {
                       Gradients d = backward(tape, s, grad[0], grads);
                       if (d.q) grads.add(0, std::move(d.q));
                       if (d.k) grads.add(1, std::move(d.k));
                       if (d.v) grads.add(2, std::move(d.v));
                     });
}

RunningAttention::RunningAttention(const Var& q, int64_t num_heads, AttentionBias bias, int64_t first_query)
    : q_(q), num_heads_(num_heads), bias_(bias), first_query_(first_query) {
  check_queries(q, num_heads);
  GF_CHECK(!q.tape().recording(), "running attention has no gradient");
  y_ = q.tape().empty(q.shape(), q.value().dtype());
  lse_ = q.tape().empty({q.size(0), num_heads, q.size(1)}, inner(q.value().dtype()));
}

void RunningAttention::add(const Tensor& k, const Tensor& v, int64_t first_key) {
  check_shape("attention", "keys", k, {q_.size(0), k.size(1), q_.size(2)});
  check_shape("attention", "values", v, k.shape());
  const TraceSpan span(Trace::Kind::op, [] { return Trace::What{"attention"}; });
  run({q_.value(), k, v, y_, lse_, bias_ == AttentionBias::alibi}, num_heads_, first_query_ - first_key, started_);
  started_ = true;
}

Var RunningAttention::result() const {
  GF_CHECK(started_, "attention over no keys");
  return q_.tape().leaf(y_, false);
}

}  // namespace gf
