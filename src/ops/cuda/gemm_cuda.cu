// SPDX-License-Identifier: Apache-2.0
#include "ops/cuda/gemm.h"

#include <cublasLt.h>

#include <compare>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "ops/cuda/gemm_plain.h"
#include "ops/cuda/product_choices.h"
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

// In cuBLASLt's own words. (Of the library's type, which has no name, nvcc makes no vectors.)
using Algorithm = ProductChoices::Algorithm;
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));

// A product as cuBLASLt, which counts by columns, sees it: C^T = op(B)^T op(A)^T, each read as its own transpose.
struct Product {
  Owned<cublasLtMatmulDesc_t> operation;
  Owned<cublasLtMatrixLayout_t> a, b, c;
  std::optional<Algorithm> algorithm;  // none: the library has none for it
};

// What one product is done with.
struct Operands {
  const void *alpha, *a, *b, *beta;
  void* c;
};

struct Key {
  int in, out;
  bool transpose_a, transpose_b, adds, tf32;
  int64_t m, n, k, lda, ldb, ldc, count, a, b, c;
  int alignment;  // of the least aligned of the three, in bytes
  auto operator<=>(const Key&) const = default;
  std::string text() const {
    return cat(in, " ", out, " ", transpose_a, transpose_b, adds, tf32, " ", m, " ", n, " ", k, " ", lda, " ", ldb, " ",
               ldc, " ", count, " ", a, " ", b, " ", c, " ", alignment);
  }
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
    const Operands operands{&alpha, a, b, &beta, c};
    auto found = known_.find(key);
    if (found == known_.end()) {
      Product p = make<In, Out>(key, s, batch);
      choose(stream, key, p, operands);
      found = known_.emplace(key, std::move(p)).first;
    }
    const Product& p = found->second;
    if (p.algorithm)
      check_cublas(multiply(stream, p, *p.algorithm, operands, c), "multiply matrices");
    else
      plain_gemm(stream, s, batch, alpha, a, b, beta, c);
  }

  void choose_fastest(const std::string& known) {
    fastest_.emplace(cat(gpu_name(), ", cuBLASLt ", cublasLtGetVersion()), known);
  }
  std::string take_choices() { return fastest_ ? fastest_->take_added() : ""; }

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
              std::nullopt};
    const cublasOperation_t first = s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    check_cublas(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first)),
                 "describe a product");
    check_cublas(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof(second)),
                 "describe a product");
    return p;
  }

  // What comes out may go elsewhere than to c, of which then only what is added to is read.
  cublasStatus_t multiply(CudaStream stream, const Product& p, const Algorithm& algorithm, const Operands& o,
                          void* out) const {
    const cublasLtMatmulAlgo_t words = words_of(algorithm);
    return cublasLtMatmul(handle_, p.operation.get(), o.alpha, o.b, p.b.get(), o.a, p.a.get(), o.beta, o.c, p.c.get(),
                          out, p.c.get(), &words, workspace_, kWorkspace, native(stream));
  }
  static cublasLtMatmulAlgo_t words_of(const Algorithm& algorithm) {
    cublasLtMatmulAlgo_t words;
    std::memcpy(&words, algorithm.data(), sizeof(words));
    return words;
  }

  void choose(CudaStream stream, const Key& key, Product& p, const Operands& operands) {
    if (fastest_) p.algorithm = told(key, p);
    if (p.algorithm) return;
    const bool times = fastest_ && !is_capturing(stream);
    const auto algorithms = candidates(key, p, times ? kTimed : 1);
    if (algorithms.empty()) return;
    p.algorithm = algorithms[0];
    if (!times) return;
    p.algorithm = fastest(stream, key, p, algorithms, operands);
    fastest_->add(key.text(), *p.algorithm);
  }

  // By an earlier run, where the library takes it.
  std::optional<Algorithm> told(const Key& key, const Product& p) const {
    const auto algorithm = fastest_->find(key.text());
    if (!algorithm) return std::nullopt;
    const cublasLtMatmulAlgo_t words = words_of(*algorithm);
    cublasLtMatmulHeuristicResult_t checked{};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle_, p.operation.get(), p.b.get(), p.a.get(), p.c.get(),
                                                          p.c.get(), &words, &checked);
    if (status != CUBLAS_STATUS_SUCCESS || checked.workspaceSize > kWorkspace) return std::nullopt;
    return algorithm;
  }

  // Those that cuBLASLt's heuristics put first, functions of the shape and the GPU. None adds parts of a product in the
  // output's type, which may be bf16.
  std::vector<Algorithm> candidates(const Key& key, const Product& p, int most) const {
    cublasLtMatmulPreference_t preference = nullptr;
    check_cublas(cublasLtMatmulPreferenceCreate(&preference), "begin a search");
    const Owned<cublasLtMatmulPreference_t> owned(preference, cublasLtMatmulPreferenceDestroy);
    const auto limit = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
                   "limit a search");
    };
    limit(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
    limit(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
          static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      limit(attribute, static_cast<uint32_t>(key.alignment));
    cublasLtMatmulHeuristicResult_t results[kTimed]{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, p.operation.get(), p.b.get(), p.a.get(), p.c.get(), p.c.get(), preference, most, results, &found);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check_cublas(status, "find an algorithm");
    std::vector<Algorithm> algorithms;
    for (int i = 0; i < found; ++i) {
      if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
      Algorithm words;
      std::memcpy(words.data(), &results[i].algo, sizeof(words));
      algorithms.push_back(words);
    }
    return algorithms;
  }

  // With the real factors, into memory of its own.
  Algorithm fastest(CudaStream stream, const Key& key, const Product& p, const std::vector<Algorithm>& algorithms,
                    const Operands& operands) const {
    constexpr double kClearly = 0.98;  // what is not faster by more may be so by chance: the first, then
    const int64_t numbers = (key.count - 1) * key.c + (key.m - 1) * key.ldc + key.n;
    const size_t bytes = static_cast<size_t>(numbers) * (key.out == CUDA_R_64F ? 8 : key.out == CUDA_R_32F ? 4 : 2);
    std::byte* const out = allocate(bytes, stream);
    size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < algorithms.size(); ++i) {
      const auto time = milliseconds(stream, [&] { return multiply(stream, p, algorithms[i], operands, out); });
      if (time && *time < kClearly * least) best = i, least = *time;
    }
    release(out, stream);
    return algorithms[best];
  }

  // Of a few in a row, after one that loads what it needs; none where it does not work.
  template <class Body>
  static std::optional<double> milliseconds(CudaStream stream, const Body& body) {
    constexpr int kTimes = 5;
    if (body() != CUBLAS_STATUS_SUCCESS) return std::nullopt;
    const CudaEvent begin = make_timed_event(), end = make_timed_event();
    record(begin, stream);
    for (int i = 0; i < kTimes; ++i) (void)body();
    record(end, stream);
    wait(end);
    const double time = milliseconds_between(begin, end);
    destroy(begin), destroy(end);
    return time;
  }

  static constexpr int kTimed = 8;  // algorithms
  bool tf32_ = false;
  std::optional<ProductChoices> fastest_;
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

void choose_fastest_products(const std::string& known) {
  products().choose_fastest(known);
}

std::string take_product_choices() {
  return products().take_choices();
}

template <class In, class Out>
void batched_gemm(CudaStream stream, const GemmShape& s, const GemmStrides& batch, Inner<In> alpha, const In* a,
                  const In* b, Inner<In> beta, Out* c) {
  if (s.m == 0 || s.n == 0 || batch.count == 0) return;
  if (s.k == 0) return plain_gemm(stream, s, batch, alpha, a, b, beta, c);
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
