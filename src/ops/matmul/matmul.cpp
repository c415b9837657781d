// SPDX-License-Identifier: Apache-2.0
#include "ops/matmul/matmul.h"

#include <utility>

#include "base/trace.h"
#include "ops/matmul/kernels.h"

namespace gf {

Matrix::Matrix(const Tensor& t, int64_t first_col, int64_t num_cols)
    : data(t.range(first_col, t.numel())), rows(t.numel() / t.size(-1)), cols(num_cols), stride(t.size(-1)) {
  GF_CHECK(first_col >= 0 && first_col + num_cols <= stride, "columns ", first_col, " to ", first_col + num_cols,
           " of ", t.shape());
}

Matrix Matrix::T() const {
  Matrix t = *this;
  std::swap(t.rows, t.cols);
  t.transposed = !transposed;
  return t;
}

void matmul(const Matrix& a, const Matrix& b, const Matrix& c, Into into) {
  GF_CHECK(a.cols == b.rows && c.rows == a.rows && c.cols == b.cols && !c.transposed, "matmul: ", a.rows, "x", a.cols,
           " by ", b.rows, "x", b.cols, " into ", c.rows, "x", c.cols);
  const DType ta = a.data.dtype(), tb = b.data.dtype(), tc = c.data.dtype();
  const bool narrow = ta == DType::f32 && tb == DType::bf16 && c.data.device() == kCpu;
  GF_CHECK((narrow || ta == tb) && (ta == tc || inner(ta) == tc), "matmul: ", ta, " by ", tb, " into ", tc, " on ",
           c.data.device());
  Trace::add_flops(2.0 * static_cast<double>(c.rows * c.cols * a.cols));
  with_real(ta, [&]<class T>(Type<T>) {
    const MatmulArgs<T> args{.m = a.rows,
                             .n = b.cols,
                             .k = a.cols,
                             .a = a.data.data<T>(),
                             .lda = a.stride,
                             .transpose_a = a.transposed,
                             .b = narrow ? nullptr : b.data.data<T>(),
                             .ldb = b.stride,
                             .transpose_b = b.transposed,
                             .c = ta == tc ? c.data.data<T>() : nullptr,
                             .wide_c = ta == tc ? nullptr : c.data.data<Inner<T>>(),
                             .ldc = c.stride,
                             .accumulate = into == Into::accumulate};
    if constexpr (std::is_same_v<T, float>) {
      if (narrow) return cpu::matmul(args, b.data.data<BFloat16>());
    }
    on_device(
        c.data.device(), args, [](const auto& p) { cpu::matmul(p); },
        [](const auto& p, auto stream) { cuda::matmul(p, stream); });
  });
}

}  // namespace gf
