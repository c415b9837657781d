// SPDX-License-Identifier: Apache-2.0
#pragma once
#if defined(__SSE2__)
#include <pmmintrin.h>
#include <xmmintrin.h>
#endif

namespace gf {

// Numbers under 2^-126 count as zero on all of this program's OpenMP threads. A processor takes over a hundred cycles
// for each of them, and decayed states, softmax tails and squared gradients make many; none of them matters.
inline void flush_denormals() {
#if defined(__SSE2__)
#pragma omp parallel
  {
    _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
    _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
  }
#endif
}

}  // namespace gf
