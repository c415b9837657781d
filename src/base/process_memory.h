// SPDX-License-Identifier: Apache-2.0
// How much memory this process has, and how much it may still get.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace gf {

size_t resident_bytes();       // of this process, now
size_t peak_resident_bytes();  // at its largest
size_t mapped_bytes();         // its address space: what it was given, used or not
size_t allocated_bytes();      // of that, all but what the heap has in store
// For an error: what the process has, and the limit on it, if there is one.
std::string memory_in_use();

// What this process may still get.
struct AvailableMemory {
  size_t bytes = 0;
  // Where it is the process's own limit (ulimit -v) that allows no more: the limit that would leave nothing. Else 0.
  size_t address_space = 0;
  // For an error: how much there is; where nothing is left of the process's own limit, where that went.
  std::string text() const;
  // For an error: what helps who needs so many bytes. `smaller` is what makes do with less, but not with nothing.
  std::string hint(size_t need, const std::string& smaller) const;
  // What `ulimit -v` would have to say for who needs so many bytes, where that is what allows no more.
  size_t limit_for(size_t need) const { return (address_space + need) / 1024 + 1; }
};
// The least that is left of: the machine's memory and each control group that this process is in (a job's limit), of
// each its share where so many `processes` like this one will ask for theirs, and the process's own limit on address
// space. Of that the threads that compute get theirs first, and `other_threads` that the program will still start.
AvailableMemory available_memory(int other_threads = 0, int64_t processes = 1);
// The second of these: `root` has /proc/self/cgroup and /sys/fs/cgroup. The largest number where there is no limit.
size_t left_in_control_groups(const std::filesystem::path& root = "/");

}  // namespace gf
