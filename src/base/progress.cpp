// SPDX-License-Identifier: Apache-2.0
#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/human.h"

namespace gf {

Progress::Progress(std::string label, int64_t total, std::FILE* out, std::string unit)
    : label_(std::move(label)), unit_(std::move(unit)), total_(total), out_(isatty(fileno(out)) ? out : nullptr) {}

Progress::~Progress() {
  if (out_ && drawn_at_ > 0) std::fputs("\r\033[K", out_);
}

void Progress::advance(int64_t amount) {
  done_ += amount;
  if (!out_) return;
  const double now = clock_.seconds();
  if (now - drawn_at_ < 0.1) return;
  drawn_at_ = now;
  fmt::print(out_, "\r{}\033[K", line(now));
  std::fflush(out_);
}

std::string Progress::shown(double n) const {
  return unit_.empty() ? human_bytes(n) : human_count(n) + " " + unit_;
}

std::string Progress::line(double seconds) const {
  const auto done = static_cast<double>(done_), total = static_cast<double>(total_);
  const double rate = seconds > 0 ? done / seconds : 0;
  std::string text = label_ + "  ";
  if (total_ > 0) {
    // The input may grow while it is read; a share above all of it would only confuse.
    text += fmt::format("{:3.0f}%  {} of {}", std::min(100.0, 100 * done / total), shown(done), shown(total));
  } else {
    text += shown(done);
  }
  text += "  " + shown(rate) + "/s";
  if (rate > 0 && total > done) text += "  " + human_duration((total - done) / rate) + " left";
  return text;
}

}  // namespace gf
