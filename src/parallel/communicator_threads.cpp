// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator_threads.h"

#include <omp.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

namespace gf {
namespace {

// Where messages lie between sender and receiver. A send copies and never waits.
class Post {
 public:
  // Group of ranks, sender, receiver, and kind of message: those of one address arrive in the order they were sent.
  enum class Kind : uint8_t { message, gather, all_to_all };
  using Address = std::tuple<std::string, int, int, Kind>;

  void send(const Address& to, const Tensor& t) {
    const std::lock_guard lock(mutex_);
    Box& box = boxes_[to];
    box.arrived[box.sent++] = {t.raw(), t.raw() + t.bytes()};
    changed_.notify_all();
  }

  // A place in the row of those that receive there: the first one gets what was sent first, whoever looks first.
  uint64_t line_up(const Address& at) {
    const std::lock_guard lock(mutex_);
    return boxes_[at].awaited++;
  }

  // False where nothing is there yet; with `wait`, once it is.
  bool receive(const Address& at, uint64_t place, const Tensor& t, bool wait) {
    std::unique_lock lock(mutex_);
    auto& arrived = boxes_[at].arrived;
    if (wait) changed_.wait(lock, [&] { return failed_ || arrived.contains(place); });
    const auto found = arrived.find(place);
    if (found == arrived.end()) {
      if (failed_) fail("another rank failed");
      return false;
    }
    GF_CHECK(found->second.size() == t.bytes(), "a message of ", found->second.size(), " bytes for ", t.bytes());
    std::memcpy(t.raw(), found->second.data(), t.bytes());
    arrived.erase(found);
    return true;
  }

  // Of the first rank that failed; what others throw because of it does not count.
  void fail_with(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!failed_) error_ = std::move(error);
    failed_ = true;
    changed_.notify_all();
  }
  std::exception_ptr error() const { return error_; }

 private:
  struct Box {
    uint64_t sent = 0, awaited = 0;
    std::map<uint64_t, std::vector<std::byte>> arrived;  // by its place among those sent
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Address, Box> boxes_;
  bool failed_ = false;
  std::exception_ptr error_;
};

class Arrivals final : public Work {
 public:
  explicit Arrivals(Post& post) : post_(post) {}
  void expect(const Post::Address& at, Tensor t) { expected_.push_back({at, post_.line_up(at), std::move(t)}); }

  bool poll() override { return take(false); }
  void wait() override { take(true); }

 private:
  struct Expected {
    Post::Address at;
    uint64_t place;
    Tensor tensor;
  };
  bool take(bool wait) {
    for (; !expected_.empty(); expected_.pop_front()) {
      const Expected& e = expected_.front();
      if (!post_.receive(e.at, e.place, e.tensor, wait)) return false;
    }
    return true;
  }
  Post& post_;
  std::deque<Expected> expected_;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(Post& post, std::string group, int rank, int size)
      : post_(post), group_(std::move(group)), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) override {
    GF_CHECK(whole.bytes() == shard.bytes() * size_, "a shard of ", shard.bytes(), " bytes of ", whole.bytes());
    return spread(
        Post::Kind::gather, [&](int) { return shard; }, whole);
  }
  std::unique_ptr<Work> all_to_all(Tensor from, Tensor to) override {
    GF_CHECK(from.bytes() == to.bytes() && from.numel() % size_ == 0, from.shape(), " to ", to.shape());
    return spread(
        Post::Kind::all_to_all, [&](int peer) { return part(from, peer); }, to);
  }
  std::vector<std::unique_ptr<Work>> exchange(std::span<const Message> messages) override {
    std::vector<std::unique_ptr<Work>> works;
    for (const Message& m : messages) {
      GF_CHECK(0 <= m.peer && m.peer < size_ && m.peer != rank_, "a message from rank ", rank_, " to rank ", m.peer,
               " of ", size_);
      auto work = std::make_unique<Arrivals>(post_);
      if (m.send)
        post_.send(address(rank_, m.peer, Post::Kind::message), m.tensor);
      else
        work->expect(address(m.peer, rank_, Post::Kind::message), m.tensor);
      works.push_back(std::move(work));
    }
    return works;
  }
  void barrier() override { all_reduce(Tensor::of<int32_t>({1}, {0}), Reduce::max); }

  std::unique_ptr<Communicator> split(int color, int key) override {
    const Tensor all = Tensor::empty({2 * size_}, DType::i32, kCpu);
    all_gather(Tensor::of<int32_t>({2}, {color, key}), all)->wait();
    std::vector<std::pair<int, int>> members;  // key, rank here
    for (int r = 0; r < size_; ++r)
      if (all.data<int32_t>()[2 * r] == color) members.emplace_back(all.data<int32_t>()[2 * r + 1], r);
    std::sort(members.begin(), members.end());
    const auto me = std::find(members.begin(), members.end(), std::pair(key, rank_));
    return std::make_unique<ThreadCommunicator>(post_, cat(group_, "/", splits_++, ":", color),
                                                static_cast<int>(me - members.begin()),
                                                static_cast<int>(members.size()));
  }

 private:
  Tensor part(const Tensor& t, int i) const {
    const int64_t n = t.numel() / size_;
    return t.range(i * n, (i + 1) * n);
  }
  Post::Address address(int from, int to, Post::Kind kind) const { return {group_, from, to, kind}; }

  // Sends give(peer) to each other rank, and takes what they send, and its own, into the parts of `to`.
  template <class Give>
  std::unique_ptr<Work> spread(Post::Kind kind, const Give& give, const Tensor& to) {
    auto arrivals = std::make_unique<Arrivals>(post_);
    for (int peer = 0; peer < size_; ++peer) {
      const Tensor here = part(to, peer), there = give(peer);
      if (peer == rank_) {
        if (here.raw() != there.raw()) std::memcpy(here.raw(), there.raw(), here.bytes());
        continue;
      }
      post_.send(address(rank_, peer, kind), there);
      arrivals->expect(address(peer, rank_, kind), here);
    }
    return arrivals;
  }

  Post& post_;
  std::string group_;
  int rank_, size_;
  int splits_ = 0;
};

}  // namespace

void run_as_threads(int size, const std::function<void(Communicator&)>& body) {
  Post post;
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank)
      threads.emplace_back([&, rank] {
        omp_set_num_threads(1);  // of this thread's own loops
        ThreadCommunicator world(post, "", rank, size);
        try {
          body(world);
        } catch (...) {
          post.fail_with(std::current_exception());
        }
      });
  }
  if (post.error()) std::rethrow_exception(post.error());
}

}  // namespace gf
