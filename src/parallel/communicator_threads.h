// SPDX-License-Identifier: Apache-2.0
// Ranks as threads of one process, for tests: the thread sanitizer sees all that they share.
#pragma once
#include <functional>

#include "parallel/communicator.h"

namespace gf {

// Runs `body` on `size` threads, each with a communicator of them all, and returns when all are done. Where one throws,
// whatever the others wait for throws as well, and its error is rethrown.
void run_as_threads(int size, const std::function<void(Communicator&)>& body);

}  // namespace gf
