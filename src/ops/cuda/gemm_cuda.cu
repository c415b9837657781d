// SPDX-License-Identifier: Apache-2.0
#include "ops/cuda/gemm.h"

#include <cublasLt.h>

#include <compare>
#include <map>
#include <memory>

#include "tensor/cuda/launch.cuh"

namespace gf::cuda {
namespace {

void check_cublas(cublasStatus_t status, const char* doing) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(cat("cuBLASLt could not ", doing, ": ", cublasLtGetStatusString(status)));
}

template <class T>
constexpr cudaDataType_t type_of() {
  if constexpr (std::is_same_v<T, float>)
    return CUDA_R_32F;
  else if constexpr (std::is_same_v<T, double>)
    return CUDA_R_64F;
  else
    return CUDA_R_16BF;
}

// What owns one of cuBLASLt's descriptions.
template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;

Owned<cublasLtMatrixLayout_t> layout_of(cudaDataType_t type, int64_t rows, int64_t cols, int64_t stride,
                                        const GemmStrides& batch, int64_t apart) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublas(
      cublasLtMatrixLayoutCreate(&layout, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), stride),
      "describe a matrix");
  Owned<cublasLtMatrixLayout_t> owned(layout, cublasLtMatrixLayoutDestroy);
  if (batch.count == 1) return owned;
  const auto count = static_cast<int32_t>(batch.count);
  check_cublas(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)),
               "describe matrices");
  check_cublas(
      cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &apart, sizeof(apart)),
      "describe matrices");
  return owned;
}

// A product as cuBLASLt, which counts by columns, sees it: C^T = op(B)^T op(A)^T, each read as its own transpose.
struct Product {
  Owned<cublasLtMatmulDesc_t> operation;
  Owned<cublasLtMatrixLayout_t> a, b, c;
  cublasLtMatmulAlgo_t algorithm;
};

struct Key {
  int in, out;
  bool transpose_a, transpose_b, adds, tf32;
  int64_t m, n, k, lda, ldb, ldc, count, a, b, c;
  int alignment;  // of the least aligned of the three, in bytes
  auto operator<=>(const Key&) const = default;
};

int alignment_of(std::initializer_list<const void*> pointers) {
  uintptr_t bits = 256;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return static_cast<int>(bits & (~bits + 1));
}

// Of one thread, as its stream is: the handle, its memory and the products that it has seen.
class Products {
 public:
  Products() {
    check_cublas(cublasLtCreate(&handle_), "begin");
    workspace_ = allocate(kWorkspace, {});
  }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;
  ~Products() {
    release(workspace_, {});
    cublasLtDestroy(handle_);
  }

  void use_tf32(bool use) { tf32_ = use; }

  template <class In, class Out>
  void run(CudaStream stream, const GemmShape& s, const GemmStrides& batch, Inner<In> alpha, const In* a, const In* b,
           Inner<In> beta, Out* c) {
    const Key key{type_of<In>(),
                  type_of<Out>(),
                  s.transpose_a,
                  s.transpose_b,
                  beta != 0,
                  tf32_,
                  s.m,
                  s.n,
                  s.k,
                  s.lda,
                  s.ldb,
                  s.ldc,
                  batch.count,
                  batch.a,
                  batch.b,
                  batch.c,
                  alignment_of({a, b, c})};
    auto found = known_.find(key);
    if (found == known_.end()) found = known_.emplace(key, make<In, Out>(key, s, batch)).first;
    const Product& p = found->second;
    check_cublas(cublasLtMatmul(handle_, p.operation.get(), &alpha, b, p.b.get(), a, p.a.get(), &beta, c, p.c.get(), c,
                                p.c.get(), &p.algorithm, workspace_, kWorkspace, native(stream)),
                 "multiply matrices");
  }

 private:
  static constexpr size_t kWorkspace = size_t{32} << 20;  // what NVIDIA advises for Hopper

