// SPDX-License-Identifier: Apache-2.0
#include "parallel/hang_watch.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/human.h"

namespace gf {

HangWatch::HangWatch(double limit_s, Hung hung, std::function<double()> clock)
    : hung_(std::move(hung)),
      clock_(std::move(clock)),
      limit_s_(limit_s),
      watcher_([this, began = now()](const std::stop_token& stop) { look_on(stop, began); }) {}

HangWatch::~HangWatch() = default;

void HangWatch::begin(std::string what) {
  const std::lock_guard lock(mutex_);
  Doings& doings = threads_[std::this_thread::get_id()];
  doings.what.push_back(std::move(what));
  doings.since = now();
}

void HangWatch::end() {
  const std::lock_guard lock(mutex_);
  const auto thread = threads_.find(std::this_thread::get_id());
  thread->second.what.pop_back();
  thread->second.since = now();
  if (thread->second.what.empty()) threads_.erase(thread);
}

void HangWatch::touch(std::thread::id thread) {
  const std::lock_guard lock(mutex_);
  if (const auto found = threads_.find(thread); found != threads_.end()) found->second.since = now();
}

void HangWatch::set_limit(double seconds) {
  const std::lock_guard lock(mutex_);
  limit_s_ = seconds;
  changed_.notify_all();
}

double HangWatch::limit() {
  const std::lock_guard lock(mutex_);
  return limit_s_;
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

void HangWatch::add_witness(std::weak_ptr<Witness> witness) {
  const std::lock_guard lock(mutex_);
  witnesses_.push_back(std::move(witness));
  changed_.notify_all();
}

// The first answer of a witness that is still there.
std::string HangWatch::ask(std::string (Witness::*question)()) const {
  for (const auto& witness : witnesses_) {
    const auto here = witness.lock();
    if (!here) continue;
    try {
      if (std::string answer = ((*here).*question)(); !answer.empty()) return answer;
    } catch (const std::exception& e) {
      return e.what();  // a GPU that has failed
    }
  }
  return "";
}

// What a thread began in that time, it began now.
void HangWatch::leave_out(double seconds) {
  stopped_ += seconds;
  for (auto& [thread, doings] : threads_) doings.since = std::min(doings.since, now());
}

void HangWatch::look_on(const std::stop_token& stop, double looked) {
  constexpr double kLook = 1;  // seconds: what is broken is told soon, and the process was stopped since the last look
  constexpr double kLate = 5;  // where this one comes so much later: no busy machine keeps a thread waiting so long
  std::unique_lock lock(mutex_);
  double wait = 0;
  while (!stop.stop_requested()) {
    if (const double late = now() - looked - wait; late > kLate) leave_out(late);
    looked = now();
    const Doings* const found = oldest();
    const double seconds = found ? looked - found->since : 0, left = limit_s_ - seconds;
    std::string wrong = ask(&Witness::broken);
    if (wrong.empty() && found && left <= 0) {
      wrong = cat("has been at this for ", human_duration(seconds), ": ");
      for (const std::string& what : found->what) wrong += (&what == found->what.data() ? "" : ", ") + what;
      if (const std::string also = ask(&Witness::doing); !also.empty()) wrong += "; " + also;
    }
    if (wrong.empty()) {
      wait = std::min(left, kLook);
      const auto other_terms = [&, limit = limit_s_, witnesses = witnesses_.size()] {
        return limit_s_ != limit || witnesses_.size() != witnesses;
      };
      changed_.wait_for(lock, stop, std::chrono::duration<double>(wait), other_terms);
      continue;
    }
    lock.unlock();
    hung_(wrong);
    return;
  }
}

}  // namespace gf
