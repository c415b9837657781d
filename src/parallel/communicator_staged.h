// SPDX-License-Identifier: Apache-2.0
// Ranks that talk through memory of the CPU about tensors on a GPU: for ranks that share one, and where there is no
// NCCL. Tensors on the CPU go as they are.
#pragma once
#include <memory>

#include "parallel/communicator.h"

namespace gf {

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator>);

}  // namespace gf
