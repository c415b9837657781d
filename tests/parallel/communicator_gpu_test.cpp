// SPDX-License-Identifier: Apache-2.0
// Communicators that bring tensors from one GPU to another.
#include <gtest/gtest.h>

#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "parallel/communicator_nccl.h"
#include "parallel/communicator_staged.h"
#include "parallel/communicator_threads.h"
#include "support/bits.h"
#include "support/communicator_contract.h"
#include "support/expect_error.h"

#ifdef GF_CUDA_EMULATED
#include "cuda_runtime.h"
#endif

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
using Make = std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>)>;

// `gpu_of`: each rank's.
void check_on_gpu(const Make& make, const std::function<Device(int rank)>& gpu_of) {
  run_as_threads(3, [&](Communicator& world) {
    const Device gpu = gpu_of(world.rank());
    cuda::use_gpu(gpu.index);
    const auto there = [gpu](int64_t n, int of) { return on(gpu, counted(n, of)); };
    const auto made = make(world.split(0, world.rank()));
    Communicator& c = *made;
    const int size = c.size(), rank = c.rank();
    const Tensor gathered = Tensor::zeros({4 * size}, DType::f32, gpu);
    c.all_gather(there(4, rank), gathered)->wait();
    for (int r = 0; r < size; ++r) EXPECT_TRUE(same_bits(on(kCpu, gathered).range(4 * r, 4 * r + 4), counted(4, r)));

    const Tensor in_place = Tensor::zeros({4 * size}, DType::f32, gpu), own = in_place.range(4 * rank, 4 * rank + 4);
    copy(there(4, rank), own);
    c.all_gather(own, in_place)->wait();
    EXPECT_TRUE(same_bits(on(kCpu, in_place), on(kCpu, gathered)));

    const Tensor to = Tensor::zeros({2 * size}, DType::f32, gpu);
    c.all_to_all(there(2 * size, rank), to)->wait();
    for (int r = 0; r < size; ++r)
      EXPECT_TRUE(same_bits(on(kCpu, to).range(2 * r, 2 * r + 2), counted(2 * size, r).range(2 * rank, 2 * rank + 2)));

    const Tensor in = Tensor::zeros({5}, DType::f32, gpu);
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

Device first_gpu(int /*rank*/) {
  return {Device::Kind::cuda, 0};
}

TEST(StagedCommunicatorOnGpu, GivesWhatTheCpuGets) {
  check_on_gpu(make_staged_communicator, first_gpu);
}

// What is written to its own part of a gather in place, while that is on its way, stays.
TEST(StagedCommunicatorOnGpu, AGatherInPlaceLeavesItsOwnPartAlone) {
  run_as_threads(3, [&](Communicator& world) {
    const auto c = make_staged_communicator(world.split(0, world.rank()));
    const int size = c->size(), rank = c->rank();
    const Tensor all = Tensor::zeros({4 * size}, DType::f32, first_gpu(rank)), own = all.range(4 * rank, 4 * rank + 4);
    copy(counted(4, rank), own);
    const auto gathering = c->all_gather(own, all);
    copy(counted(4, 7), own);
    gathering->wait();
    for (int r = 0; r < size; ++r)
      EXPECT_TRUE(same_bits(on(kCpu, all).range(4 * r, 4 * r + 4), counted(4, r == rank ? 7 : r)));
  });
}

#ifdef GF_WITH_NCCL
Device own_gpu(int rank) {
  return {Device::Kind::cuda, rank};
}

std::unique_ptr<Communicator> make_nccl(std::unique_ptr<Communicator> inner) {
  const Device gpu = own_gpu(inner->rank());
  cuda::use_gpu(gpu.index);
  return make_nccl_communicator(std::move(inner), gpu, nullptr);
}

TEST(NcclCommunicatorOnGpus, GivesWhatTheCpuGets) {
  check_on_gpu(make_nccl, own_gpu);
}

TEST(NcclCommunicatorOnGpus, KeepsWhatCommunicatorsPromiseOfTensorsOnTheCpu) {
  for (const int ranks : {1, 2, 3})
    run_as_threads(ranks, [](Communicator& world) { check_communicator(*make_nccl(world.split(0, world.rank()))); });
}

TEST(NcclCommunicatorOnGpus, TwoRanksOnOneGpuAreAnError) {
  expect_error(Exit::failed, {"NCCL", "Duplicate GPU"}, [] {
    run_as_threads(2, [](Communicator& world) {
      cuda::use_gpu(0);
      make_nccl_communicator(world.split(0, world.rank()), first_gpu(0), nullptr);
    });
  });
}

#ifdef GF_CUDA_EMULATED
// A thread that looks after a rank's messages takes no memory of another rank's GPU.
TEST(NcclCommunicatorOnGpus, WhoWatchesUsesTheGpuOfTheRank) {
  std::string told;
  std::mutex guard;
  emulation::take_touched();
  HangWatch watch(600, [&](const std::string& what) {
    const std::lock_guard lock(guard);
    told = what;
  });
  run_as_threads(2, [&](Communicator& world) {
    const Device gpu = own_gpu(1 + world.rank());
    cuda::use_gpu(gpu.index);
    const auto c = make_nccl_communicator(world.split(0, world.rank()), gpu, world.rank() == 0 ? &watch : nullptr);
    const HangWatch::Doing doing(world.rank() == 0 ? &watch : nullptr, "the test");
    const Tensor in = Tensor::zeros({1}, DType::f32, gpu);
    const Communicator::Message message[] = {{in, 1 - world.rank(), world.rank() == 1}};
    const auto begin = [&] { return c->exchange(message); };
    if (world.rank() == 0) {
      const auto works = begin();
      EXPECT_FALSE(works[0]->poll());
      EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "what is not ready is no error";
      watch.set_limit(0.01);
      for (bool heard = false; !heard; std::this_thread::yield()) {
        const std::lock_guard lock(guard);
        heard = !told.empty();
      }
      world.barrier();
      works[0]->wait();
    } else {
      world.barrier();
      begin()[0]->wait();
    }
    on(kCpu, in);
  });
  EXPECT_NE(told.find("messages from rank 1"), std::string::npos) << told;
  EXPECT_EQ(emulation::take_touched(), (std::set{1, 2}));
}
#endif
#endif
#endif

}  // namespace
}  // namespace gf
