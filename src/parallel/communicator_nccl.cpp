// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator_nccl.h"

#include <nccl.h>

#include <cstring>
#include <deque>
#include <exception>
#include <mutex>

#include "tensor/arithmetic.h"
#include "tensor/side_stream.h"

namespace gf {
namespace {

void check_nccl(ncclResult_t result, const char* doing) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  fail(cat("NCCL could not ", doing, ": ", ncclGetErrorString(result), "; ", ncclGetLastError(nullptr)),
       "NCCL_DEBUG=INFO in the environment makes it say more");
}

// The one stream that a rank's messages go through, before what it computes beside them, and what is on its way in it.
class Lane final : public HangWatch::Witness {
 public:
  Lane(Device device, HangWatch* watch) : device(device), stream(device, Turn::first), watch(watch) {}

  StreamEvent mark(const std::string& what) {
    StreamEvent event = stream.mark();
    const std::lock_guard lock(mutex_);
    while (!under_way_.empty() && under_way_.front().event.passed()) under_way_.pop_front();
    under_way_.push_back({event, what});
    return event;
  }
  void add(ncclComm_t comm) {
    const std::lock_guard lock(mutex_);
    comms_.push_back(comm);
  }
  void remove(ncclComm_t comm) {
    const std::lock_guard lock(mutex_);
    std::erase(comms_, comm);
  }

  std::string doing() override {
    const std::lock_guard lock(mutex_);
    for (const Operation& o : under_way_)
      if (!o.event.passed()) return cat("the GPU has been waiting for ", o.what);
    return "";
  }
  std::string broken() override {
    const std::lock_guard lock(mutex_);
    for (ncclComm_t comm : comms_) {
      ncclResult_t result = ncclSuccess;
      if (ncclCommGetAsyncError(comm, &result) == ncclSuccess && result != ncclSuccess && result != ncclInProgress)
        return cat("NCCL: ", ncclGetErrorString(result), "; ", ncclGetLastError(comm));
    }
    return "";
  }

  const Device device;
  const SideStream stream;
  HangWatch* const watch;

 private:
  struct Operation {
    StreamEvent event;
    std::string what;
  };
  std::mutex mutex_;  // guards what follows: the watch looks from a thread of its own
  std::deque<Operation> under_way_;
  std::vector<ncclComm_t> comms_;
};

class NcclWork final : public Work {
 public:
  NcclWork(StreamEvent event, std::vector<Tensor> tensors) : event_(std::move(event)), tensors_(std::move(tensors)) {}
  bool poll() override {
    if (!event_.passed()) return false;
    tensors_.clear();
    return true;
  }
  // Memory that goes back here is used again by what is computed next, which waits.
  void wait() override {
    event_.hold_back();
    tensors_.clear();
  }

 private:
  StreamEvent event_;
  std::vector<Tensor> tensors_;  // stay until the end
};

// What is called between these two begins together.
class Group {
 public:
  Group() { check_nccl(ncclGroupStart(), "begin a group"); }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  ~Group() {
    if (!ended_) (void)ncclGroupEnd();  // an error is on its way out
  }
  void end() {
    ended_ = true;
    check_nccl(ncclGroupEnd(), "begin messages");
  }

