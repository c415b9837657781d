// SPDX-License-Identifier: Apache-2.0
// How a run says where it is: on a terminal one line rewritten in place, cut to the terminal's width; in a log file
// plain lines of the same fields every few steps. Loss and speed are smoothed over some ten steps. The time left
// follows from the last fifty steps and from the share that validations and saves have had of all the time so far.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "io/metrics.h"

namespace gf {

// Where the lines go. The width is asked for anew at each line, for a terminal may be resized.
struct ProgressOutput {
  std::ostream& stream;
  bool live = false;  // a terminal, which can rewrite a line
  std::function<int()> width = [] { return 80; };
  std::function<double()> now = seconds_now;

  static ProgressOutput standard_output();
};

class ProgressLine {
 public:
  ProgressLine(ProgressOutput output, int64_t total_steps, int64_t total_tokens, int64_t log_every_n_steps);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void step(const StepMetrics&);
  // A line of its own that stays, such as a save; the live line goes on below it.
  void say(std::string_view line);
  // Ends the live line, so that what is printed next begins on a fresh one.
  void finish();

 private:
  // A mean that forgets, and that a start from nothing does not bias.
  class Smoothed {
   public:
    void add(double value);
    double value() const { return weight_ > 0 ? sum_ / weight_ : 0; }

   private:
    double sum_ = 0, weight_ = 0;
  };
  std::string text(const StepMetrics&, size_t width) const;
  double seconds_left(int64_t steps) const;
  void draw(const std::string& line);

  ProgressOutput output_;
  int64_t total_steps_, total_tokens_, log_every_;
  Smoothed loss_, speed_;
  double began_;  // when this process did, as are the next two
  double seconds_in_steps_ = 0;
  int64_t steps_taken_ = 0;
  std::deque<double> recent_;  // seconds of the last steps
  std::string shown_;          // the live line as it stands, empty where there is none
  double drawn_at_ = 0;
};

}  // namespace gf
