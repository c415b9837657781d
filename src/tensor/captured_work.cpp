// SPDX-License-Identifier: Apache-2.0
#include "tensor/captured_work.h"

namespace gf {

CapturedWork::CapturedWork(const std::function<void()>& body) {
  if constexpr (kWithCuda) {
    const CudaStream stream = cuda::current_stream();
    cuda::begin_capture(stream);
    try {
      body();
    } catch (...) {
      cuda::abandon_capture(stream);
      throw;
    }
    graph_ = {cuda::end_capture(stream).handle, [](void* g) { cuda::destroy(CudaGraph{g}); }};
  } else {
    GF_CHECK(false, "work captured in a build without CUDA: ", body ? "some" : "none");
  }
}

void CapturedWork::launch() const {
  if constexpr (kWithCuda) cuda::launch(CudaGraph{graph_.get()}, cuda::current_stream());
}

}  // namespace gf
