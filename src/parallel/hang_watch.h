// SPDX-License-Identifier: Apache-2.0
// Ends a job of several ranks in which one hangs. Each rank says what it is doing; a thread looks on, and where nothing
// has begun or ended for too long it says which rank was doing what, and ends the process, and with it the job.
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace gf {

class HangWatch {
 public:
  // `hung` is called once, on the watching thread, with what was being done, outermost first, and for how long.
  using Hung = std::function<void(const std::string& doing, double seconds)>;
  HangWatch(double limit_s, Hung hung);
  ~HangWatch();
  HangWatch(const HangWatch&) = delete;
  HangWatch& operator=(const HangWatch&) = delete;

  // What the rank is doing while this lives. Each begins within the one before.
  class Doing {
   public:
    Doing(HangWatch* watch, std::string what);  // null: nobody watches
    ~Doing();
    Doing(const Doing&) = delete;
    Doing& operator=(const Doing&) = delete;

   private:
    HangWatch* watch_;
  };

 private:
  void look_on(const std::stop_token&);
  void change(const std::function<void(std::vector<std::string>&)>&);

  const double limit_s_;
  const Hung hung_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::vector<std::string> doing_;
  double since_;
  std::jthread watcher_;  // last: it ends before what it uses goes
};

}  // namespace gf
