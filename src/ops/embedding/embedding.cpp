// SPDX-License-Identifier: Apache-2.0
#include "ops/embedding/embedding.h"

#include <algorithm>
#include <limits>

#include "base/trace.h"
#include "ops/embedding/kernels.h"

namespace gf {
namespace {

// The shape of the tokens with the table's width behind it.
Shape output_shape(const Shape& tokens, int64_t C) {
  std::vector<int64_t> dims(tokens.dims().begin(), tokens.dims().end());
  dims.push_back(C);
  return Shape(std::span<const int64_t>(dims));
}

// What a trace counts of a table: the rows looked up, each once. How many tokens are the same is not counted: a GPU's
// lie where nobody here reads them, and the meta device has none.
double bytes_of_rows(int64_t tokens, const Shape& table, DType dtype) {
  return static_cast<double>(std::min(tokens, table[0]) * table[1]) * static_cast<double>(size_of(dtype));
}

double bytes_of(const Tensor& tokens, const Tensor& rows) {
  return static_cast<double>(tokens.bytes() + rows.bytes());
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
  const Shape shape = table.shape();
  Trace::set_bytes(bytes_of(tokens, y) + bytes_of_rows(tokens.numel(), shape, table.value().dtype()));
  return tape.record("embedding", {table}, std::move(y), [tokens, shape, &tape](std::span<Tensor> grad, Grads& grads) {
    const Tensor& dy = grad[0];
    // Rows of the sum are read and written; the table itself is not read.
    Trace::set_bytes(bytes_of(tokens, dy) + 2 * bytes_of_rows(tokens.numel(), shape, inner(dy.dtype())));
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
