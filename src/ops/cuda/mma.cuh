// SPDX-License-Identifier: Apache-2.0
// Products of a warp on tensor cores: sum (16 x 16, float) += a (16 x 16, bf16) b (16 x 16, bf16), out of tiles in
// shared memory whose rows are `stride` numbers apart and begin on 16 bytes. An odd number of 16 bytes a row keeps the
// loads free of bank conflicts. All lanes of a warp take part in each call.
#pragma once
#include "tensor/cuda/block.cuh"
#include "tensor/cuda/number.cuh"

namespace gf::cuda {

struct alignas(16) MmaOperand {
  unsigned x[4];
};

// Lane l has rows l / 4 and l / 4 + 8, columns 2 (l % 4), the one after it, and both of these + 8.
struct MmaSum {
  float x[2][4] = {};  // [right half?]: row l / 4: [0], [1]; row l / 4 + 8: [2], [3]
};

// sizeof(U) bytes at once, aligned to as many.
template <class U>
__device__ U load_as(const BFloat16* from) {
#ifdef GF_CUDA_EMULATED
  U x;
  std::memcpy(&x, from, sizeof(U));
  return x;
#else
  return *reinterpret_cast<const U*>(from);
#endif
}
template <class U>
__device__ void store_as(BFloat16* to, const U& x) {
#ifdef GF_CUDA_EMULATED
  std::memcpy(to, &x, sizeof(U));
#else
  *reinterpret_cast<U*>(to) = x;
#endif
}

__device__ inline float low_half(unsigned two) {
  return __uint_as_float(two << 16);
}
__device__ inline float high_half(unsigned two) {
  return __uint_as_float(two & 0xffff0000u);
}
__device__ inline unsigned two_halves(float low, float high) {
  return narrow<BFloat16>(low).bits | static_cast<unsigned>(narrow<BFloat16>(high).bits) << 16;
}

namespace mma_detail {

// Four matrices of 8 x 8: the first beside or under the second as `second_below` says, of what lies in memory. Lane l
// gets row l / 4, columns 2 (l % 4) and the next of each; of each one's transpose where kTransposed.
template <bool kTransposed>
__device__ inline MmaOperand load(const BFloat16* tile, int stride, bool second_below) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  MmaOperand to;
#ifdef GF_CUDA_EMULATED
  for (int i = 0; i < 4; ++i) {
    const BFloat16* const matrix =
        tile + 8 * (second_below ? i % 2 : i / 2) * stride + 8 * (second_below ? i / 2 : i % 2);
    const int row = lane / 4, column = 2 * (lane % 4);
    const BFloat16 low = kTransposed ? matrix[column * stride + row] : matrix[row * stride + column];
    const BFloat16 high = kTransposed ? matrix[(column + 1) * stride + row] : matrix[row * stride + column + 1];
    to.x[i] = low.bits | static_cast<unsigned>(high.bits) << 16;
  }
#else
  const int down = second_below ? lane / 8 % 2 : lane / 16, right = second_below ? lane / 16 : lane / 8 % 2;
  const BFloat16* const row = tile + (8 * down + lane % 8) * stride + 8 * right;
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to.x[0]), "=r"(to.x[1]), "=r"(to.x[2]), "=r"(to.x[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to.x[0]), "=r"(to.x[1]), "=r"(to.x[2]), "=r"(to.x[3])
                 : "r"(address)
                 : "memory");
#endif
  return to;
}

}  // namespace mma_detail

// Operands whose rows lie in rows of memory, or in columns. Rows of `a` are rows of the sum, rows of `b` are summed
// over.
__device__ inline MmaOperand load_a(const BFloat16* tile, int stride) {
  return mma_detail::load<false>(tile, stride, true);
}
__device__ inline MmaOperand load_a_transposed(const BFloat16* tile, int stride) {
  return mma_detail::load<true>(tile, stride, false);
}
__device__ inline MmaOperand load_b(const BFloat16* tile, int stride) {
  return mma_detail::load<true>(tile, stride, true);
}
__device__ inline MmaOperand load_b_transposed(const BFloat16* tile, int stride) {
  return mma_detail::load<false>(tile, stride, false);
}

__device__ inline void mma(MmaSum& sum, const MmaOperand& a, const MmaOperand& b) {
#ifdef GF_CUDA_EMULATED
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int four = 0; four < 4; ++four) {  // four columns of `a` in each half of it, from the lanes that have them
    const MmaOperand from_a = __shfl_sync(kAllLanes, a, lane / 4 * 4 + four);
    for (int column = 0; column < 2; ++column) {
      const MmaOperand from_b = __shfl_sync(kAllLanes, b, (2 * (lane % 4) + column) * 4 + four);
      for (int right = 0; right < 2; ++right)
        for (int row = 0; row < 2; ++row)
          for (int half = 0; half < 2; ++half) {
            const unsigned x = from_a.x[2 * half + row], y = from_b.x[2 * right + half];
            sum.x[right][2 * row + column] += low_half(x) * low_half(y) + high_half(x) * high_half(y);
          }
    }
  }
#else
#pragma unroll
  for (int right = 0; right < 2; ++right)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum.x[right][0]), "+f"(sum.x[right][1]), "+f"(sum.x[right][2]), "+f"(sum.x[right][3])
        : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[2 * right]), "r"(b.x[2 * right + 1]));
#endif
}

}  // namespace gf::cuda
