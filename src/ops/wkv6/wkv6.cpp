// SPDX-License-Identifier: Apache-2.0
#include "ops/wkv6/wkv6.h"

#include "base/trace.h"
#include "ops/wkv6/kernels.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

struct Saved {
  Tensor r, k, v, w, u;
  int64_t num_heads;
  bool scale_keys;
};

// Of passes over all states that read them once, let them decay and add an outer product.
double scan_flops(int passes, const Saved& s) {
  const int64_t head_size = s.r.size(2) / s.num_heads;
  return 5.0 * passes * static_cast<double>(s.r.numel() * head_size);
}

template <class T>
Wkv6Args<T> args_of(const Saved& s, const Tensor& add, const Tensor& y) {
  const int64_t B = s.r.size(0), Tn = s.r.size(1), C = s.r.size(2);
  return {.B = B,
          .Tn = Tn,
          .H = s.num_heads,
          .N = C / s.num_heads,
          .r = s.r.data<T>(),
          .k = s.k.data<T>(),
          .v = s.v.data<T>(),
          .w = s.w.data<T>(),
          .u = data_or_null<T>(s.u),
          .add = data_or_null<T>(add),
          .scale_keys = s.scale_keys,
          .y = data_or_null<T>(y),
          .state = nullptr,
          .scratch = nullptr};
}

void check(const Wkv6& op) {
  const Shape& shape = op.r.shape();
  GF_CHECK(shape.rank() == 3 && op.num_heads > 0 && shape[2] % op.num_heads == 0, "wkv6: r is ", shape, " with ",
           op.num_heads, " heads");
  GF_CHECK(shape[2] / op.num_heads <= kMaxWkvHeadSize, "wkv6: heads of ", shape[2] / op.num_heads, " channels");
  check_shape("wkv6", "k", op.k.value(), shape);
  check_shape("wkv6", "v", op.v.value(), shape);
  check_shape("wkv6", "w", op.w.value(), shape);
  if (op.u) check_shape("wkv6", "u", op.u->value(), {op.num_heads, shape[2] / op.num_heads});
  if (op.add) check_shape("wkv6", "add", op.add->value(), shape);
  if (!op.state) return;
  const int64_t N = shape[2] / op.num_heads;
  check_shape("wkv6", "state", op.state, {shape[0], op.num_heads, N, N});
  GF_CHECK(!op.r.tape().recording(), "wkv6: no gradient where a state is given");
}

// Of a block of threads; what is only reckoned is for a GPU that has enough.
size_t shared_memory_of(Device device) {
  if constexpr (kWithCuda)
    if (device.kind == Device::Kind::cuda) return cuda::shared_memory_of_block();
  return cuda::kWkv6SharedMemory;
}

// Working memory for the kernels on a GPU; on a CPU they have their own.
template <class T>
Tensor scratch(Tape& tape, const Wkv6Args<T>& args, int64_t cuda::Wkv6Scratch::*bytes) {
  if (!is_like_gpu(tape.arena().device())) return {};
  const int64_t size =
      cuda::wkv6_scratch(args, cuda::wkv6_kernel(args, shared_memory_of(tape.arena().device()))).*bytes;
  return size > 0 ? tape.empty({(size + 3) / 4}, DType::f32) : Tensor();
}

// Inputs on the tape: r, k, v, w, then u and add where they are.
void backward(Tape& tape, const Saved& s, bool has_add, std::span<Tensor> grad, Grads& grads) {
  const Tensor dy = grad[0];
  Tensor d[4];
  for (Tensor& t : d) t = tape.empty(s.r.shape(), s.r.dtype());
  const int64_t B = s.r.size(0), C = s.r.size(2);
  Trace::add_flops(scan_flops(3, s));
  const Tensor du_partial = s.u ? tape.empty({B, C}, inner(s.r.dtype())) : Tensor();
  with_real(s.r.dtype(), [&]<class T>(Type<T>) {
    Wkv6BackwardArgs<T> args{args_of<T>(s, {}, {}),
                             dy.data<T>(),
                             d[0].data<T>(),
                             d[1].data<T>(),
                             d[2].data<T>(),
                             d[3].data<T>(),
                             data_or_null<Inner<T>>(du_partial)};
    const Tensor memory = scratch(tape, args.forward, &cuda::Wkv6Scratch::backward);
    args.forward.scratch = memory.raw();
    on_device(
        dy.device(), args, [](const auto& p) { cpu::wkv6_backward(p); },
        [](const auto& p, auto stream) { cuda::wkv6_backward(p, stream); });
  });
  for (int i = 0; i < 4; ++i)
    if (grads.wants(i)) grads.add(i, std::move(d[i]));
  if (s.u)
    if (const Tensor du = grads.sum(4))
      for (int64_t b = 0; b < B; ++b) add_to(du, du_partial.slice(b, b + 1).view(du.shape()));
  const int add_input = s.u ? 5 : 4;
  if (has_add && grads.wants(add_input)) grads.add(add_input, dy);
}

}  // namespace

Var wkv6(const Wkv6& op) {
  check(op);
  Tape& tape = op.r.tape();
  const Saved s{op.r.value(), op.k.value(), op.v.value(), op.w.value(), op.u ? op.u->value() : Tensor(),
                op.num_heads, op.scale_keys};
  Tensor y = tape.empty(s.r.shape(), s.r.dtype());
  const Tensor add = op.add ? op.add->value() : Tensor();
  Trace::add_flops(scan_flops(1, s));
  with_real(y.dtype(), [&]<class T>(Type<T>) {
    Wkv6Args<T> args = args_of<T>(s, add, y);
    if (op.state) args.state = op.state.data<Inner<T>>();
    const Tensor memory = scratch(tape, args, &cuda::Wkv6Scratch::forward);
    args.scratch = memory.raw();
    on_device(
        y.device(), args, [](const auto& p) { cpu::wkv6(p); },
        [](const auto& p, auto stream) { cuda::wkv6(p, stream); });
  });
  std::vector<Var> inputs{op.r, op.k, op.v, op.w};
  if (op.u) inputs.push_back(*op.u);
  if (op.add) inputs.push_back(*op.add);
  return tape.record("wkv6", inputs, {std::move(y)},
                     [s, has_add = op.add.has_value(), &tape](std::span<Tensor> grad, Grads& grads) {
                       backward(tape, s, has_add, grad, grads);
                     })[0];
}

}  // namespace gf
