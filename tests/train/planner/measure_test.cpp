// SPDX-License-Identifier: Apache-2.0
#include "train/planner/measure.h"

#include <gtest/gtest.h>

#include "parallel/communicator_threads.h"
#include "support/expect_error.h"

namespace gf {
namespace {

TEST(MeasureHardware, NodesOfOtherNumbersOfRanksAreRefused) {
  const std::string hint = "do not have the same number";
  for (const std::vector<std::string>& nodes :
       {std::vector<std::string>{"a", "a", "b"}, {"a", "a", "b", "b", "b"}, {"a", "b", "a", "b"}, {"a", "b", "b"}}) {
    run_as_threads(static_cast<int>(nodes.size()), [&](Communicator& world) {
      expect_error(Exit::bad_input, {hint}, [&] { measure_hardware({}, world, nodes); });
    });
  }
}

}  // namespace
}  // namespace gf
