// SPDX-License-Identifier: Apache-2.0
// A disk that fails when told to. Linking this file puts it in the place of the C library's calls that change files
// (write, pwrite, ftruncate, fallocate, fsync, rename, mkdir, unlink, rmdir, open for creation), for all of the
// process, HDF5 included; of read and pread, for short_read and read_error; and of close, of what is open for writing,
// for close_error alone. Unarmed it passes everything on.
#pragma once
#include <string>

namespace gf {

enum class Fault { no_space, io_error, short_write, death, short_read, read_error, close_error };

// Calls inside `folder` are counted from construction on; the one with number `nth` (from 0) meets the fault, once for
// a short write, death or a close, and from then on for errors (a full disk stays full) and reads, until the object
// goes.
class FaultyDisk {
 public:
  FaultyDisk(std::string folder, Fault, int nth);
  ~FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;
  int calls() const;     // counted so far
  bool reached() const;  // calls() > nth
};

}  // namespace gf
