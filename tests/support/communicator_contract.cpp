// SPDX-License-Identifier: Apache-2.0
#include "support/communicator_contract.h"

#include <gtest/gtest.h>

#include "support/bits.h"

namespace gf {
namespace {

// Sums whose bits depend on their order: as taken one rank after another.
float nth(int rank, int64_t i) {
  return 1.0F / static_cast<float>(3 * rank + i + 1);
}

void check_reductions(Communicator& c, int64_t n) {
  const int size = c.size(), rank = c.rank();
  const Tensor sum = Tensor::empty({n}, DType::f32, kCpu), largest = counted(n, rank);
  for (int64_t i = 0; i < n; ++i) sum.data<float>()[i] = nth(rank, i);
  c.all_reduce(sum, Reduce::sum);
  c.all_reduce(largest, Reduce::max);
  for (int64_t i = 0; i < n; ++i) {
    float want = nth(0, i);
    for (int r = 1; r < size; ++r) want += nth(r, i);
    ASSERT_EQ(sum.data<float>()[i], want) << "element " << i << " of " << n;
    ASSERT_EQ(largest.data<float>()[i], static_cast<float>(100 * (size - 1) + i));
  }
  const Tensor whole = Tensor::empty({n * size}, DType::f32, kCpu), shard = Tensor::empty({n}, DType::f32, kCpu);
  for (int64_t i = 0; i < n * size; ++i) whole.data<float>()[i] = nth(rank, i);
  // Into a tensor of its own, then into its own part.
  const auto work = c.reduce_scatter(whole, shard, Reduce::sum);
  work->wait();
  c.reduce_scatter(whole, whole.range(rank * n, (rank + 1) * n), Reduce::sum)->wait();
  for (int64_t i = 0; i < n; ++i) {
    float want = nth(0, rank * n + i);
    for (int r = 1; r < size; ++r) want += nth(r, rank * n + i);
    ASSERT_EQ(shard.data<float>()[i], want);
    ASSERT_EQ(whole.data<float>()[rank * n + i], want);
  }
}

void check_moves(Communicator& c) {
  const int size = c.size(), rank = c.rank();
  const Tensor gathered = Tensor::zeros({3 * size}, DType::f32, kCpu);
  c.all_gather(counted(3, rank), gathered)->wait();
  for (int r = 0; r < size; ++r) EXPECT_TRUE(same_bits(gathered.range(3 * r, 3 * r + 3), counted(3, r)));
  const Tensor in_place = Tensor::zeros({2 * size}, DType::f64, kCpu);
  in_place.data<double>()[2 * rank] = in_place.data<double>()[2 * rank + 1] = rank;
  c.all_gather(in_place.range(2 * rank, 2 * rank + 2), in_place)->wait();
  for (int i = 0; i < 2 * size; ++i) EXPECT_EQ(in_place.data<double>()[i], i / 2);

  const Tensor from = counted(2 * size, rank), to = Tensor::zeros({2 * size}, DType::f32, kCpu);
  c.all_to_all(from, to)->wait();
  for (int r = 0; r < size; ++r)
    EXPECT_TRUE(same_bits(to.range(2 * r, 2 * r + 2), counted(2 * size, r).range(2 * rank, 2 * rank + 2)));

  for (int root = 0; root < size; ++root) {
    const Tensor t = counted(4, rank);
    c.broadcast(t, root);
    EXPECT_TRUE(same_bits(t, counted(4, root)));
  }
  const auto texts = c.gather_text(std::string(rank * 5, 'x') + cat(rank));
  ASSERT_EQ(texts.size(), static_cast<size_t>(size));
  for (int r = 0; r < size; ++r) EXPECT_EQ(texts[r], std::string(r * 5, 'x') + cat(r));

  std::vector<std::string> collected;
  c.collect_text(std::string(rank * 5, 'y') + cat(rank), [&](const std::string& text) { collected.push_back(text); });
  ASSERT_EQ(collected.size(), rank == 0 ? static_cast<size_t>(size) : 0u);
  for (int r = 0; r < std::ssize(collected); ++r) EXPECT_EQ(collected[r], std::string(r * 5, 'y') + cat(r));
  // Where the first rank cannot take them, nobody hangs.
  const auto refused = [&] { c.collect_text("", [](const std::string&) { fail("full"); }); };
  if (rank == 0)
    EXPECT_THROW(refused(), Error);
  else
    refused();
}

// Round the ring both ways at once, two messages to each side: they arrive in the order they were sent.
void check_exchange(Communicator& c) {
  const int size = c.size(), rank = c.rank(), up = (rank + 1) % size, down = (rank + size - 1) % size;
  EXPECT_TRUE(c.exchange({}).empty());
  if (size == 1) return;
  std::vector<Tensor> arrived;
  std::vector<Communicator::Message> messages;
  for (int i = 0; i < 2; ++i) {
    for (const int peer : {up, down}) {
      arrived.push_back(Tensor::zeros({5}, DType::f32, kCpu));
      messages.push_back({counted(5, 10 * rank + i), peer, true});
      messages.push_back({arrived.back(), peer, false});
    }
  }
  const auto works = c.exchange(messages);
  ASSERT_EQ(works.size(), messages.size());
  for (const auto& work : works) work->wait();
  for (const auto& work : works) EXPECT_TRUE(work->poll()) << "done stays done";
  if (size == 2) return;  // both sides are one rank: the order of four messages
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(same_bits(arrived[2 * i], counted(5, 10 * up + i)));
    EXPECT_TRUE(same_bits(arrived[2 * i + 1], counted(5, 10 * down + i)));
  }
}

}  // namespace

Tensor counted(int64_t n, int rank) {
  Tensor t = Tensor::empty({n}, DType::f32, kCpu);
  for (int64_t i = 0; i < n; ++i) t.data<float>()[i] = static_cast<float>(100 * rank + i);
  return t;
}

void check_communicator(Communicator& c) {
  const int size = c.size(), rank = c.rank();
  ASSERT_GE(size, 1);
  ASSERT_TRUE(0 <= rank && rank < size);
  for (const int64_t n : {1, 7, 64, 1000, 100'003}) check_reductions(c, n);
  check_moves(c);
  check_exchange(c);
  warm_up(c);
  c.barrier();
  const auto backwards = c.split(0, -rank), alone = c.split(rank, 0), halves = c.split(rank % 2, rank);
  EXPECT_EQ(backwards->size(), size);
  EXPECT_EQ(backwards->rank(), size - 1 - rank) << "in the order of the keys";
  EXPECT_EQ(alone->size(), 1);
  EXPECT_EQ(halves->size(), (size + 1 - rank % 2) / 2);
  check_moves(*halves);
  check_exchange(*backwards);
}

}  // namespace gf
