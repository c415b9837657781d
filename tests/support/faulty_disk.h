// SPDX-License-Identifier: Apache-2.0
// A disk that fails when told to. Linking this file puts it in the place of the C library's calls that change files
// (write, pwrite, ftruncate, fallocate, fsync, sync_file_range that waits, rename, mkdir, unlink, rmdir, open for
// creation), for all of the process, HDF5 included; of read and pread, for short_read and read_error; of stat, for
// look_error; and of close, of what is open for writing, for close_error alone. wrong_write changes a bit of what that
// call writes, if it writes. Unarmed it passes everything on. It also knows what a power cut would take: what was
// changed there and not synced since.
#pragma once
#include <cstdint>
#include <functional>
#include <set>
#include <string>

namespace gf {

enum class Fault {
  none,
  no_space,
  io_error,
  passing_error,
  short_write,
  wrong_write,
  death,
  short_read,
  read_error,
  look_error,
  close_error
};

// Calls inside `folder` are counted from construction on; the one with number `nth` (from 0) meets the fault, once for
// a passing error, a short or wrong write, death or a close, and from then on for other errors (a full disk stays
// full), reads and looks, until the object goes.
class FaultyDisk {
 public:
  explicit FaultyDisk(std::string folder, Fault = Fault::none, int nth = 0);
  ~FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;
  int calls() const;     // counted so far
  bool reached() const;  // calls() > nth

  // Paths of files that were written, and of folders in which a name came or went, since their last fsync; of this path
  // and below it, as far as they are still there.
  std::set<std::string> unsynced(const std::string& below = "/") const;
  // Called before a name changes, from whatever thread: `from` is empty where something is made, `to` where it goes.
  using NameChange = std::function<void(const std::string& from, const std::string& to)>;
  void before_name_change(NameChange);
  // Called before some bytes of a file are waited for, or all that it has: `bytes` is 0 then. -> the error number of
  // the call, 0 where it is to go well.
  using Sync = std::function<int(int64_t begin, int64_t bytes)>;
  void before_sync(Sync);
};

}  // namespace gf
