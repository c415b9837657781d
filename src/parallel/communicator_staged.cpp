// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator_staged.h"

#include <deque>
#include <utility>

#include "parallel/then.h"
#include "tensor/arithmetic.h"
#include "tensor/pinned_memory.h"
#include "tensor/side_stream.h"

namespace gf {
namespace {

class StagedCommunicator final : public Communicator {
 public:
  explicit StagedCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) override {
    if (whole.device() == kCpu) return inner_->all_gather(shard, whole);
    const Tensor to = memory_.empty({whole.numel()}, whole.dtype());
    // In place, this rank's part is there already, and may be written to while the others' are on their way.
    const bool in_place = shard.raw() == whole.raw() + static_cast<size_t>(rank()) * shard.bytes();
    const int64_t begin = in_place ? rank() * shard.numel() : 0, end = in_place ? begin + shard.numel() : 0;
    return then(inner_->all_gather(staged(shard), to), [this, to, whole, begin, end] {
      bring(to.range(0, begin), whole.range(0, begin));
      bring(to.range(end, to.numel()), whole.range(end, whole.numel()));
    });
  }

  std::unique_ptr<Work> all_to_all(Tensor from, Tensor to) override {
    if (from.device() == kCpu) return inner_->all_to_all(from, to);
    const Tensor arrived = memory_.empty(to.shape(), to.dtype());
    return then(inner_->all_to_all(staged(from), arrived), [this, arrived, to] { bring(arrived, to); });
  }

  std::vector<std::unique_ptr<Work>> exchange(std::span<const Message> messages) override {
    std::vector<Message> here(messages.begin(), messages.end());
    for (Message& m : here)
      if (m.tensor.device() != kCpu)
        m.tensor = m.send ? staged(m.tensor) : memory_.empty(m.tensor.shape(), m.tensor.dtype());
    auto works = inner_->exchange(here);
    for (size_t i = 0; i < works.size(); ++i)
      if (!here[i].send && messages[i].tensor.device() != kCpu)
        works[i] =
            then(std::move(works[i]), [this, from = here[i].tensor, to = messages[i].tensor] { bring(from, to); });
    return works;
  }

  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    return make_staged_communicator(inner_->split(color, key));
  }

 private:
  Tensor staged(const Tensor& t) {
    const Tensor here = memory_.empty(t.shape(), t.dtype());
    copy(t, here);
    return here;
  }
  // The GPU reads what arrived when it comes to that: until then nothing else may arrive there.
  void bring(const Tensor& arrived, const Tensor& to) {
    copy(arrived, to);
    while (!being_read_.empty() && being_read_.front().first.passed()) being_read_.pop_front();
    being_read_.emplace_back(StreamEvent::of_current(to.device()), arrived);
  }
  std::unique_ptr<Communicator> inner_;
  PinnedMemory memory_;
  std::deque<std::pair<StreamEvent, Tensor>> being_read_;
};

}  // namespace

std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner) {
  return std::make_unique<StagedCommunicator>(std::move(inner));
}

}  // namespace gf