  template <class In, class Out>
  Product make(const Key& key, const GemmShape& s, const GemmStrides& batch) {
    cublasLtMatmulDesc_t operation = nullptr;
    const bool is_double = std::is_same_v<In, double>, rounds = std::is_same_v<In, float> && key.tf32;
    const cublasComputeType_t in_float = rounds ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    check_cublas(cublasLtMatmulDescCreate(&operation, is_double ? CUBLAS_COMPUTE_64F : in_float,
                                          is_double ? CUDA_R_64F : CUDA_R_32F),
                 "describe a product");
    Product p{{operation, cublasLtMatmulDescDestroy},
              layout_of(type_of<In>(), s.transpose_a ? s.m : s.k, s.transpose_a ? s.k : s.m, s.lda, batch, batch.a),
              layout_of(type_of<In>(), s.transpose_b ? s.k : s.n, s.transpose_b ? s.n : s.k, s.ldb, batch, batch.b),
              layout_of(type_of<Out>(), s.n, s.m, s.ldc, batch, batch.c),
              {}};
    const cublasOperation_t first = s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    check_cublas(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first)),
                 "describe a product");
    check_cublas(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof(second)),
                 "describe a product");
    choose(key, p);
    return p;
  }

  // The one that cuBLASLt's heuristics put first: they are functions of the shape and the GPU.
  void choose(const Key& key, Product& p) {
    cublasLtMatmulPreference_t preference = nullptr;
    check_cublas(cublasLtMatmulPreferenceCreate(&preference), "begin a search");
    const Owned<cublasLtMatmulPreference_t> owned(preference, cublasLtMatmulPreferenceDestroy);
    check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace,
                                                      sizeof(kWorkspace)),
                 "limit a search");
    const auto alignment = static_cast<uint32_t>(key.alignment);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment, sizeof(alignment)),
                   "limit a search");
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    check_cublas(cublasLtMatmulAlgoGetHeuristic(handle_, p.operation.get(), p.b.get(), p.a.get(), p.c.get(), p.c.get(),
                                                preference, 1, &best, &found),
                 "find an algorithm");
    if (found == 0) fail(cat("cuBLASLt has no algorithm for ", key.m, "x", key.k, " by ", key.k, "x", key.n));
    p.algorithm = best.algo;
  }

  bool tf32_ = false;
  cublasLtHandle_t handle_ = nullptr;
  std::byte* workspace_ = nullptr;
  std::map<Key, Product> known_;
};

Products& products() {
  thread_local Products own;
  return own;
}

}  // namespace

void use_tf32(bool use) {
  products().use_tf32(use);
}

template <class In, class Out>
void batched_gemm(CudaStream stream, const GemmShape& s, const GemmStrides& batch, Inner<In> alpha, const In* a,
                  const In* b, Inner<In> beta, Out* c) {
  if (s.m == 0 || s.n == 0 || batch.count == 0) return;
  products().run(stream, s, batch, alpha, a, b, beta, c);
}

template <class In, class Out>
void gemm(CudaStream stream, const GemmShape& s, Inner<In> alpha, const In* a, const In* b, Inner<In> beta, Out* c) {
  batched_gemm(stream, s, GemmStrides{1, 0, 0, 0}, alpha, a, b, beta, c);
}

template void gemm(CudaStream, const GemmShape&, float, const float*, const float*, float, float*);
template void gemm(CudaStream, const GemmShape&, double, const double*, const double*, double, double*);
template void gemm(CudaStream, const GemmShape&, float, const BFloat16*, const BFloat16*, float, BFloat16*);
template void gemm(CudaStream, const GemmShape&, float, const BFloat16*, const BFloat16*, float, float*);
template void batched_gemm(CudaStream, const GemmShape&, const GemmStrides&, float, const float*, const float*, float,
                           float*);
template void batched_gemm(CudaStream, const GemmShape&, const GemmStrides&, double, const double*, const double*,
                           double, double*);
template void batched_gemm(CudaStream, const GemmShape&, const GemmStrides&, float, const BFloat16*, const BFloat16*,
                           float, BFloat16*);
template void batched_gemm(CudaStream, const GemmShape&, const GemmStrides&, float, const BFloat16*, const BFloat16*,
                           float, float*);

}  // namespace gf::cuda
