// SPDX-License-Identifier: Apache-2.0
// A fixed set of ranks that talk. No global state: whoever communicates holds one.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace gf {

enum class Reduce : uint8_t { sum, max };

// A pending operation. wait() orders it before what the caller does next with its tensors.
class Work {
 public:
  virtual ~Work() = default;
  virtual void wait() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  virtual std::unique_ptr<Work> all_reduce(Tensor, Reduce) = 0;                          // in place
  virtual std::unique_ptr<Work> reduce_scatter(Tensor whole, Tensor shard, Reduce) = 0;  // shard: this rank's part
  virtual std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) = 0;
  virtual std::unique_ptr<Work> broadcast(Tensor, int root) = 0;

  struct Message {
    Tensor tensor;
    int peer;
    bool send;
  };
  virtual std::unique_ptr<Work> exchange(std::span<const Message>) = 0;  // one group: all sends and receives together

  virtual void barrier() = 0;
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;
};

std::unique_ptr<Communicator> make_self_communicator();  // one rank, no MPI

}  // namespace gf
