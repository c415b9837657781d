// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator.h"

#include <gtest/gtest.h>

#include "parallel/communicator_threads.h"
#include "support/bits.h"
#include "support/communicator_contract.h"
#include "support/expect_error.h"

namespace gf {
namespace {

TEST(Communicator, Self) {
  const auto self = make_self_communicator();
  check_communicator(*self);
  check_communicator(*self->split(3, 7));
}

TEST(Communicator, SelfShardMayLieInTheWhole) {
  const auto self = make_self_communicator();
  const Tensor t = counted(6, 2);
  self->all_gather(t, t)->wait();
  self->reduce_scatter(t, t, Reduce::sum)->wait();
  EXPECT_TRUE(same_bits(t, counted(6, 2)));
}

TEST(Communicator, SelfHasNobodyElse) {
  const auto self = make_self_communicator();
  const std::vector<Communicator::Message> message{{counted(1, 0), 1, true}};
  expect_error(Exit::failed, {"rank 1 of 1"}, [&] { self->exchange(message); });
  expect_error(Exit::failed, {"rank 2 of 1"}, [&] { self->broadcast(counted(1, 0), 2); });
  expect_error(Exit::failed, {"12", "8"}, [&] { self->all_gather(counted(3, 0), counted(2, 0)); });
}

class RanksAsThreads : public testing::TestWithParam<int> {};

TEST_P(RanksAsThreads, KeepTheContract) {
  run_as_threads(GetParam(), [](Communicator& c) { check_communicator(c); });
}

INSTANTIATE_TEST_SUITE_P(Of, RanksAsThreads, testing::Values(1, 2, 3, 4, 7));

TEST(RanksAsThreads, OneFailureEndsAll) {
  expect_error(Exit::bad_input, {"the third"}, [] {
    run_as_threads(4, [](Communicator& c) {
      if (c.rank() == 2) refuse("the third cannot");
      c.barrier();
      c.barrier();
    });
  });
}

TEST(RanksAsThreads, AMessageOfAnotherSizeIsAnError) {
  expect_error(Exit::failed, {"12 bytes for 8"}, [] {
    run_as_threads(2, [](Communicator& c) {
      const Communicator::Message message{Tensor::zeros({3 - c.rank()}, DType::f32, kCpu), 1 - c.rank(), c.rank() == 0};
      for (const auto& work : c.exchange(std::span(&message, 1))) work->wait();
    });
  });
}

}  // namespace
}  // namespace gf
