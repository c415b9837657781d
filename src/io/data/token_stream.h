// SPDX-License-Identifier: Apache-2.0
// Batches of token numbers: for training in the order of samples, for validation window by window. Which samples make
// up a step does not depend on the number of data ranks; a stream's place is one number. Where the data has masks,
// targets that they leave out are kNoTarget.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>

#include "io/data/token_files.h"
#include "io/data/training_data.h"
#include "tensor/batch.h"

namespace gf {

// Training batches of one data rank. Microbatch m of rank r of d holds the samples
// start + (m * d + r) * micro_batch + row, so that the d ranks together go through the samples without a gap.
// From the first next() on a thread reads a few batches ahead; what goes wrong there is thrown by next().
class TokenStream {
 public:
  struct Options {
    int64_t vocab_size = 0;   // a token beyond it is refused
    int64_t micro_batch = 0;  // sequences in a batch
    int data_rank = 0, data_size = 1;
    int64_t samples_seen = 0;  // where to go on: what samples_seen() gave
    // Nothing is read from there on: what nobody will take is no reason to wait at the end for a disk.
    int64_t samples_end = std::numeric_limits<int64_t>::max();
    bool read_tokens = true;  // else a batch has only its samples' numbers: for stages that need no more
  };
  TokenStream(std::shared_ptr<const TrainingData>, const Options&);
  ~TokenStream();
  TokenStream(const TokenStream&) = delete;
  TokenStream& operator=(const TokenStream&) = delete;

  Batch next();
  // Samples that all data ranks together have taken with next(): the one number a checkpoint keeps.
  int64_t samples_seen() const { return samples_seen_; }

 private:
  int64_t first_of(int64_t round_begin) const { return round_begin + options_.data_rank * options_.micro_batch; }
  int64_t samples_per_round() const { return options_.micro_batch * options_.data_size; }
  Batch read(int64_t first_sample) const;
  void read_ahead(const std::stop_token&);

  std::shared_ptr<const TrainingData> data_;
  Options options_;
  int64_t samples_seen_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::deque<Batch> ready_;
  std::exception_ptr error_;
  std::jthread reader_;  // last: it ends before what it uses goes
};

// Validation: window i is the ctx_len + 1 tokens from token i * (ctx_len + 1); a rest at the end is left out.
class WindowReader {
 public:
  // Refuses data without a single window.
  WindowReader(std::shared_ptr<const TokenFiles>, int64_t ctx_len, int64_t vocab_size);
  int64_t windows() const { return windows_; }
  int64_t ctx_len() const { return ctx_len_; }
  const TokenFiles& files() const { return *data_; }
  int64_t count_targets(int64_t windows) const;  // that count, in the first so many windows
  // Windows [first, first + count); without their tokens for stages that need only their numbers.
  Batch batch(int64_t first, int64_t count, bool read_tokens = true) const;

 private:
  std::shared_ptr<const TokenFiles> data_;
  int64_t ctx_len_, vocab_size_, windows_;
};

}  // namespace gf
