// SPDX-License-Identifier: Apache-2.0
#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/human.h"

namespace gf {

Progress::Progress(std::string label, int64_t total, std::FILE* out)
    : label_(std::move(label)), total_(total), out_(isatty(fileno(out)) ? out : nullptr) {}

Progress::~Progress() {
  if (out_ && drawn_at_ > 0) std::fputs("\r\033[K", out_);
}

void Progress::advance(int64_t bytes) {
  done_ += bytes;
  if (!out_) return;
  const double now = clock_.seconds();
  if (now - drawn_at_ < 0.1) return;
  drawn_at_ = now;
  fmt::print(out_, "\r{}\033[K", line(now));
  std::fflush(out_);
}

std::string Progress::line(double seconds) const {
  const auto done = static_cast<double>(done_), total = static_cast<double>(total_);
  const double rate = seconds > 0 ? done / seconds : 0;
  std::string text = label_ + "  ";
  if (total_ > 0) {
    // The input may grow while it is read; a share above all of it would only confuse.
    text +=
        fmt::format("{:3.0f}%  {} of {}", std::min(100.0, 100 * done / total), human_bytes(done), human_bytes(total));
  } else {
    text += human_bytes(done);
  }
  text += "  " + human_bytes(rate) + "/s";
  if (rate > 0 && total > done) text += "  " + human_duration((total - done) / rate) + " left";
  return text;
}

}  // namespace gf
