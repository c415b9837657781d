// SPDX-License-Identifier: Apache-2.0
#include "ops/rotary/kernels.h"
#include "tensor/cuda/block.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/number.cuh"
#include "tensor/cuda/pack.cuh"

namespace gf::cuda {
namespace {

// A block takes a row (all heads of a position), a thread kNumbers neighbours of it: memory is what limits this, 4
// bytes a number in bf16. The angles of a position are read by all heads, and come from the caches.
template <class T, int kNumbers>
__global__ void rotary_kernel(RotaryArgs<T> p) {
  const int64_t row = blockIdx.x;
  const int C = static_cast<int>(p.H * p.N), N = static_cast<int>(p.N);
  const Inner<T>* const angles = p.angles + row % p.T * N;
  const Inner<T> sign = p.back ? -1 : 1;
  for (int c = static_cast<int>(threadIdx.x) * kNumbers; c < C; c += static_cast<int>(blockDim.x) * kNumbers) {
    Pack<T, kNumbers> pack = load<kNumbers>(p.x + row * C + c);
    const Inner<T>* const turn = angles + c % N;
#pragma unroll
    for (int i = 0; i < kNumbers; i += 2) {
      const Pack<Inner<T>, 2> angle = load<2>(turn + i);
      const Inner<T> cosine = angle.x[0], sine = sign * angle.x[1];
      const Inner<T> x0 = wide(pack.x[i]), x1 = wide(pack.x[i + 1]);
      pack.x[i] = narrow<T>(x0 * cosine - x1 * sine);
      pack.x[i + 1] = narrow<T>(x0 * sine + x1 * cosine);
    }
    store(p.y + row * C + c, pack);
  }
}

template <class T, int kNumbers>
bool turned(const RotaryArgs<T>& p, CudaStream stream) {
  constexpr size_t kBytes = kNumbers * sizeof(T);
  if (p.N % kNumbers != 0 || !is_aligned(p.x, kBytes) || !is_aligned(p.y, kBytes)) return false;
  const int64_t threads = (p.H * p.N / kNumbers + kWarp - 1) / kWarp * kWarp;
  launch(stream, static_cast<unsigned>(p.B * p.T), static_cast<unsigned>(std::min<int64_t>(threads, 256)), 0,
         rotary_kernel<T, kNumbers>, p);
  return true;
}

}  // namespace

template <class T>
void rotary(const RotaryArgs<T>& p, CudaStream stream) {
  constexpr int kMost = 16 / sizeof(T);
  if (p.B * p.T * p.H * p.N == 0) return;
  GF_CHECK(p.H * p.N < int64_t{1} << 30 && is_aligned(p.angles, 2 * sizeof(Inner<T>)), "rotary: ", p.H, " heads");
  if (turned<T, kMost>(p, stream) || turned<T, 2>(p, stream)) return;
  fail("rotary: an array of pairs does not begin at a pair");
}

template void rotary(const RotaryArgs<float>&, CudaStream);
template void rotary(const RotaryArgs<double>&, CudaStream);
template void rotary(const RotaryArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
