// SPDX-License-Identifier: Apache-2.0
#include "io/data/token_stream.h"

#include <algorithm>

#include "base/error.h"

namespace gf {
namespace {

constexpr size_t kAhead = 4;  // batches: enough to hide one slow read, too few to matter in memory

Batch empty_batch(int64_t rows, int64_t ctx_len) {
  return {.inputs_BT = Tensor::empty(Shape{rows, ctx_len}, DType::i32, kCpu),
          .targets_BT = Tensor::empty(Shape{rows, ctx_len}, DType::i32, kCpu),
          .samples_B = std::vector<int64_t>(static_cast<size_t>(rows))};
}

// Row `row`: ctx_len + 1 tokens, which read(tokens) gets, the targets one token after the inputs; read_mask(marks) says
// which of these tokens count as targets.
template <class Read, class ReadMask>
void read_row(Batch& batch, int64_t row, Read&& read, ReadMask&& read_mask) {
  const int64_t ctx_len = batch.inputs_BT.size(1);
  std::vector<int32_t> tokens(static_cast<size_t>(ctx_len) + 1);
  read(tokens);
  int32_t* const targets = batch.targets_BT.data<int32_t>() + row * ctx_len;
  std::copy(tokens.begin(), tokens.end() - 1, batch.inputs_BT.data<int32_t>() + row * ctx_len);
  std::copy(tokens.begin() + 1, tokens.end(), targets);
  if (!batch.masked) return;
  std::vector<uint8_t> marks(tokens.size());
  read_mask(marks);
  for (int64_t t = 0; t < ctx_len; ++t)
    if (marks[static_cast<size_t>(t) + 1] == 0) targets[t] = kNoTarget;
}

}  // namespace

TokenStream::TokenStream(std::shared_ptr<const TrainingData> data, const Options& options)
    : data_(std::move(data)), options_(options), samples_seen_(options.samples_seen) {
  GF_CHECK(options_.micro_batch > 0 && options_.data_size > 0 && options_.data_rank >= 0 &&
               options_.data_rank < options_.data_size && samples_seen_ >= 0,
           "micro batch ", options_.micro_batch, ", rank ", options_.data_rank, " of ", options_.data_size,
           ", samples ", samples_seen_);
}

TokenStream::~TokenStream() = default;

Batch TokenStream::read(int64_t first_sample) const {
  Batch batch;
  if (options_.read_tokens) batch = empty_batch(options_.micro_batch, data_->ctx_len());
  batch.samples_B.resize(static_cast<size_t>(options_.micro_batch));
  batch.masked = data_->masked();
  for (int64_t row = 0; row < options_.micro_batch; ++row) {
    const int64_t sample = first_sample + row;
    batch.samples_B[static_cast<size_t>(row)] = sample;
    if (options_.read_tokens)
      read_row(
          batch, row, [&](std::span<int32_t> tokens) { data_->read(sample, tokens, options_.vocab_size); },
          [&](std::span<uint8_t> marks) { data_->read_mask(sample, marks); });
  }
  return batch;
}

void TokenStream::read_ahead(const std::stop_token& stop) {
  int64_t sample = first_of(options_.samples_seen);
  try {
    while (!stop.stop_requested() && sample < options_.samples_end) {
      Batch batch = read(sample);
      sample += samples_per_round();
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [&] { return ready_.size() < kAhead; })) return;
      ready_.push_back(std::move(batch));
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

Batch TokenStream::next() {
  GF_CHECK(first_of(samples_seen_) < options_.samples_end, "a batch after sample ", samples_seen_, " of ",
           options_.samples_end);
  // Not before: what fails between the making of the stream and its use has no reader to wait for.
  if (!reader_.joinable()) reader_ = std::jthread([this](const std::stop_token& stop) { read_ahead(stop); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || error_; });
  if (ready_.empty()) std::rethrow_exception(error_);  // after the batches that were read before it
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  samples_seen_ += samples_per_round();
  changed_.notify_all();
  return batch;
}

WindowReader::WindowReader(std::shared_ptr<const TokenFiles> data, int64_t ctx_len, int64_t vocab_size)
    : data_(std::move(data)), ctx_len_(ctx_len), vocab_size_(vocab_size), windows_(data_->tokens() / (ctx_len + 1)) {
  if (windows_ == 0) {
    refuse(cat(data_->name(), " has ", data_->tokens(), " tokens, and a window of ctx_len ", ctx_len, " needs ",
               ctx_len + 1),
           "more data, or a smaller ctx_len");
  }
}

int64_t WindowReader::count_targets(int64_t windows) const {
  if (!data_->masked()) return windows * ctx_len_;
  std::vector<uint8_t> marks(static_cast<size_t>(ctx_len_) + 1);
  int64_t targets = 0;
  for (int64_t w = 0; w < windows; ++w) {
    data_->read_mask(w * (ctx_len_ + 1), marks);
    targets += std::count(marks.begin() + 1, marks.end(), uint8_t{1});
  }
  return targets;
}

Batch WindowReader::batch(int64_t first, int64_t count, bool read_tokens) const {
  GF_CHECK(first >= 0 && count > 0 && first <= windows_ && count <= windows_ - first, "windows ", first, " + ", count,
           " of ", windows_);
  Batch result;
  if (read_tokens) result = empty_batch(count, ctx_len_);
  result.samples_B.resize(static_cast<size_t>(count));
  result.masked = data_->masked();
  for (int64_t row = 0; row < count; ++row) {
    result.samples_B[static_cast<size_t>(row)] = first + row;
    if (!read_tokens) continue;
    const int64_t begin = (first + row) * (ctx_len_ + 1);
    read_row(
        result, row, [&](std::span<int32_t> tokens) { data_->read(begin, tokens, vocab_size_); },
        [&](std::span<uint8_t> marks) { data_->read_mask(begin, marks); });
  }
  return result;
}

}  // namespace gf
