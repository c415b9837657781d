// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <functional>

#include "parallel/combine.h"
#include "parallel/then.h"
#include "parallel/traced_work.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

template <class T>
void combine_as(const Tensor& all, Reduce how, const Tensor& result) {
  const CombineArgs<T> args{result.numel(), all.numel() / result.numel(), how == Reduce::max, all.data<T>(),
                            result.data<T>()};
  on_device(
      result.device(), [&] { cpu::combine(args); }, [&](auto stream) { cuda::combine(args, stream); });
}

// out = the sum or maximum of the parts, one after another.
void combine(const Tensor& parts, Reduce how, const Tensor& out) {
  switch (out.dtype()) {
    case DType::f32:
      return combine_as<float>(parts, how, out);
    case DType::f64:
      return combine_as<double>(parts, how, out);
    case DType::i32:
      return combine_as<int32_t>(parts, how, out);
    default:
      fail(cat("a reduction of ", out.dtype()));
  }
}

class Then final : public Work {
 public:
  Then(std::unique_ptr<Work> first, std::function<void()> rest) : first_(std::move(first)), rest_(std::move(rest)) {}
  bool poll() override {
    if (!first_->poll()) return false;
    end();
    return true;
  }
  void wait() override {
    first_->wait();
    end();
  }

 private:
  void end() {
    if (rest_) rest_();
    rest_ = {};
  }
  std::unique_ptr<Work> first_;
  std::function<void()> rest_;
};

}  // namespace

std::unique_ptr<Work> then(std::unique_ptr<Work> first, std::function<void()> rest) {
  return std::make_unique<Then>(std::move(first), std::move(rest));
}

Tensor Communicator::working_memory(int64_t n, const Tensor& like) {
  const bool here = like.device() == kCpu;
  if (!here && !memory_on_gpu_) memory_on_gpu_.emplace(like.device());
  return (here ? memory_ : *memory_on_gpu_).empty({n}, like.dtype());
}

std::unique_ptr<Work> Communicator::reduce_scatter(const Tensor& whole, const Tensor& shard, Reduce how) {
  GF_CHECK(whole.numel() == shard.numel() * size() && whole.dtype() == shard.dtype(), "a shard of ", shard.shape(),
           " of ", whole.shape(), " over ", size(), " ranks");
  if (size() == 1) return all_gather(whole, shard);
  const Tensor parts = working_memory(whole.numel(), whole);
  return then(all_to_all(whole, parts), [parts, how, shard] { combine(parts, how, shard); });
}

void Communicator::all_reduce(const Tensor& t, Reduce how) {
  if (size() == 1) return;
  constexpr const char* kAllReduce = "wait for all ranks of a sum";
  const int64_t n = t.numel(), part = (n + size() - 1) / size();
  if (n <= kSmallSum) {
    const Tensor all = working_memory(n * size(), t);
    wait_for(*all_gather(t, all), kAllReduce);
    return combine(all, how, t);
  }
  // In a buffer of equal parts.
  const bool even = n % size() == 0;
  const Tensor flat = t.view({n}), whole = even ? flat : working_memory(part * size(), t);
  if (!even) {
    copy(flat, whole.range(0, n));
    fill_zero(whole.range(n, whole.numel()));
  }
  const Tensor shard = whole.range(rank() * part, (rank() + 1) * part);
  wait_for(*reduce_scatter(whole, shard, how), kAllReduce);
  wait_for(*all_gather(shard, whole), kAllReduce);
  if (!even) copy(whole.range(0, n), flat);
}

void Communicator::broadcast(const Tensor& t, int root) {
  GF_CHECK(0 <= root && root < size(), "broadcast from rank ", root, " of ", size());
  std::vector<Message> messages;
  if (rank() != root) messages.push_back({t, root, false});
  for (int peer = 0; rank() == root && peer < size(); ++peer)
    if (peer != root) messages.push_back({t, peer, true});
  for (const auto& work : exchange(messages)) wait_for(*work, "wait for a broadcast");
}

std::vector<std::string> Communicator::gather_text(const std::string& mine) {
  const Tensor lengths = Tensor::empty({size()}, DType::i32, kCpu);
  all_gather(Tensor::of<int32_t>({1}, {static_cast<int32_t>(mine.size())}), lengths)->wait();
  const int32_t* const length = lengths.data<int32_t>();
  const int64_t words = *std::max_element(length, length + size()) / 4 + 1;
  const Tensor text = Tensor::zeros({words}, DType::i32, kCpu), all = Tensor::empty({words * size()}, DType::i32, kCpu);
  std::memcpy(text.raw(), mine.data(), mine.size());
  all_gather(text, all)->wait();
  std::vector<std::string> texts;
  for (int r = 0; r < size(); ++r)
    texts.emplace_back(reinterpret_cast<const char*>(all.data<int32_t>() + r * words), length[r]);
  return texts;
}

void Communicator::collect_text(const std::string& mine, const std::function<void(const std::string&)>& take) {
  const auto move_over = [&](const Tensor& t, int peer) {
    const Message message{t, peer, rank() != 0};
    exchange({&message, 1})[0]->wait();
  };
  const auto words = [](size_t bytes) {
    return Tensor::zeros({static_cast<int64_t>(bytes / 4 + 1)}, DType::i32, kCpu);
  };
  if (rank() != 0) {
    const Tensor text = words(mine.size());
    std::memcpy(text.raw(), mine.data(), mine.size());
    move_over(Tensor::of<double>({1}, {static_cast<double>(mine.size())}), 0);
    return move_over(text, 0);
  }
  std::exception_ptr error;
  const auto give = [&](const std::string& text) {
    try {
      if (!error) take(text);
    } catch (...) {
      error = std::current_exception();
    }
  };
  give(mine);
  for (int peer = 1; peer < size(); ++peer) {
    const Tensor length = Tensor::empty({1}, DType::f64, kCpu);
    move_over(length, peer);
    const auto bytes = static_cast<size_t>(length.data<double>()[0]);
    const Tensor text = words(bytes);
    move_over(text, peer);
    give({reinterpret_cast<const char*>(text.raw()), bytes});
  }
  if (error) std::rethrow_exception(error);
}

void warm_up(Communicator& ranks) {
  const int size = ranks.size(), rank = ranks.rank();
  const Tensor out = Tensor::of<int32_t>({1}, {rank}), in = Tensor::of<int32_t>({1}, {-1});
  for (int distance = 1; distance < size; ++distance) {
    const Communicator::Message messages[] = {{out, (rank + distance) % size, true},
                                              {in, (rank + size - distance) % size, false}};
    for (const auto& work : ranks.exchange(messages)) work->wait();
  }
}

}  // namespace gf
