// SPDX-License-Identifier: Apache-2.0
// Which GPU a rank computes on, and how it talks to the others.
#pragma once
#include <string>

#include "parallel/communicator.h"
#include "parallel/hang_watch.h"

namespace gf {

// Before anything else is asked of a GPU, by a process that is one of several ranks. CUDA loads a kernel when it is
// launched for the first time, for which it may wait until the GPU is done with all it was given: messages, too.
void load_kernels_at_start();

bool has_gpu();  // in this build, on this machine

// The one of a rank that is so many on its node: each its own, in turn where there are more ranks than GPUs. This
// thread works on it from now on. Refuses where there is none, or the program was built without CUDA.
Device choose_gpu(int rank_on_node);

struct GpuShare {
  Device device;
  std::string name;
  int ranks = 1;      // that share it
  bool alone = true;  // no rank shares its own with another
  size_t memory = 0;  // left for each of these
};
// Collective: for the ranks of each node.
GpuShare share_of_gpu(Communicator& world);

// How these ranks talk about tensors on their GPUs: over NCCL where there is that and each has one of its own.
bool uses_nccl(const GpuShare&);
// Collective. `world` as it is where the share is null.
std::unique_ptr<Communicator> with_gpus(std::unique_ptr<Communicator> world, const GpuShare*, HangWatch*);

}  // namespace gf
