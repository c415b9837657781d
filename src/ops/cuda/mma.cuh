// SPDX-License-Identifier: Apache-2.0
// Products of 16 x 16 by 16 x 8 matrices of bf16 by a warp's tensor core (mma.sync m16n8k16), and their fragments'
// loads from shared memory (ldmatrix). All lanes of the warp take part. Fragments, with g = lane / 4 and t = lane % 4,
// pairs being neighbours in a row, the lower number in the lower half:
//   a: rows g and g + 8, columns 2t, 2t + 1; then the same of columns + 8
//   b: rows 2t, 2t + 1 of column g; then of rows + 8
//   c: columns 2t, 2t + 1 of row g, then of row g + 8
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "tensor/cuda/block.cuh"
#include "tensor/cuda/number.cuh"

namespace gf::cuda::mma {

struct A {
  unsigned x[4];
};
struct B {
  unsigned x[2];
};
struct C {
  float x[4];
};

__device__ inline unsigned pair(float low, float high) {
#ifdef GF_CUDA_EMULATED
  return static_cast<unsigned>(narrow<BFloat16>(low).bits) | static_cast<unsigned>(narrow<BFloat16>(high).bits) << 16;
#else
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#endif
}

// c += a b
__device__ inline void multiply_add(const A& a, const B& b, C& c) {
#ifdef GF_CUDA_EMULATED
  struct Given {
    A a;
    B b;
  };
  Given all[kWarp];
  emulation::gather(Given{a, b}, all);
  const unsigned lane = emulation::lane();
  const auto number = [](unsigned pair, unsigned which) {
    return __uint_as_float(which ? pair & 0xffff0000u : pair << 16);
  };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = i / 2, column = lane % 4 * 2 + i % 2;  // row: g or g + 8
    float sum = 0;
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned half = k / 8, holder = k % 8 / 2;
      sum += number(all[lane / 4 * 4 + holder].a.x[row + 2 * half], k % 2) *
             number(all[column * 4 + holder].b.x[half], k % 2);
    }
    c.x[i] += sum;
  }
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
#endif
}

// Four 8 x 8 matrices from shared memory; lane 8 i + j gives the address of row j of matrix i, a multiple of 16 bytes.
// to[i] is columns 2t, 2t + 1 of row g of matrix i; transposed: rows 2t, 2t + 1 of column g.
template <bool kTransposed>
__device__ inline void load_matrices(const BFloat16* row, unsigned (&to)[4]) {
#ifdef GF_CUDA_EMULATED
  const BFloat16* rows[kWarp];
  emulation::gather(row, rows);
  const unsigned g = emulation::lane() / 4, t = emulation::lane() % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const BFloat16 low = kTransposed ? rows[8 * i + 2 * t][g] : rows[8 * i + g][2 * t];
    const BFloat16 high = kTransposed ? rows[8 * i + 2 * t + 1][g] : rows[8 * i + g][2 * t + 1];
    to[i] = low.bits | static_cast<unsigned>(high.bits) << 16;
  }
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
#endif
}

// Rows [0, 16), columns [0, 16) of a matrix, `stride` from row to row.
__device__ inline A load_a(const BFloat16* from, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  A a;
  load_matrices<false>(from + lane % 16 * stride + lane / 16 * 8, a.x);
  return a;
}

// The same where its transpose is at `from`.
__device__ inline A load_a_transposed(const BFloat16* from, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  A a;
  load_matrices<true>(from + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8, a.x);
  return a;
}

// Two neighbours as right factors: of the 16 x 16 (rows x columns) matrix R at `from` its columns [0, 8) and [8, 16).
struct TwoBs {
  B b[2];
};
__device__ inline TwoBs load_b(const BFloat16* from, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  unsigned x[4];
  load_matrices<true>(from + lane % 16 * stride + lane / 16 * 8, x);
  return {{{{x[0], x[1]}}, {{x[2], x[3]}}}};
}
// The same where R's transpose is at `from`: its rows [0, 8) and [8, 16) are R's columns.
__device__ inline TwoBs load_b_transposed(const BFloat16* from, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  unsigned x[4];
  load_matrices<false>(from + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8, x);
  return {{{{x[0], x[1]}}, {{x[2], x[3]}}}};
}

}  // namespace gf::cuda::mma
