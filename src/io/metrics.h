// SPDX-License-Identifier: Apache-2.0
// metrics.jsonl: one JSON object per optimizer step, in the order of the steps, each step once. The writer hands
// every line to the system whole, so that other programs can follow the file; a crash can tear the last line only,
// which a reader leaves out and the next run removes.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/files.h"

namespace gf {

struct StepMetrics {
  int64_t step = 0;    // from 0
  int64_t tokens = 0;  // in total, after the step
  double loss = 0, grad_norm = 0, lr = 0;
  double step_s = 0, tokens_per_s = 0;
  std::string skipped{};  // why the step changed nothing; empty where it did. Its loss and norm need not be finite
  std::optional<int64_t> targets{};         // of the step that its loss is the mean of, where a mask says which
  std::optional<double> val_loss, val_acc;  // where the step ended with a validation
};

class MetricsWriter {
 public:
  // Goes on at `first_step`: whatever the file says of that step and later ones is removed, the rest stays.
  MetricsWriter(const std::filesystem::path& path, int64_t first_step);

  // Steps must rise. Values must be finite, for JSON has no NaN: of a skipped step they become null, and a validation
  // that does is read as none.
  void append(const StepMetrics&);
  // Returns when all lines are on disk. Before a checkpoint is declared done, so that a power cut cannot leave the
  // steps before it without their lines.
  void sync();

 private:
  File file_;
  int64_t next_step_;
};

// Reads line by line. Unknown keys are passed over; anything that is not a step's object, a step that does not rise
// included, is refused with its line number.
class MetricsReader {
 public:
  explicit MetricsReader(const std::filesystem::path& path);

  std::optional<StepMetrics> next();                  // nothing: the end
  int64_t bytes_read() const { return bytes_read_; }  // up to the end of the last step given

 private:
  std::string_view next_line();

  File file_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;  // what of the buffer was read and not yet given
  int64_t line_ = 0, bytes_read_ = 0, last_step_ = -1;
};

std::vector<StepMetrics> read_metrics(const std::filesystem::path& path);

}  // namespace gf
