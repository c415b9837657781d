// SPDX-License-Identifier: Apache-2.0
// How much memory this process has, and how much it may still get.
#pragma once
#include <cstddef>

namespace gf {

size_t resident_bytes();       // of this process, now
size_t peak_resident_bytes();  // at its largest
size_t mapped_bytes();         // its address space: what it was given, used or not

// The least that is left of: the machine's memory, each control group that this process is in (a job's limit), and the
// process's own limit on address space.
size_t available_bytes();

}  // namespace gf
