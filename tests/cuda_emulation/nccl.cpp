// SPDX-License-Identifier: Apache-2.0
#include "nccl.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "streams.h"

struct EmulatedComm {
  int64_t id;
  int rank, size;
};

namespace {

// One side of a message: a send, or a receive.
struct Side {
  ncclComm_t comm;
  int peer;
  bool sends;
  const void* from;
  void* to;
  size_t bytes;
  cudaStream_t stream;
  bool done = false;
};
using Group = std::vector<std::shared_ptr<Side>>;

// Messages of all groups of ranks in this process. One goes through once both its sides have begun, and a stream begins
// one group of sides after another, as on GPUs: what is sent waits for who receives it.
class Post {
 public:
  void add(Group group) {
    const std::lock_guard lock(mutex_);
    const cudaStream_t stream = group[0]->stream;
    auto& groups = streams_[stream];
    groups.push_back(std::move(group));
    if (groups.size() > 1) return;
    begin(groups.front());
    for (moved_.push_back(stream); !moved_.empty();) {
      auto& next = streams_[moved_.back()];
      moved_.pop_back();
      while (!next.empty() && is_done(next.front())) {
        next.pop_front();
        if (!next.empty()) begin(next.front());
      }
    }
    changed_.notify_all();
  }
  bool is_done(const Side& side, bool wait) {
    std::unique_lock lock(mutex_);
    if (wait) changed_.wait(lock, [&] { return side.done; });
    return side.done;
  }
  // Until all that was begun has come through.
  void finish(ncclComm_t comm) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return std::all_of(streams_.begin(), streams_.end(), [&](const auto& stream) {
        return std::none_of(stream.second.begin(), stream.second.end(),
                            [&](const Group& group) { return group[0]->comm == comm; });
      });
    });
  }
  // Of what has not come through, where a rank has failed.
  void forget(ncclComm_t comm) {
    const std::lock_guard lock(mutex_);
    for (auto& [at, box] : boxes_) std::erase_if(box, [&](const auto& side) { return side->comm == comm; });
    for (auto& [stream, groups] : streams_)
      std::erase_if(groups, [&](const Group& group) { return group[0]->comm == comm; });
  }

 private:
  void begin(const Group& group) {
    for (const auto& side : group) match(side);
  }
  void match(const std::shared_ptr<Side>& side) {
    const int here = side->comm->rank;
    auto& box = boxes_[Address{side->comm->id, side->sends ? here : side->peer, side->sends ? side->peer : here}];
    if (box.empty() || box.front()->sends == side->sends) return box.push_back(side);
    const auto other = box.front();
    box.pop_front();
    const Side &send = side->sends ? *side : *other, &receive = side->sends ? *other : *side;
    if (send.bytes > 0) std::memcpy(receive.to, send.from, std::min(send.bytes, receive.bytes));
    side->done = other->done = true;
    moved_.push_back(other->stream);
  }
  static bool is_done(const Group& group) {
    return std::all_of(group.begin(), group.end(), [](const auto& side) { return side->done; });
  }

  using Address = std::tuple<int64_t, int, int>;  // group of ranks, from, to
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Address, std::deque<std::shared_ptr<Side>>> boxes_;  // of sends or of receives
  std::map<cudaStream_t, std::deque<Group>> streams_;           // the first of each has begun
  std::vector<cudaStream_t> moved_;                             // whose first may be done
};

Post& post() {
  static Post one;
  return one;
}

class Pending final : public emulation::Pending {
 public:
  explicit Pending(std::shared_ptr<Side> side) : side_(std::move(side)) {}
  bool is_done(bool wait) override { return post().is_done(*side_, wait); }

 private:
  std::shared_ptr<Side> side_;
};

// Where the ranks of a communicator meet: no two on one GPU.
class Meeting {
 public:
  bool attend(int64_t id, int size) {
    std::unique_lock lock(mutex_);
    auto& gpus = gpus_[id];
    gpus.push_back(emulation::gpu_in_use());
    changed_.notify_all();
    changed_.wait(lock, [&] { return static_cast<int>(gpus.size()) == size; });
    return std::set(gpus.begin(), gpus.end()).size() == gpus.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, std::vector<int>> gpus_;
};

thread_local Group group;
thread_local int groups = 0;
thread_local const char* last_error = "";

ncclResult_t begin_all() {
  if (group.empty()) return ncclSuccess;
  for (const auto& side : group) emulation::add(side->stream, std::make_shared<Pending>(side));
  post().add(std::exchange(group, {}));
  return ncclSuccess;
}

ncclResult_t begin(const Side& side) {
  if (side.peer < 0 || side.peer >= side.comm->size) return ncclInvalidUsage;
  group.push_back(std::make_shared<Side>(side));
  return groups == 0 ? begin_all() : ncclSuccess;
}

}  // namespace

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int64_t> next{1};
  const int64_t number = next++;
  std::memcpy(id->internal, &number, sizeof(number));
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  int64_t number = 0;
  std::memcpy(&number, id.internal, sizeof(number));
  if (number <= 0 || rank >= size) return ncclInvalidUsage;
  static Meeting meeting;
  if (!meeting.attend(number, size)) {
    last_error = "Duplicate GPU detected";
    return ncclInvalidUsage;
  }
  *comm = new EmulatedComm{number, rank, size};
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  post().finish(comm);
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  post().forget(comm);
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* result) {
  *result = ncclSuccess;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  ++groups;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (groups == 0) return ncclInvalidUsage;
  return --groups == 0 ? begin_all() : ncclSuccess;
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
  return begin({comm, peer, true, from, nullptr, count, stream});
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
  return begin({comm, peer, false, nullptr, to, count, stream});
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  ncclGroupStart();
  for (int peer = 0; peer < comm->size; ++peer) {
    char* const part = static_cast<char*>(to) + static_cast<size_t>(peer) * count;
    if (peer == comm->rank && part == from) continue;  // in place
    ncclSend(from, count, type, peer, comm, stream);
    ncclRecv(part, count, type, peer, comm, stream);
  }
  return ncclGroupEnd();
}
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess ? "no error" : "invalid usage";
}
const char* ncclGetLastError(ncclComm_t) {
  return last_error;
}
