// SPDX-License-Identifier: Apache-2.0
// Ends a job of several ranks in which one hangs. Each rank's threads say what they are doing; a thread looks on, and
// where one has begun, ended or touched nothing for too long it says which rank was doing what, and ends the process,
// and with it the job. Time in which the process itself was stopped (Ctrl-Z, scontrol suspend, a paused machine) does
// not count.
#pragma once
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace gf {

class HangWatch {
 public:
  // `hung` is called once, on the watching thread, with what is wrong: what has been done for too long, outermost
  // first, or what a witness found broken.
  using Hung = std::function<void(const std::string& what)>;
  HangWatch(double limit_s, Hung hung, std::function<double()> clock = seconds_now);
  ~HangWatch();
  HangWatch(const HangWatch&) = delete;
  HangWatch& operator=(const HangWatch&) = delete;

  void set_limit(double seconds);
  double limit();

  // What this thread is doing while this lives. Each begins within the one before.
  class Doing {
   public:
    Doing(HangWatch* watch, std::string what);  // null: nobody watches
    ~Doing();
    Doing(const Doing&) = delete;
    Doing& operator=(const Doing&) = delete;

   private:
    HangWatch* watch_;
  };

  // A sign of life within what a thread does, from any thread.
  void touch(std::thread::id = std::this_thread::get_id());

  // Who knows of work that no thread is doing. Called on the watching thread; empty where there is nothing to tell.
  class Witness {
   public:
    virtual ~Witness() = default;
    virtual std::string doing() = 0;   // what has been begun and has not ended
    virtual std::string broken() = 0;  // what never will
  };
  void add_witness(std::weak_ptr<Witness>);

 private:
  // Of one thread, from its first Doing to its last: a thread that does nothing waits for nobody.
  struct Doings {
    std::vector<std::string> what;
    double since;
  };
  void begin(std::string what);
  void end();
  void look_on(const std::stop_token&, double looked);
  double now() const { return clock_() - stopped_; }
  void leave_out(double seconds);
  const Doings* oldest() const;
  std::string ask(std::string (Witness::*question)()) const;

  const Hung hung_;
  const std::function<double()> clock_;
  std::mutex mutex_;    // guards what follows
  double stopped_ = 0;  // seconds that do not count
  double limit_s_;
  std::condition_variable_any changed_;
  std::map<std::thread::id, Doings> threads_;
  std::vector<std::weak_ptr<Witness>> witnesses_;
  std::jthread watcher_;  // last: it ends before what it uses goes
};

}  // namespace gf
