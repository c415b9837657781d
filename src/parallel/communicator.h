// SPDX-License-Identifier: Apache-2.0
// A fixed set of ranks that talk. No global state: whoever communicates holds one. Every rank of it makes the same
// calls in the same order.
//
// A sum over ranks is taken in the order of the ranks, by the rank that owns the result's part: the same numbers give
// the same bits over any transport, at any time. So transports bring only what moves bytes (all_to_all, all_gather,
// exchange); reductions are made of these, once, in communicator.cpp.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/arena.h"
#include "tensor/tensor.h"

namespace gf {

enum class Reduce : uint8_t { sum, max };

// A pending operation. It makes progress only inside these calls, and must be brought to its end before it goes.
class Work {
 public:
  virtual ~Work() = default;
  virtual bool poll() = 0;  // true once it is done: its tensors may be read, and written again
  virtual void wait() = 0;  // until then
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // `shard` is this rank's part of `whole`, which has one per rank, and may lie in it.
  std::unique_ptr<Work> reduce_scatter(const Tensor& whole, const Tensor& shard, Reduce);
  // In place. These two return when they are done: of more than one step, they could not keep to one order beside
  // others. What has kSmallSum numbers at most goes to all ranks whole; a larger tensor is summed by parts.
  void all_reduce(const Tensor&, Reduce);
  void broadcast(const Tensor&, int root);
  static constexpr int64_t kSmallSum = 64;

  // The other way: each rank's `shard` comes into its part of `whole`, and may lie in it.
  virtual std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) = 0;
  // Part i of `from` goes to rank i, which puts it at part rank() of its `to`. The two do not overlap.
  virtual std::unique_ptr<Work> all_to_all(Tensor from, Tensor to) = 0;

  struct Message {
    Tensor tensor;
    int peer;
    bool send;
  };
  // One group: all sends and receives begin together, and each ends by itself. Messages of a pair of ranks arrive in
  // the order they were sent. -> one for each message, in their order.
  virtual std::vector<std::unique_ptr<Work>> exchange(std::span<const Message>) = 0;

  virtual void barrier() = 0;
  // The ranks that give the same color, in the order of their keys.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  std::vector<std::string> gather_text(const std::string& mine);  // of all ranks, of any lengths
  // The same to the first rank alone, one after another. Where `take` throws, the rest still comes, to nobody, and then
  // the error.
  void collect_text(const std::string& mine, const std::function<void(const std::string&)>& take);

 private:
  // For what is to be summed up. Kept: memory that is new from the system each time costs more than the sums.
  Tensor working_memory(int64_t n, const Tensor& like);
  Arena memory_{kCpu};
  std::optional<Arena> memory_on_gpu_;
};

std::unique_ptr<Communicator> make_self_communicator();  // one rank, no MPI

// Connections are made when they are first used. This makes those between all pairs of ranks, in one order everywhere,
// so that later they cost nothing and cannot be what a run hangs in.
void warm_up(Communicator&);

}  // namespace gf
