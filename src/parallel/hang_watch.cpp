// SPDX-License-Identifier: Apache-2.0
#include "parallel/hang_watch.h"

#include <chrono>

#include "base/clock.h"

namespace gf {

HangWatch::HangWatch(double limit_s, Hung hung)
    : limit_s_(limit_s),
      hung_(std::move(hung)),
      since_(seconds_now()),
      watcher_([this](const std::stop_token& stop) { look_on(stop); }) {}

HangWatch::~HangWatch() = default;

void HangWatch::change(const std::function<void(std::vector<std::string>&)>& how) {
  const std::lock_guard lock(mutex_);
  how(doing_);
  since_ = seconds_now();
}

HangWatch::Doing::Doing(HangWatch* watch, std::string what) : watch_(watch) {
  if (watch_) watch_->change([&](auto& doing) { doing.push_back(std::move(what)); });
}

HangWatch::Doing::~Doing() {
  if (watch_) watch_->change([](auto& doing) { doing.pop_back(); });
}

void HangWatch::look_on(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    const double left = since_ + limit_s_ - seconds_now();
    if (left > 0 || doing_.empty()) {  // a rank that does nothing waits for nobody
      changed_.wait_for(lock, stop, std::chrono::duration<double>(left > 0 ? left : limit_s_), [] { return false; });
      continue;
    }
    std::string doing;
    for (const std::string& what : doing_) doing += (doing.empty() ? "" : ", ") + what;
    const double seconds = seconds_now() - since_;
    lock.unlock();
    hung_(doing, seconds);
    return;
  }
}

}  // namespace gf
