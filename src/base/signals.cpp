// SPDX-License-Identifier: Apache-2.0
#include "base/signals.h"

#include <csignal>
#include <cstring>

#include "base/error.h"

namespace gf {
namespace {

constexpr int kStopping[] = {SIGTERM, SIGUSR1, SIGHUP, SIGINT};

// What a signal handler may touch: lock-free atomics at namespace scope, nothing else.
volatile std::sig_atomic_t g_received = 0;
bool g_installed = false;
struct sigaction g_previous[std::size(kStopping)];
stack_t g_previous_stack;

// While oneDNN (2.6.3) multiplies on AVX-512, the stack pointer points into a buffer on the heap. The system would put
// the handler's frame there, over whatever lies below that buffer, and the process would die of a broken heap. So the
// handler has a stack of its own. The system gives a process's signals to its main thread as long as that one takes
// them.
constexpr size_t kStackBytes = 64 * 1024;

void on_signal(int number) {
  if (number == SIGINT && g_received == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  g_received = number;
}

}  // namespace

StopSignal::StopSignal() : stack_(std::make_unique<std::byte[]>(kStackBytes)) {
  GF_CHECK(!g_installed, "a second StopSignal");
  g_installed = true;
  g_received = 0;
  stack_t stack{};
  stack.ss_sp = stack_.get();
  stack.ss_size = kStackBytes;
  GF_CHECK(sigaltstack(&stack, &g_previous_stack) == 0, "no stack for signal handlers");
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  for (size_t i = 0; i < std::size(kStopping); ++i) {
    sigaction(kStopping[i], &action, &g_previous[i]);
    // nohup, or a script's shell for what it starts in the background, has turned it off.
    if (g_previous[i].sa_handler == SIG_IGN) sigaction(kStopping[i], &g_previous[i], nullptr);
  }
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < std::size(kStopping); ++i) sigaction(kStopping[i], &g_previous[i], nullptr);
  sigaltstack(&g_previous_stack, nullptr);
  g_installed = false;
}

int StopSignal::received() const {
  return g_received;
}

std::string StopSignal::name() const {
  return cat("SIG", sigabbrev_np(g_received));
}

}  // namespace gf
