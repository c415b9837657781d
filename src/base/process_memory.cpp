// SPDX-License-Identifier: Apache-2.0
#include "base/process_memory.h"

#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

namespace gf {
namespace {

namespace fs = std::filesystem;

constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();

// The number behind `key` in a file of /proc, which counts in KiB; 0 where there is none.
size_t number_in(const char* path, const std::string& key) {
  std::ifstream in(path);
  std::string word;
  size_t value = 0;
  while (in >> word)
    if (word == key && in >> value) return value * 1024;
  return 0;
}

// A file with one number, or a word where there is no limit.
size_t number_of(const fs::path& path) {
  std::ifstream in(path);
  size_t value = 0;
  return in >> value ? value : kUnlimited;
}

// What the group at `path` below `mount`, and each group around it, still allows. Inside a container the path may be
// that of the host, and not be there: then the mount itself is the container's group.
size_t left_in_group(const fs::path& mount, fs::path path, const char* limit_file, const char* used_file) {
  size_t left = kUnlimited;
  while (true) {
    const fs::path group = mount / path.relative_path();
    const size_t limit = number_of(group / limit_file), used = number_of(group / used_file);
    if (limit != kUnlimited && used != kUnlimited) left = std::min(left, limit > used ? limit - used : 0);
    if (!path.has_relative_path()) return left;
    path = path.parent_path();
  }
}

// /proc/self/cgroup has a line "number:controllers:path" a hierarchy; version 2 has no controllers there.
size_t left_in_groups() {
  size_t left = kUnlimited;
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",",
                      path = line.substr(second + 1);
    if (controllers == ",,")
      left = std::min(left, left_in_group("/sys/fs/cgroup", path, "memory.max", "memory.current"));
    else if (controllers.find(",memory,") != std::string::npos)
      left = std::min(left,
                      left_in_group("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes"));
  }
  return left;
}

size_t left_of_address_space() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnlimited;
  // Threads to come take address space for stacks and heaps of their own, most of which never becomes memory.
  // Beside those that compute: one reads data ahead, one writes checkpoints, one watches.
  constexpr size_t kBeside = size_t{32} << 20, kThread = size_t{80} << 20, kOtherThreads = 3;
  const size_t threads = static_cast<size_t>(omp_get_max_threads()) + kOtherThreads;
  const size_t used = mapped_bytes() + kBeside + threads * kThread;
  return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

}  // namespace

size_t resident_bytes() {
  return number_in("/proc/self/status", "VmRSS:");
}

size_t peak_resident_bytes() {
  return number_in("/proc/self/status", "VmHWM:");
}

size_t mapped_bytes() {
  return number_in("/proc/self/status", "VmSize:");
}

size_t available_bytes() {
  const size_t machine = number_in("/proc/meminfo", "MemAvailable:");
  return std::min({machine == 0 ? kUnlimited : machine, left_in_groups(), left_of_address_space()});
}

}  // namespace gf
