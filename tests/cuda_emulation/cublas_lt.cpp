// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "cublasLt.h"
#include "cuda_bf16.h"

namespace {

constexpr uint64_t kMagic = 0xa190;  // of what this has named an algorithm
constexpr int kAlgorithms = 3;

double load(const void* data, cudaDataType_t type, int64_t i) {
  switch (type) {
    case CUDA_R_32F:
      return static_cast<const float*>(data)[i];
    case CUDA_R_64F:
      return static_cast<const double*>(data)[i];
    case CUDA_R_16BF:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
  }
  return 0;
}

void store(void* data, cudaDataType_t type, int64_t i, double x) {
  switch (type) {
    case CUDA_R_32F:
      static_cast<float*>(data)[i] = static_cast<float>(x);
      break;
    case CUDA_R_64F:
      static_cast<double*>(data)[i] = x;
      break;
    case CUDA_R_16BF:
      static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(static_cast<float>(x));
      break;
  }
}

// Where element (row, col) of op(matrix) lies.
int64_t place(cublasLtMatrixLayout_t m, cublasOperation_t op, int64_t batch, int64_t row, int64_t col) {
  return batch * m->apart + (op == CUBLAS_OP_N ? row + col * m->stride : col + row * m->stride);
}

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) {
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "invalid value";
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t, cudaDataType_t scale) {
  *desc = new cublasLtMatmulDescOpaque_t{scale};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t size) {
  if (size != sizeof(cublasOperation_t)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(attribute == CUBLASLT_MATMUL_DESC_TRANSA ? &desc->a : &desc->b, value, size);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t stride) {
  if (stride < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new cublasLtMatrixLayoutOpaque_t{type, rows, cols, stride};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t size) {
  const bool count = attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
  if (size != (count ? sizeof(int32_t) : sizeof(int64_t))) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(count ? static_cast<void*>(&layout->count) : &layout->apart, value, size);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t size) {
  const bool workspace = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
  if (size != (workspace ? sizeof(uint64_t) : sizeof(uint32_t))) return CUBLAS_STATUS_INVALID_VALUE;
  uint32_t number = 0;
  if (!workspace) std::memcpy(&number, value, size);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
    return number == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
  if (!workspace) preference->alignment = std::min(preference->alignment, number);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference,
                                              int wanted, cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = 0;
  const auto is_odd = [&](cublasLtMatrixLayout_t m) {
    return m->type == CUDA_R_16BF && (preference->alignment < 4 || m->stride % 2 != 0 || m->apart % 2 != 0);
  };
  if (is_odd(a) || is_odd(b) || is_odd(c) || is_odd(d)) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (; *found < std::min(wanted, kAlgorithms); ++*found)
    results[*found] = {{{kMagic, static_cast<uint64_t>(*found)}}, 0, CUBLAS_STATUS_SUCCESS};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result) {
  *result = {*algorithm, 0, CUBLAS_STATUS_SUCCESS};
  return algorithm->data[0] == kMagic ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
size_t cublasLtGetVersion() {
  return 130000;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t la, const void* b, cublasLtMatrixLayout_t lb, const void* beta,
                              const void* c, cublasLtMatrixLayout_t lc, void* d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t* algorithm, void*, size_t, cudaStream_t stream) {
  if (algorithm->data[0] != kMagic) return CUBLAS_STATUS_INVALID_VALUE;
  const auto m = static_cast<int64_t>(lc->rows), n = static_cast<int64_t>(lc->cols);
  const auto k = static_cast<int64_t>(desc->a == CUBLAS_OP_N ? la->cols : la->rows);
  const auto ka = desc->a == CUBLAS_OP_N ? la->rows : la->cols, kb = desc->b == CUBLAS_OP_N ? lb->cols : lb->rows;
  const auto kk = desc->b == CUBLAS_OP_N ? lb->rows : lb->cols;
  if (static_cast<int64_t>(ka) != m || static_cast<int64_t>(kb) != n || static_cast<int64_t>(kk) != k)
    return CUBLAS_STATUS_INVALID_VALUE;
  const double by = load(alpha, desc->scale, 0), keep = load(beta, desc->scale, 0);
  emulation::give(stream, [=] {
#pragma omp parallel for collapse(3)
    for (int64_t batch = 0; batch < lc->count; ++batch)
      for (int64_t col = 0; col < n; ++col)
        for (int64_t row = 0; row < m; ++row) {
          double sum = 0;
          for (int64_t i = 0; i < k; ++i)
            sum += load(a, la->type, place(la, desc->a, batch, row, i)) *
                   load(b, lb->type, place(lb, desc->b, batch, i, col));
          sum *= by;
          if (keep != 0) sum += keep * load(c, lc->type, place(lc, CUBLAS_OP_N, batch, row, col));
          store(d, ld->type, place(ld, CUBLAS_OP_N, batch, row, col), sum);
        }
  });
  return CUBLAS_STATUS_SUCCESS;
}
