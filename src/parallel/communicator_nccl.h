// SPDX-License-Identifier: Apache-2.0
// Ranks that each have a GPU of their own, over NCCL; in builds with it. NCCL only moves bytes: sums are taken by
// communicator.cpp, in the order of the ranks, as over any transport. Tensors on the CPU go through the communicator
// that this one is made of.
//
// All communicators of a rank share one stream beside the one that computes: two of NCCL's kernels that wait for other
// ranks could keep each other from running. To wait for work holds back what is computed next, not the processor; what
// the GPU waits for when a run hangs, and what NCCL finds broken, comes out of the hang watch.
#pragma once
#include <memory>

#include "parallel/communicator.h"
#include "parallel/hang_watch.h"
#include "tensor/on_device.h"

namespace gf {

#ifdef GF_WITH_NCCL
inline constexpr bool kWithNccl = true;
#else
inline constexpr bool kWithNccl = false;
#endif

// Collective. The GPU is the one in use; the watch must outlive what is made.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator>, Device, HangWatch*);

}  // namespace gf
