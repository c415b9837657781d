// SPDX-License-Identifier: Apache-2.0
// Memory that could not be had: says how much. What makes do with less is known to who asked for the work, and said by
// run_main() or run_training().
#pragma once
#include "base/error.h"

namespace gf {

class OutOfMemory : public Error {
 public:
  explicit OutOfMemory(const std::string& what, Where where = Where::here()) : Error(what, {}, Exit::failed, where) {}
};

}  // namespace gf
