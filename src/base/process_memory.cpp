// SPDX-License-Identifier: Apache-2.0
#include "base/process_memory.h"

#include <malloc.h>
#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "base/error.h"
#include "base/human.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();

// The number behind `key`; 0 where there is none.
size_t number_in(const fs::path& path, const std::string& key) {
  std::ifstream in(path);
  std::string word;
  size_t value = 0;
  while (in >> word)
    if (word == key && in >> value) return value;
  return 0;
}

// Files of /proc count in KiB.
size_t bytes_in(const char* path, const std::string& key) {
  return number_in(path, key) * 1024;
}

// A file with one number, or a word where there is no limit.
size_t number_of(const fs::path& path) {
  std::ifstream in(path);
  size_t value = 0;
  return in >> value ? value : kUnlimited;
}

size_t difference(size_t a, size_t b) {
  return a > b ? a - b : 0;
}

// What a version of control groups calls its files.
struct GroupFiles {
  const char *limit, *used;
  const char* given_back;  // in memory.stat, of a group with all groups in it
};
constexpr GroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"},
    kVersion2{"memory.max", "memory.current", "inactive_file"};

// What the group at `path` below `mount`, and each group around it, still allows. Inside a container the path may be
// that of the host, and not be there: then the mount itself is the container's group.
size_t left_in_group(const fs::path& mount, fs::path path, const GroupFiles& files) {
  size_t left = kUnlimited;
  while (true) {
    const fs::path group = mount / path.relative_path();
    const size_t limit = number_of(group / files.limit), used = number_of(group / files.used);
    // Files read or written a while ago stay in memory, and count as used, until somebody needs it.
    if (limit != kUnlimited && used != kUnlimited)
      left = std::min(left, difference(limit, difference(used, number_in(group / "memory.stat", files.given_back))));
    if (!path.has_relative_path()) return left;
    path = path.parent_path();
  }
}

size_t limit_on_address_space() {
  rlimit limit{};
  return getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ? kUnlimited : limit.rlim_cur;
}

// What is taken, and what threads to come take for stacks and heaps of their own, most of which never becomes memory.
size_t address_space_before(int other_threads) {
  constexpr size_t kBeside = size_t{32} << 20, kThread = size_t{80} << 20;
  return mapped_bytes() + kBeside + static_cast<size_t>(omp_get_max_threads() - 1 + other_threads) * kThread;
}

}  // namespace

// /proc/self/cgroup has a line "number:controllers:path" a hierarchy; version 2 has no controllers there.
size_t left_in_control_groups(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  size_t left = kUnlimited;
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",",
                      path = line.substr(second + 1);
    if (controllers == ",,")
      left = std::min(left, left_in_group(mounts, path, kVersion2));
    else if (controllers.find(",memory,") != std::string::npos)
      left = std::min(left, left_in_group(mounts / "memory", path, kVersion1));
  }
  return left;
}

size_t resident_bytes() {
  return bytes_in("/proc/self/status", "VmRSS:");
}

size_t peak_resident_bytes() {
  return bytes_in("/proc/self/status", "VmHWM:");
}

size_t mapped_bytes() {
  return bytes_in("/proc/self/status", "VmSize:");
}

size_t allocated_bytes() {
  const auto heap = mallinfo2();
  return mapped_bytes() - heap.arena + heap.uordblks;
}

std::string memory_in_use() {
  const size_t limit = limit_on_address_space();
  const auto text = [](size_t bytes) { return human_bytes(static_cast<double>(bytes)); };
  if (limit == kUnlimited) return text(resident_bytes()) + " in use";
  return text(mapped_bytes()) + " of address space in use, and " + text(limit) + " allowed (ulimit -v)";
}

std::string AvailableMemory::text() const {
  const auto human = [](size_t n) { return human_bytes(static_cast<double>(n)); };
  if (bytes > 0 || address_space == 0) return "there are " + human(bytes);
  return cat("there are 0 B: of the ", human(limit_on_address_space()),
             " of address space that ulimit -v allows the program, its libraries and its threads need ",
             human(address_space));
}

std::string AvailableMemory::hint(size_t need, const std::string& smaller) const {
  if (address_space == 0) return smaller;
  return cat("a higher limit on address space (ulimit -v ", limit_for(need), ")", bytes == 0 ? "" : ", or " + smaller);
}

AvailableMemory available_memory(int other_threads, int64_t processes) {
  const size_t machine = bytes_in("/proc/meminfo", "MemAvailable:");
  const size_t shared = std::min(machine == 0 ? kUnlimited : machine, left_in_control_groups()),
               share = shared / static_cast<size_t>(processes), limit = limit_on_address_space();
  if (limit == kUnlimited) return {.bytes = share};
  const size_t before = address_space_before(other_threads), own = difference(limit, before);
  return {.bytes = std::min(share, own), .address_space = own < share ? before : 0};
}

}  // namespace gf
