// SPDX-License-Identifier: Apache-2.0
// A disk that does not answer: to be preloaded into a program. On rank GF_STUCK_RANK, reads of .bin files by threads
// other than the first one never come back after the first GF_STUCK_AFTER of them.
#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

std::atomic<int> reads{0};

bool is_meant(int file) {
  const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const char* const stuck = std::getenv("GF_STUCK_RANK");
  if (!rank || !stuck || std::string_view(rank) != stuck || ::gettid() == ::getpid()) return false;
  std::array<char, 4096> path{};
  const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(file)).c_str(), path.data(), path.size());
  return length > 0 && std::string_view(path.data(), static_cast<size_t>(length)).ends_with(".bin");
}

template <class Offset>
ssize_t read_or_stay(const char* name, int file, void* to, size_t bytes, Offset offset) {
  const char* const after = std::getenv("GF_STUCK_AFTER");
  if (after && is_meant(file) && reads++ >= std::atoi(after))
    while (true) ::pause();
  return reinterpret_cast<ssize_t (*)(int, void*, size_t, Offset)>(dlsym(RTLD_NEXT, name))(file, to, bytes, offset);
}

}  // namespace

extern "C" {

ssize_t pread(int file, void* to, size_t bytes, off_t offset) {
  return read_or_stay("pread", file, to, bytes, offset);
}

ssize_t pread64(int file, void* to, size_t bytes, off64_t offset) {
  return read_or_stay("pread64", file, to, bytes, offset);
}

}  // extern "C"
