// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <memory>

#include "parallel/communicator.h"

namespace gf {

// Work that ends with something left to do on this rank, once what was begun has arrived.
std::unique_ptr<Work> then(std::unique_ptr<Work>, std::function<void()>);

}  // namespace gf
