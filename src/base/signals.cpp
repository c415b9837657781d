// SPDX-License-Identifier: Apache-2.0
#include "base/signals.h"

#include <csignal>

#include "base/error.h"

namespace gf {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1, SIGINT};

// What a signal handler may touch: lock-free atomics at namespace scope, nothing else.
volatile std::sig_atomic_t g_received = 0;
bool g_installed = false;
struct sigaction g_previous[std::size(kSignals)];

void on_signal(int number) {
  if (number == SIGINT && g_received == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  g_received = number;
}

}  // namespace

StopSignal::StopSignal() {
  GF_CHECK(!g_installed, "a second StopSignal");
  g_installed = true;
  g_received = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &g_previous[i]);
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &g_previous[i], nullptr);
  g_installed = false;
}

int StopSignal::received() const {
  return g_received;
}

}  // namespace gf
