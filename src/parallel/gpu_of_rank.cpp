// SPDX-License-Identifier: Apache-2.0
#include "parallel/gpu_of_rank.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>

#include "parallel/communicator_nccl.h"
#include "parallel/communicator_staged.h"
#include "tensor/on_device.h"

namespace gf {

void load_kernels_at_start() {
  constexpr int kWhereNotSet = 0;
  if constexpr (kWithCuda) setenv("CUDA_MODULE_LOADING", "EAGER", kWhereNotSet);
}

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
  const std::string node = name.data();
  const auto nodes = world.gather_text(node);
  GpuShare share;
  share.device = choose_gpu(static_cast<int>(std::count(nodes.begin(), nodes.begin() + world.rank(), node)));
  if constexpr (kWithCuda) {
    share.name = cuda::gpu_name();
    // By what it is: where each rank is shown one alone, all of them are number 0.
    const std::string gpu = cat(node, " ", cuda::gpu_id());
    const auto gpus = world.gather_text(gpu);  // and nobody has taken anything yet
    share.ranks = static_cast<int>(std::ranges::count(gpus, gpu));
    share.memory = cuda::gpu_memory_left() / static_cast<size_t>(share.ranks);
    share.alone = std::set(gpus.begin(), gpus.end()).size() == gpus.size();
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
