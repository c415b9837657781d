// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/parallel_for.h"
#include "ops/row_blocks.h"
#include "tensor/on_device.h"

namespace gf {

inline constexpr int kMaxDdlerpTargets = 5, kMaxDdlerpSources = 3;

template <class T>
struct DdlerpArgs {
  int64_t B, Tn, C, R;
  int targets, num_sources;
  const T* sources[kMaxDdlerpSources];  // the first is x
  const T* before;                      // B x C: the rows before the first of the only source; null: zeros
  int source_of[kMaxDdlerpTargets];
  const T *mix_x, *w1, *w2;
  const T* mix[kMaxDdlerpTargets];
  T* z;  // B Tn x targets R: written by the forward pass, read by the backward pass
  T* out[kMaxDdlerpTargets];
};

// Partial sums of one block of rows, in this order: dw1 (C x nR), dw2 (n x R x C), dmix_x (C), dmix (n x C), and for
// each source the gradient of the row before the block (C).
struct DdlerpPartial {
  int64_t dw1, dw2, dmix_x, dmix, before, size;
  DdlerpPartial(int64_t C, int64_t R, int64_t targets, int64_t num_sources)
      : dw1(0),
        dw2(C * targets * R),
        dmix_x(2 * dw2),
        dmix(dmix_x + C),
        before(dmix + targets * C),
        size(before + num_sources * C) {}
};

// Few blocks: each carries partial sums of whole weights.
inline Blocks ddlerp_blocks(int64_t rows) {
  return Blocks::at_most(rows, 16, 128);
}

template <class T>
struct DdlerpBackwardArgs {
  DdlerpArgs<T> forward;             // out is not read
  const T* dout[kMaxDdlerpTargets];  // null where no gradient came
  T* dsources[kMaxDdlerpSources];    // replaced
  Inner<T>*dw1, *dw2, *dmix_x;       // sums to add into; null where not wanted
  Inner<T>* dmix[kMaxDdlerpTargets];
  // Scratch. On a CPU ddlerp_blocks(B Tn).size() * DdlerpPartial::size; on a GPU, where the products are added to the
  // sums at once, gpu_row_blocks(B Tn, C).size() * (targets + 1) * C for dmix and dmix_x.
  Inner<T>* partial;
  T *factors, *dshifted, *dz;  // on a GPU: targets * B Tn * C, B Tn * C, B Tn * targets * R
};

namespace cpu {
template <class T>
void ddlerp(const DdlerpArgs<T>&);
template <class T>
void ddlerp_backward(const DdlerpBackwardArgs<T>&);
}  // namespace cpu
namespace cuda {
template <class T>
void ddlerp(const DdlerpArgs<T>&, CudaStream);
template <class T>
void ddlerp_backward(const DdlerpBackwardArgs<T>&, CudaStream);
}  // namespace cuda

}  // namespace gf
