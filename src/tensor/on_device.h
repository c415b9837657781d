// SPDX-License-Identifier: Apache-2.0
// The one place that knows whether this build has CUDA, and that decides where a kernel runs.
#pragma once
#include "base/error.h"
#include "tensor/types.h"

namespace gf {

#ifdef GF_WITH_CUDA
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

struct CudaStream {
  void* handle = nullptr;  // a cudaStream_t, without CUDA's headers
};

// Memory on a CUDA device; defined in a build with CUDA.
namespace cuda {
std::byte* allocate(size_t bytes, CudaStream);
void release(std::byte*, CudaStream);
void fill_zero(std::byte*, size_t bytes, CudaStream);
}  // namespace cuda

// Runs `cpu` or `cuda` where the device says; on the meta device nothing. `cuda` must be a generic lambda,
// [&](auto stream): in a CPU build it is never instantiated, so the cuda:: function it names need not exist.
template <class Cpu, class Cuda>
void on_device(Device device, Cpu&& cpu, [[maybe_unused]] Cuda&& cuda) {
  if (device.kind == Device::Kind::cpu) return cpu();
  if (device.kind == Device::Kind::meta) return;
  if constexpr (kWithCuda) {
    return cuda(CudaStream{});
  } else {
    fail("a tensor lives on a CUDA device, but this program was built without CUDA",
         "rebuild with: cmake --preset cuda");
  }
}

template <class T>
struct Type {
  using type = T;
};

// Calls f(Type<T>) with the element type of a floating-point tensor.
template <class F>
void with_real(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(Type<float>{});
    case DType::f64:
      return f(Type<double>{});
    default:
      fail(cat("an op on real numbers got a tensor of ", dtype));
  }
}

}  // namespace gf