 private:
  bool ended_ = false;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> inner, std::shared_ptr<Lane> lane)
      : inner_(std::move(inner)), lane_(std::move(lane)) {
    const HangWatch::Doing doing(lane_->watch, cat("making NCCL's connections among ", size(), " ranks"));
    ncclUniqueId id{};
    static_assert(sizeof(id) % sizeof(int32_t) == 0);
    if (rank() == 0) check_nccl(ncclGetUniqueId(&id), "begin");
    const Tensor shared = Tensor::empty({sizeof(id) / sizeof(int32_t)}, DType::i32, kCpu);
    std::memcpy(shared.raw(), &id, sizeof(id));
    inner_->broadcast(shared, 0);
    std::memcpy(&id, shared.raw(), sizeof(id));
    check_nccl(ncclCommInitRank(&comm_, size(), id, rank()), "find the other ranks");
    lane_->add(comm_);
    connect_all();
  }
  ~NcclCommunicator() override {
    lane_->remove(comm_);
    // What is under way may never come to its end where an error is on its way out.
    (void)(std::uncaught_exceptions() > 0 ? ncclCommAbort(comm_) : ncclCommDestroy(comm_));
  }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) override {
    if (whole.device() == kCpu) return inner_->all_gather(shard, whole);
    GF_CHECK(whole.numel() == shard.numel() * size() && whole.dtype() == shard.dtype(), "a shard of ", shard.shape(),
             " of ", whole.shape());
    lane_->stream.follow();
    check_nccl(ncclAllGather(shard.raw(), whole.raw(), shard.bytes(), ncclChar, comm_, stream()), "begin a gather");
    return begun("an all-gather", {shard, whole});
  }

  std::unique_ptr<Work> all_to_all(Tensor from, Tensor to) override {
    if (to.device() == kCpu) return inner_->all_to_all(from, to);
    GF_CHECK(from.numel() == to.numel() && from.numel() % size() == 0 && from.dtype() == to.dtype(), from.shape(),
             " to ", to.shape());
    lane_->stream.follow();
    const size_t part = from.bytes() / static_cast<size_t>(size());
    Group group;
    for (int peer = 0; peer < size(); ++peer) {
      const size_t at = static_cast<size_t>(peer) * part;
      check_nccl(ncclSend(from.raw() + at, part, ncclChar, peer, comm_, stream()), "send");
      check_nccl(ncclRecv(to.raw() + at, part, ncclChar, peer, comm_, stream()), "receive");
    }
    group.end();
    return begun("an all-to-all", {from, to});
  }

  std::vector<std::unique_ptr<Work>> exchange(std::span<const Message> messages) override {
    std::vector<std::unique_ptr<Work>> works(messages.size());
    std::vector<Message> here;
    std::vector<size_t> places;
    std::string peers;
    lane_->stream.follow();
    Group group;
    for (size_t i = 0; i < messages.size(); ++i) {
      const Message& m = messages[i];
      if (m.tensor.device() == kCpu) {
        here.push_back(m);
        places.push_back(i);
        continue;
      }
      const size_t bytes = m.tensor.bytes();
      check_nccl(m.send ? ncclSend(m.tensor.raw(), bytes, ncclChar, m.peer, comm_, stream())
                        : ncclRecv(m.tensor.raw(), bytes, ncclChar, m.peer, comm_, stream()),
                 m.send ? "send" : "receive");
      peers += cat(peers.empty() ? "" : ", ", m.send ? "to rank " : "from rank ", m.peer);
    }
    group.end();
    const StreamEvent event = peers.empty() ? StreamEvent() : mark("messages " + peers);
    for (size_t i = 0; i < messages.size(); ++i)
      if (messages[i].tensor.device() != kCpu)
        works[i] = std::make_unique<NcclWork>(event, std::vector{messages[i].tensor});
    auto inner = inner_->exchange(here);
    for (size_t i = 0; i < places.size(); ++i) works[places[i]] = std::move(inner[i]);
    return works;
  }

  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    return std::make_unique<NcclCommunicator>(inner_->split(color, key), lane_);
  }

 private:
  cudaStream_t stream() const { return static_cast<cudaStream_t>(lane_->stream.stream().handle); }
  StreamEvent mark(const std::string& what) { return lane_->mark(cat(what, " among ", size(), " ranks")); }
  std::unique_ptr<Work> begun(const std::string& what, std::vector<Tensor> tensors) {
    return std::make_unique<NcclWork>(mark(what), std::move(tensors));
  }

  // Connections are made at the first use: here, all, rather than at one that others wait behind.
  void connect_all() {
    const Tensor from = Tensor::zeros({size()}, DType::i32, lane_->device),
                 to = Tensor::zeros({size()}, DType::i32, lane_->device);
    all_to_all(from, to)->wait();
    all_gather(from.range(0, 1), to)->wait();
    on(kCpu, to);  // waits for it
  }

  std::unique_ptr<Communicator> inner_;
  std::shared_ptr<Lane> lane_;
  ncclComm_t comm_ = nullptr;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> inner, Device device,
                                                     HangWatch* watch) {
  auto lane = std::make_shared<Lane>(device, watch);
  if (watch) watch->add_witness(lane);
  return std::make_unique<NcclCommunicator>(std::move(inner), std::move(lane));
}

}  // namespace gf
