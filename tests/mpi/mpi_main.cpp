// SPDX-License-Identifier: Apache-2.0
// Runs under mpirun: every rank runs every test, and one that fails on any rank fails all. Only the first rank prints
// what passes.
#include <gtest/gtest.h>

#include "parallel/communicator_mpi.h"

namespace gf {
const World* the_world = nullptr;  // MPI begins once in a process
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const gf::World world;
  gf::the_world = &world;
  if (world.rank() > 0)
    delete testing::UnitTest::GetInstance()->listeners().Release(
        testing::UnitTest::GetInstance()->listeners().default_result_printer());
  const int failed = RUN_ALL_TESTS();
  const gf::Tensor any = gf::Tensor::of<int32_t>({1}, {failed});
  world.communicator(nullptr)->all_reduce(any, gf::Reduce::max);
  if (failed) std::fprintf(stderr, "failed on rank %d\n", world.rank());
  return any.data<int32_t>()[0];
}
