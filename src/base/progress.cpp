// SPDX-License-Identifier: Apache-2.0
#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace gf {

std::string human_bytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < std::size(kUnits)) bytes /= 1000, ++unit;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 99.95 ? 0 : 1, kUnits[unit]);
}

std::string human_seconds(double seconds) {
  const auto s = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e15) + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

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
  if (rate > 0 && total > done) text += "  " + human_seconds((total - done) / rate) + " left";
  return text;
}

}  // namespace gf
