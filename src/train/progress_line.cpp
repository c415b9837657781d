// SPDX-License-Identifier: Apache-2.0
#include "train/progress_line.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/human.h"

namespace gf {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kForget = 0.9;             // of a smoothed value, at each step
constexpr size_t kPaceSteps = 50;           // the steps that tell the pace
constexpr const char* kClear = "\r\x1b[K";  // back to the line's start, and empty it

// Of a terminal; 0 of what is none.
int columns_of(int fd) {
  if (::isatty(fd) == 0) return 0;
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// Of what shows the standard output. Open MPI gives the first rank a terminal whatever becomes of its output: what
// counts is that of mpirun, which starts the ranks of its own node itself. What starts those of other nodes has none.
int shown_columns() {
  const int own = columns_of(STDOUT_FILENO);
  if (own == 0 || !std::getenv("OMPI_COMM_WORLD_SIZE")) return own;
  const int mpirun = ::open(cat("/proc/", ::getppid(), "/fd/1").c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (mpirun < 0) return 0;
  const int columns = columns_of(mpirun);
  ::close(mpirun);
  return columns;
}

std::string validation_text(const StepMetrics& m) {
  std::string line = fmt::format("validation after step {}: loss {:.4f}", m.step + 1, *m.val_loss);
  if (m.val_acc) line += fmt::format(", accuracy {:.2f} %", 100 * *m.val_acc);
  return line;
}

}  // namespace

ProgressOutput ProgressOutput::standard_output() {
  return {.stream = std::cout, .live = shown_columns() > 0, .width = shown_columns};
}

void ProgressLine::Smoothed::add(double value) {
  sum_ = kForget * sum_ + (1 - kForget) * value;
  weight_ = kForget * weight_ + (1 - kForget);
}

ProgressLine::ProgressLine(ProgressOutput output, int64_t total_steps, int64_t total_tokens, int64_t log_every_n_steps)
    : output_(std::move(output)),
      total_steps_(total_steps),
      total_tokens_(total_tokens),
      log_every_(std::max<int64_t>(1, log_every_n_steps)),
      began_(output_.now()) {}

ProgressLine::~ProgressLine() {
  finish();
}

void ProgressLine::step(const StepMetrics& m) {
  const double now = output_.now();
  if (m.skipped.empty())
    loss_.add(m.loss);
  else
    say(fmt::format("step {} skipped: {}", m.step + 1, m.skipped));
  speed_.add(m.tokens_per_s);
  seconds_in_steps_ += m.step_s;
  if (++steps_taken_ == 2) recent_.clear();  // the first step touches all memory and makes all kernels
  recent_.push_back(m.step_s);
  if (recent_.size() > kPaceSteps) recent_.pop_front();

  const bool last = m.step + 1 >= total_steps_;
  if (output_.live) {
    if (m.val_loss) say(validation_text(m));
    if (shown_.empty() || last || now - drawn_at_ >= kRedrawSeconds) {
      drawn_at_ = now;
      // One column stays free: a line that fills the last one makes some terminals wrap.
      draw(text(m, static_cast<size_t>(std::max(1, output_.width() - 1))));
    }
  } else {
    if (steps_taken_ == 1 || last || (m.step + 1) % log_every_ == 0) say(text(m, std::numeric_limits<size_t>::max()));
    if (m.val_loss) say(validation_text(m));
  }
}

// The fields in the order of reading, each with its importance: where the width is short the least important go.
std::string ProgressLine::text(const StepMetrics& m, size_t width) const {
  struct Field {
    int importance;
    std::string text;
  };
  const std::string total = fmt::format("{}", total_steps_);
  std::vector<Field> fields = {
      {9, fmt::format("step {:>{}}/{}", m.step + 1, total.size(), total)},
      {4, fmt::format("{:>5}/{} tokens", human_count(static_cast<double>(m.tokens)),
                      human_count(static_cast<double>(total_tokens_)))},
      {8, fmt::format("loss {:.4f}", loss_.value())},
      {3, fmt::format("lr {:.2e}", m.lr)},
      {5, fmt::format("norm {:.3g}", m.grad_norm)},
      {6, fmt::format("{:>5} tok/s", human_count(speed_.value()))},
      {7, fmt::format("{:>6} left", human_duration(seconds_left(total_steps_ - m.step - 1)))},
  };
  const auto joined = [&] {
    std::string line;
    for (const Field& field : fields) line += (line.empty() ? "" : "  ") + field.text;
    return line;
  };
  while (joined().size() > width && fields.size() > 1)
    fields.erase(std::ranges::min_element(fields, {}, &Field::importance));
  return joined().substr(0, width);
}

double ProgressLine::seconds_left(int64_t steps) const {
  const double pace = std::accumulate(recent_.begin(), recent_.end(), 0.0) / static_cast<double>(recent_.size());
  const double with_all_else = (output_.now() - began_) / seconds_in_steps_;
  return pace * std::max(1.0, with_all_else) * static_cast<double>(std::max<int64_t>(0, steps));
}

void ProgressLine::draw(const std::string& line) {
  shown_ = line;
  output_.stream << kClear + line << std::flush;
}

void ProgressLine::say(std::string_view line) {
  if (!shown_.empty()) output_.stream << kClear;
  output_.stream << line << '\n';
  if (!shown_.empty()) output_.stream << shown_;
  output_.stream << std::flush;
}

void ProgressLine::finish() {
  if (!shown_.empty()) output_.stream << std::endl;
  shown_.clear();
}

}  // namespace gf
