// SPDX-License-Identifier: Apache-2.0
#include "model/initialise.h"

#include <malloc.h>

#include <algorithm>
#include <utility>

#define EIGEN_DONT_PARALLELIZE  // parameters are made side by side instead
#include <Eigen/QR>

#include "base/parallel_for.h"
#include "base/random.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

// Rows (or columns, where there are fewer) orthogonal, of length `gain`: the Q of a normal matrix, with the signs
// that make R's diagonal positive, so that Q is uniform over all such matrices (Saxe et al. 2014; torch's
// orthogonal_ does the same).
void orthogonal(const Random& random, const Shape& shape, double gain, float* out) {
  GF_CHECK(shape.rank() == 2, "an orthogonal parameter of ", shape);
  const int64_t rows = shape[0], cols = shape[1];
  const bool wide = rows < cols;
  const int64_t m = wide ? cols : rows, n = wide ? rows : cols;
  // Two matrices of this size at a time: the head's is the largest of a model.
  Eigen::MatrixXf a(m, n), q = Eigen::MatrixXf::Identity(m, n);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < m; ++i) a(i, j) = static_cast<float>(random.normal(static_cast<uint64_t>(j * m + i)));
  const Eigen::HouseholderQR<Eigen::Ref<Eigen::MatrixXf>> qr(a);  // in place
  q.applyOnTheLeft(qr.householderQ());
  for (int64_t j = 0; j < n; ++j)
    if (qr.matrixQR()(j, j) < 0) q.col(j) *= -1;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) out[r * cols + c] = static_cast<float>(gain) * (wide ? q(c, r) : q(r, c));
}

void fill(const Parameter& p, uint64_t seed, float* out) {
  const Random random(seed, p.name());
  const Init& init = p.spec().init;
  const int64_t n = p.shape().numel();
  switch (init.kind) {
    case Init::Kind::constant:
      std::fill_n(out, n, static_cast<float>(init.scale));
      break;
    case Init::Kind::uniform:
      for (int64_t i = 0; i < n; ++i)
        out[i] = static_cast<float>(init.scale * random.uniform(static_cast<uint64_t>(i)));
      break;
    case Init::Kind::orthogonal:
      orthogonal(random, p.shape(), init.scale, out);
      break;
    case Init::Kind::values:
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(init.at(i));
      break;
  }
}

}  // namespace

void initialise(const ParameterStore& store, uint64_t seed, const TakeFresh& take) {
  const DType dtype = store.values().dtype();
  GF_CHECK(inner(dtype) == DType::f32, "fresh parameters are made in f32");
  const TakeFresh taken = take ? take : [](const Parameter& p, const Tensor& numbers) { p.set(numbers); };
  const auto& all = store.all();
  const bool in_place = dtype == DType::f32 && store.values().device() == kCpu;
  // Elsewhere all at once would be the whole model in float32, for which a rank may lack the memory. Parameters are of
  // unlike sizes: two a thread at a time keep most threads busy.
  const int64_t count = std::ssize(all), some = in_place ? count : 2 * omp_get_max_threads();
  for (int64_t begin = 0; begin < count; begin += some) {
    std::vector<Tensor> made(std::min(some, count - begin));
    parallel_for(std::ssize(made), [&](int64_t i) {
      const Parameter& p = *all[begin + i];
      made[i] = in_place ? p.value() : Tensor::empty(p.shape(), DType::f32, kCpu);
      fill(p, seed, made[i].data<float>());
      if (in_place) taken(p, made[i]);
    });
    for (int64_t i = 0; !in_place && i < std::ssize(made); ++i) taken(*all[begin + i], std::exchange(made[i], {}));
  }
#ifdef __GLIBC__
  malloc_trim(0);  // what orthogonal() took would stay with the process
#endif
}

void initialise_roughly(const ParameterStore& store) {
  for (const auto& p : store.all()) {
    const Role role = p->spec().role;
    const float middle = role == Role::vector ? 1.0f : role == Role::decay ? -3.0f : 0.0f;
    float* const values = p->value().data<float>();
    parallel_ranges(p->shape().numel(), 1 << 16, [&](int64_t begin, int64_t end) {
      auto state = static_cast<uint64_t>(p->begin() + begin);
      for (int64_t i = begin; i < end; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        values[i] = middle + 0.05f * (static_cast<float>(state >> 40) * 0x1p-24f - 0.5f);
      }
    });
  }
}

}  // namespace gf
