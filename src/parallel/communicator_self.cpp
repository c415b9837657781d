// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "parallel/communicator.h"

namespace gf {
namespace {

class Done final : public Work {
 public:
  void wait() override {}
};

// One rank: a reduction leaves its tensor as it is, a gather is a copy, and there is nobody to send to.
class SelfCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::unique_ptr<Work> all_reduce(Tensor, Reduce) override { return std::make_unique<Done>(); }
  std::unique_ptr<Work> reduce_scatter(Tensor whole, Tensor shard, Reduce) override { return copy(whole, shard); }
  std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) override { return copy(shard, whole); }
  std::unique_ptr<Work> broadcast(Tensor, int root) override {
    GF_CHECK(root == 0, "broadcast from rank ", root, " of 1");
    return std::make_unique<Done>();
  }
  std::unique_ptr<Work> exchange(std::span<const Message> messages) override {
    GF_CHECK(messages.empty(), "a message to rank ", messages[0].peer, " of 1");
    return std::make_unique<Done>();
  }
  void barrier() override {}
  std::unique_ptr<Communicator> split(int, int) override { return make_self_communicator(); }

 private:
  static std::unique_ptr<Work> copy(const Tensor& from, const Tensor& to) {
    GF_CHECK(from.bytes() == to.bytes(), "a shard of ", from.bytes(), " bytes for ", to.bytes());
    if (from.raw() != to.raw()) std::memcpy(to.raw(), from.raw(), from.bytes());
    return std::make_unique<Done>();
  }
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace gf
