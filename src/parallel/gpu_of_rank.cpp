// SPDX-License-Identifier: Apache-2.0
#include "parallel/gpu_of_rank.h"

#include <unistd.h>

#include <array>

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

NodePlace place_on_node(Communicator& world) {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  const auto nodes = world.gather_text(name.data());
  NodePlace place{0, 0};
  for (int r = 0; r < world.size(); ++r) {
    if (nodes[r] != nodes[world.rank()]) continue;
    place.rank += r < world.rank();
    ++place.size;
  }
  return place;
}

}  // namespace gf
