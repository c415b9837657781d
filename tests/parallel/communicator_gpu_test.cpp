// SPDX-License-Identifier: Apache-2.0
// Communicators that bring tensors from one GPU to another.
#include <gtest/gtest.h>

#include <functional>

#include "parallel/communicator_nccl.h"
#include "parallel/communicator_staged.h"
#include "parallel/communicator_threads.h"
#include "support/bits.h"
#include "support/communicator_contract.h"

namespace gf {
namespace {

TEST(StagedCommunicator, KeepsWhatCommunicatorsPromiseOfTensorsOnTheCpu) {
  for (const int ranks : {1, 2, 3})
    run_as_threads(ranks, [](Communicator& world) {
      const auto staged = make_staged_communicator(world.split(0, world.rank()));
      check_communicator(*staged);
    });
}

#ifdef GF_WITH_CUDA
constexpr Device kGpu{Device::Kind::cuda, 0};

Tensor there(int64_t n, int rank) {
  return on(kGpu, counted(n, rank));
}

void check_on_gpu(const std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>)>& make) {
  run_as_threads(3, [&](Communicator& world) {
    const auto made = make(world.split(0, world.rank()));
    Communicator& c = *made;
    const int size = c.size(), rank = c.rank();
    const Tensor gathered = Tensor::zeros({4 * size}, DType::f32, kGpu);
    c.all_gather(there(4, rank), gathered)->wait();
    for (int r = 0; r < size; ++r) EXPECT_TRUE(same_bits(on(kCpu, gathered).range(4 * r, 4 * r + 4), counted(4, r)));

    // What is written to its own part of a gather in place, while that is on its way, stays.
    const Tensor in_place = Tensor::zeros({4 * size}, DType::f32, kGpu), own = in_place.range(4 * rank, 4 * rank + 4);
    copy(there(4, rank), own);
    const auto gathering = c.all_gather(own, in_place);
    copy(there(4, 7), own);
    gathering->wait();
    for (int r = 0; r < size; ++r)
      EXPECT_TRUE(same_bits(on(kCpu, in_place).range(4 * r, 4 * r + 4), counted(4, r == rank ? 7 : r)));

    const Tensor to = Tensor::zeros({2 * size}, DType::f32, kGpu);
    c.all_to_all(there(2 * size, rank), to)->wait();
    for (int r = 0; r < size; ++r)
      EXPECT_TRUE(same_bits(on(kCpu, to).range(2 * r, 2 * r + 2), counted(2 * size, r).range(2 * rank, 2 * rank + 2)));

    const Tensor in = Tensor::zeros({5}, DType::f32, kGpu);
    const Communicator::Message messages[] = {{there(5, rank), (rank + 1) % size, true},
                                              {in, (rank + size - 1) % size, false}};
    for (const auto& work : c.exchange(messages)) work->wait();
    EXPECT_TRUE(same_bits(on(kCpu, in), counted(5, (rank + size - 1) % size)));

    for (const int64_t n : {1, 3, 100}) {
      const Tensor here_sum = counted(n, rank), there_sum = there(n, rank), largest = there(n, rank);
      world.all_reduce(here_sum, Reduce::sum);
      c.all_reduce(there_sum, Reduce::sum);
      c.all_reduce(largest, Reduce::max);
      EXPECT_TRUE(same_bits(on(kCpu, there_sum), here_sum)) << n;
      EXPECT_TRUE(same_bits(on(kCpu, largest), counted(n, size - 1))) << n;
    }
  });
}

TEST(StagedCommunicatorOnGpu, GivesWhatTheCpuGets) {
  check_on_gpu(make_staged_communicator);
}

#ifdef GF_WITH_NCCL
std::unique_ptr<Communicator> make_nccl(std::unique_ptr<Communicator> inner) {
  return make_nccl_communicator(std::move(inner), kGpu, nullptr);
}

TEST(NcclCommunicatorOnGpu, GivesWhatTheCpuGets) {
  check_on_gpu(make_nccl);
}

TEST(NcclCommunicatorOnGpu, KeepsWhatCommunicatorsPromiseOfTensorsOnTheCpu) {
  for (const int ranks : {1, 2, 3})
    run_as_threads(ranks, [](Communicator& world) { check_communicator(*make_nccl(world.split(0, world.rank()))); });
}
#endif
#endif

}  // namespace
}  // namespace gf
