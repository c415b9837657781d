// SPDX-License-Identifier: Apache-2.0
#include "ops/embedding/embedding.h"

#include <limits>

#include "ops/embedding/kernels.h"

namespace gf {
namespace {

// The shape of the tokens with the table's width behind it.
Shape output_shape(const Shape& tokens, int64_t C) {
  std::vector<int64_t> dims(tokens.dims().begin(), tokens.dims().end());
  dims.push_back(C);
  return Shape(std::span<const int64_t>(dims));
}

void add_rows(const Tensor& tokens, const Tensor& dy, const Tensor& order, const Tensor& heads, const Tensor& sum) {
  with_real(dy.dtype(), [&]<class T>(Type<T>) {
    const EmbeddingBackwardArgs<T> args{.M = tokens.numel(),
                                        .C = dy.size(-1),
                                        .V = sum.size(0),
                                        .tokens = tokens.data<int32_t>(),
                                        .dy = dy.data<T>(),
                                        .order = order.data<int32_t>(),
                                        .heads = data_or_null<Inner<T>>(heads),
                                        .dtable = sum.data<Inner<T>>()};
    on_device(
        dy.device(), args, [](const auto& p) { cpu::embedding_backward(p); },
        [](const auto& p, auto stream) { cuda::embedding_backward(p, stream); });
  });
}

}  // namespace

Var embedding(const Tensor& tokens, const Var& table) {
  Tape& tape = table.tape();
  GF_CHECK(table.shape().rank() == 2 && tokens.dtype() == DType::i32, "embedding: tokens ", tokens.shape(), " ",
           tokens.dtype(), ", table ", table.shape());
  GF_CHECK(tokens.numel() <= std::numeric_limits<int32_t>::max(), "embedding of ", tokens.numel(), " tokens at once");
  const bool narrow = table.value().dtype() == DType::bf16 && table.value().device() == kCpu;
  Tensor y = tape.empty(output_shape(tokens.shape(), table.size(1)), narrow ? DType::f32 : table.value().dtype());
  with_real(y.dtype(), [&]<class T>(Type<T>) {
    const EmbeddingArgs<T> args{.M = tokens.numel(),
                                .C = table.size(1),
                                .V = table.size(0),
                                .tokens = tokens.data<int32_t>(),
                                .table = narrow ? nullptr : table.value().data<T>(),
                                .y = y.data<T>(),
                                .narrow_table = narrow ? table.value().data<BFloat16>() : nullptr};
    on_device(
        y.device(), args, [](const auto& p) { cpu::embedding(p); },
        [](const auto& p, auto stream) { cuda::embedding(p, stream); });
  });
  return tape.record("embedding", {table}, std::move(y), [tokens, &tape](std::span<Tensor> grad, Grads& grads) {
    const Tensor& dy = grad[0];
    const Tensor order = tape.empty({embedding_order(tokens.numel(), dy.device())}, DType::i32);
    const Tensor heads = is_like_gpu(dy.device())
                             ? tape.empty({embedding_runs(tokens.numel()).size(), dy.size(-1)}, inner(dy.dtype()))
                             : Tensor();
    grads.later(0, [tokens, order, heads, dy = std::move(grad[0])](const Tensor& sum) {
      add_rows(tokens, dy, order, heads, sum);
    });
  });
}

}  // namespace gf
