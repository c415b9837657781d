// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator_mpi.h"

#include <gtest/gtest.h>

#include "parallel/agreement.h"
#include "support/bits.h"
#include "support/communicator_contract.h"
#include "support/expect_error.h"

namespace gf {

extern const World* the_world;

namespace {

TEST(MpiCommunicator, KeepsTheContract) {
  const auto ranks = the_world->communicator(nullptr);
  EXPECT_EQ(ranks->size(), the_world->size());
  EXPECT_EQ(ranks->rank(), the_world->rank());
  ASSERT_GT(ranks->size(), 1) << "to be run under mpirun";
  check_communicator(*ranks);
}

TEST(MpiCommunicator, OperationsOfTwoOfThemDoNotMix) {
  const auto a = the_world->communicator(nullptr), b = a->split(0, -a->rank());
  const int size = a->size();
  const Tensor all_a = Tensor::zeros({3 * size}, DType::f32, kCpu), all_b = Tensor::zeros({3 * size}, DType::f32, kCpu);
  const auto first = a->all_gather(counted(3, a->rank()), all_a);
  const auto second = b->all_gather(counted(3, 50 + b->rank()), all_b);
  second->wait();
  first->wait();
  for (int r = 0; r < size; ++r) {
    EXPECT_TRUE(same_bits(all_a.range(3 * r, 3 * r + 3), counted(3, r)));
    EXPECT_TRUE(same_bits(all_b.range(3 * r, 3 * r + 3), counted(3, 50 + r)));
  }
}

TEST(Agreement, OneFailureIsThatOfAll) {
  const auto ranks = the_world->communicator(nullptr);
  all_or_none(*ranks, [] {});
  const int last = ranks->size() - 1;
  try {
    all_or_none(*ranks, [&] {
      if (ranks->rank() == last) refuse("only here", "something");
    });
    ADD_FAILURE() << "no error";
  } catch (const AgreedError& e) {
    EXPECT_EQ(e.status(), Exit::bad_input);
    EXPECT_EQ(e.mine(), ranks->rank() == last);
    EXPECT_EQ(std::string(e.what()), e.mine() ? "only here" : cat("rank ", last, " of ", last + 1, " failed"));
  }
  // Where all fail it is told once.
  try {
    all_or_none(*ranks, [] { fail("everywhere"); });
    ADD_FAILURE() << "no error";
  } catch (const AgreedError& e) {
    EXPECT_EQ(e.mine(), ranks->rank() == 0);
  }
}

TEST(Agreement, AnotherTextIsRefused) {
  const auto ranks = the_world->communicator(nullptr);
  check_same_everywhere(*ranks, "the text", "a\nb\nc");
  const std::string mine = ranks->rank() == 1 ? "a\n  key: 2\nc" : "a\n  key: 1\nc";
  expect_refused(
      {ranks->rank() == 0 ? "the text of rank 1 is not that of rank 0: \"key: 2\" and \"key: 1\"" : "rank 0"},
      [&] { check_same_everywhere(*ranks, "the text", mine); });
}

}  // namespace
}  // namespace gf
