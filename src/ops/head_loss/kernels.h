// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <algorithm>
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

// How the logits of M positions are cut into chunks. Per chunk, W is read twice and its gradient read and written,
// 16 V C bytes for 6 R V C operations: at 20 operations a byte, which is what a core makes of its share of memory,
// 512 rows keep that to a tenth of the time. More rows than that pay only while the logits still stay in the
// caches between the three products, so the chunk grows beyond 512 rows only up to 20 MiB of logits.
// V = 65536 then takes 128 MiB of scratch, about as much as one feed-forward layer's activations.
// On a GPU no cache holds that, and a byte costs more operations: 2048 rows, 512 MiB, bring the gradient's way to
// memory and back below a tenth of the time. A length that its tiles divide leaves none of them half empty.
struct HeadLossChunks {
  int64_t rows;    // of a chunk; chunks are of equal length but the last
  int64_t stride;  // from a row of logits to the next

  static HeadLossChunks of(int64_t M, int64_t V, Device where = kCpu) {
    // A stride that is a multiple of 4 KiB puts a column of logits into few sets of the cache; the product that
    // reads columns (W's gradient) then runs at six tenths of its speed.
    const int64_t stride = (V + 15) / 16 * 16 + 16;
    const bool on_gpu = is_like_gpu(where);
    const int64_t most = on_gpu ? std::max<int64_t>(2048, (int64_t{128} << 20) / stride / 256 * 256)
                                : std::max<int64_t>(512, (int64_t{5} << 20) / stride);
    const int64_t chunks = std::max<int64_t>(1, (M + most - 1) / most);
    const int64_t equal = (M + chunks - 1) / chunks;
    return {on_gpu ? std::min(M, (equal + 255) / 256 * 256) : equal, stride};
  }
};

template <class T>
struct HeadLossArgs {
  int64_t M, C, V;
  HeadLossChunks chunks;
  double scale, pull;
  bool masked;  // targets may be kNoTarget
  const T *x, *w;
  const int32_t* targets;
  Inner<T>* logits;    // scratch: chunks.rows * chunks.stride
  T* packed;           // scratch on a CPU: 2 * chunks.rows * C, and
  int32_t* positions;  // scratch on a CPU: chunks.rows; null where nothing is masked
  Inner<T>* loss;      // 1
  double* losses;      // M
  int32_t* correct;    // M
  T* dx;               // null where not wanted
  Inner<T>* dw;        // a sum to add into; null where not wanted
};

namespace cpu {
template <class T>
void head_loss(const HeadLossArgs<T>&);
}
namespace cuda {
template <class T>
void head_loss(const HeadLossArgs<T>&, CudaStream);
}

}  // namespace gf
