// SPDX-License-Identifier: Apache-2.0
#include "parallel/gpu_of_rank.h"

#include <unistd.h>

#include <array>

#include "parallel/communicator_nccl.h"
#include "parallel/communicator_staged.h"
#include "tensor/on_device.h"

namespace gf {

bool has_gpu() {
  if constexpr (kWithCuda) return cuda::num_gpus() > 0;
  return false;
}

Device choose_gpu(int rank_on_node) {
  if constexpr (kWithCuda) {
    const int count = cuda::num_gpus();
    if (count == 0) refuse("there is no GPU here that this program could use", "--train.accelerator cpu; nvidia-smi");
    const Device device{Device::Kind::cuda, rank_on_node % count};
    cuda::use_gpu(device.index);
    return device;
  }
  refuse(cat("rank ", rank_on_node, " of this node was to compute on a GPU, and this program was built without CUDA"),
         "--train.accelerator auto, or build with: cmake --preset cuda");
}

GpuShare share_of_gpu(Communicator& world) {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  const auto nodes = world.gather_text(name.data());
  const auto here = [&](int r) { return nodes[static_cast<size_t>(r)] == name.data(); };
  int before = 0;
  for (int r = 0; r < world.rank(); ++r) before += here(r);
  GpuShare share;
  share.device = choose_gpu(before);
  if constexpr (kWithCuda) {
    share.ranks = 0;
    for (int r = 0, index = 0; r < world.size(); ++r)
      if (here(r)) share.ranks += index++ % cuda::num_gpus() == share.device.index;
    share.name = cuda::gpu_name();
    world.barrier();  // nobody has taken anything yet
    share.memory = cuda::gpu_memory_left() / static_cast<size_t>(share.ranks);
    const Tensor most = Tensor::of<int32_t>({1}, {share.ranks});
    world.all_reduce(most, Reduce::max);
    share.alone = most.data<int32_t>()[0] == 1;
  }
  return share;
}

bool uses_nccl(const GpuShare& share) {
  return kWithNccl && share.alone;
}

std::unique_ptr<Communicator> with_gpus(std::unique_ptr<Communicator> world, const GpuShare* share, HangWatch* watch) {
  if (!share) return world;
  if constexpr (kWithNccl)
    if (uses_nccl(*share) && world->size() > 1) return make_nccl_communicator(std::move(world), share->device, watch);
  return make_staged_communicator(std::move(world));
}

}  // namespace gf
