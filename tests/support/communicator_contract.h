// SPDX-License-Identifier: Apache-2.0
// What every communicator promises, seen from one of its ranks; all ranks call it.
#pragma once
#include "parallel/communicator.h"

namespace gf {

void check_communicator(Communicator&);

Tensor counted(int64_t n, int rank);  // 100 rank + i

}  // namespace gf
