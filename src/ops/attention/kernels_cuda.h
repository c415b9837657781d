// SPDX-License-Identifier: Apache-2.0
// The ways in which a GPU computes attention; attention_cuda.cu chooses one by shape and type.
#pragma once
#include "ops/attention/kernels.h"

namespace gf::cuda {

// Heads of any size up to this, of any type, without tensor cores.
inline constexpr int64_t kMostAttentionHead = 256;
template <class T>
void plain_attention(const AttentionArgs<T>&, CudaStream);
template <class T>
void plain_attention_backward(const AttentionBackwardArgs<T>&, CudaStream);  // delta is there

// Heads of up to this many bf16 by tensor cores.
inline constexpr int64_t kMostTensorCoreHead = 128;
void tensor_core_attention(const AttentionArgs<BFloat16>&, CudaStream);
void tensor_core_attention_backward(const AttentionBackwardArgs<BFloat16>&, CudaStream);  // delta is there

// bf16 by cuDNN, in a build that has it. False where it has no kernel for the shape, with nothing done.
#ifdef GF_WITH_CUDNN
inline constexpr bool kWithCudnn = true;
#else
inline constexpr bool kWithCudnn = false;
#endif
bool cudnn_attention(const AttentionArgs<BFloat16>&, CudaStream);
bool cudnn_attention_backward(const AttentionBackwardArgs<BFloat16>&, CudaStream);

}  // namespace gf::cuda
