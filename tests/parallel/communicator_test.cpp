// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator.h"

#include <gtest/gtest.h>

#include "support/bits.h"
#include "support/expect_error.h"

namespace gf {
namespace {

Tensor counted(int64_t n, int rank) {
  Tensor t = Tensor::empty({n}, DType::f32, kCpu);
  for (int64_t i = 0; i < n; ++i) t.data<float>()[i] = static_cast<float>(100 * rank + i);
  return t;
}

// What every communicator meets, seen from one of its ranks; all ranks call it.
void check_contract(Communicator& c) {
  const int size = c.size(), rank = c.rank();
  ASSERT_GE(size, 1);
  ASSERT_TRUE(0 <= rank && rank < size);
  const float ranks_sum = 50.0F * static_cast<float>(size * (size - 1));  // of 100 * rank

  const Tensor sum = counted(7, rank), largest = counted(7, rank);
  c.all_reduce(sum, Reduce::sum)->wait();
  c.all_reduce(largest, Reduce::max)->wait();
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(sum.data<float>()[i], ranks_sum + static_cast<float>(i * size));
    EXPECT_EQ(largest.data<float>()[i], static_cast<float>(100 * (size - 1) + i));
  }

  const Tensor shard = Tensor::zeros({3}, DType::f32, kCpu), whole = counted(3 * size, rank);
  c.reduce_scatter(whole, shard, Reduce::sum)->wait();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(shard.data<float>()[i], ranks_sum + static_cast<float>((3 * rank + i) * size));

  const Tensor gathered = Tensor::zeros({3 * size}, DType::f32, kCpu);
  c.all_gather(counted(3, rank), gathered)->wait();
  for (int r = 0; r < size; ++r) EXPECT_TRUE(same_bits(gathered.range(3 * r, 3 * r + 3), counted(3, r)));

  for (int root = 0; root < size; ++root) {
    const Tensor t = counted(4, rank);
    c.broadcast(t, root)->wait();
    EXPECT_TRUE(same_bits(t, counted(4, root)));
  }

  std::vector<Communicator::Message> ring;
  const Tensor arrived = Tensor::zeros({5}, DType::f32, kCpu);
  if (size > 1) {
    ring.push_back({counted(5, rank), (rank + 1) % size, true});
    ring.push_back({arrived, (rank + size - 1) % size, false});
  }
  c.exchange(ring)->wait();
  EXPECT_TRUE(size == 1 || same_bits(arrived, counted(5, (rank + size - 1) % size)));

  c.barrier();
  const auto backwards = c.split(0, -rank), alone = c.split(rank, 0);
  EXPECT_EQ(backwards->size(), size);
  EXPECT_EQ(backwards->rank(), size - 1 - rank) << "in the order of the keys";
  EXPECT_EQ(alone->size(), 1);
}

TEST(Communicator, Self) {
  const auto self = make_self_communicator();
  check_contract(*self);
  check_contract(*self->split(3, 7));
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

}  // namespace
}  // namespace gf
