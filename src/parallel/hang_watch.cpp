// SPDX-License-Identifier: Apache-2.0
#include "parallel/hang_watch.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"

namespace gf {

HangWatch::HangWatch(double limit_s, Hung hung)
    : limit_s_(limit_s), hung_(std::move(hung)), watcher_([this](const std::stop_token& stop) { look_on(stop); }) {}

HangWatch::~HangWatch() = default;

void HangWatch::begin(std::string what) {
  const std::lock_guard lock(mutex_);
  Doings& doings = threads_[std::this_thread::get_id()];
  doings.what.push_back(std::move(what));
  doings.since = seconds_now();
}

void HangWatch::end() {
  const std::lock_guard lock(mutex_);
  const auto thread = threads_.find(std::this_thread::get_id());
  thread->second.what.pop_back();
  thread->second.since = seconds_now();
  if (thread->second.what.empty()) threads_.erase(thread);
}

HangWatch::Doing::Doing(HangWatch* watch, std::string what) : watch_(watch) {
  if (watch_) watch_->begin(std::move(what));
}

HangWatch::Doing::~Doing() {
  if (watch_) watch_->end();
}

const HangWatch::Doings* HangWatch::oldest() const {
  const auto first = std::min_element(threads_.begin(), threads_.end(),
                                      [](const auto& a, const auto& b) { return a.second.since < b.second.since; });
  return first == threads_.end() ? nullptr : &first->second;
}

void HangWatch::look_on(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    const Doings* const found = oldest();
    const double seconds = found ? seconds_now() - found->since : 0;
    if (!found || seconds < limit_s_) {
      changed_.wait_for(lock, stop, std::chrono::duration<double>(limit_s_ - seconds), [] { return false; });
      continue;
    }
    std::string doing;
    for (const std::string& what : found->what) doing += (doing.empty() ? "" : ", ") + what;
    lock.unlock();
    hung_(doing, seconds);
    return;
  }
}

}  // namespace gf
