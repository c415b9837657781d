// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/parallel_for.h"
#include "parallel/combine.h"

namespace gf::cpu {

template <class T>
void combine(const CombineArgs<T>& a) {
  parallel_ranges(a.n, 1 << 14, [&](int64_t begin, int64_t end) {
    T* const out = a.out;
    if (a.parts != out) std::copy(a.parts + begin, a.parts + end, out + begin);
    for (int64_t p = 1; p < a.num_parts; ++p) {
      const T* const part = a.parts + p * a.n;
      if (a.max) {
        for (int64_t i = begin; i < end; ++i) out[i] = std::max(out[i], part[i]);
      } else {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) out[i] += part[i];
      }
    }
  });
}

template void combine(const CombineArgs<float>&);
template void combine(const CombineArgs<double>&);
template void combine(const CombineArgs<int32_t>&);

}  // namespace gf::cpu
