// SPDX-License-Identifier: Apache-2.0
// HDF5 as this folder uses it: to lay files out in memory, and to read what part files of this very save look like. It
// never writes to a disk itself: a library that could not write a file (1.10.8) brings the process down when that ends.
// Nor does it see a file that comes from elsewhere: hostile ones bring it down too. Every call is checked; an
// error carries the file, what was being done and the deepest reason the library gives, and nothing is printed by it.
// For .cpp files only: it brings hdf5.h along.
#pragma once
#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tensor/types.h"

namespace gf {

// An HDF5 object, closed with the handle.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const { return id_; }
  herr_t close() { return close_(std::exchange(id_, -1)); }

 private:
  hid_t id_;
  Close close_;
};

// Held while HDF5 is used on one file. Only one thread has it at a time, since not every build of the library is
// thread-safe; the library's own printing of errors is off meanwhile.
class Hdf5Use {
 public:
  explicit Hdf5Use(std::filesystem::path file);
  ~Hdf5Use();
  Hdf5Use(const Hdf5Use&) = delete;
  Hdf5Use& operator=(const Hdf5Use&) = delete;

  // The result of an HDF5 call, which is not an error.
  template <class Result>
  Result check(Result result, const std::string& doing) const {
    if (result < 0) fail_with_reason(doing);
    return result;
  }
  Hdf5Handle hold(hid_t id, Hdf5Handle::Close close, const std::string& doing) const {
    return {check(id, doing), close};
  }
  const std::filesystem::path& file() const { return file_; }

 private:
  [[noreturn]] void fail_with_reason(const std::string& doing) const;
  std::unique_lock<std::mutex> lock_;
  std::filesystem::path file_;
  H5E_auto2_t printer_ = nullptr;
  void* printer_data_ = nullptr;
};

// The format every file is written in: known since HDF5 1.10, with checksums on the library's own structures.
Hdf5Handle make_access(const Hdf5Use&);
Hdf5Handle make_memory_access(const Hdf5Use&);  // the same for a File::in_memory()

// How a file and the groups in it are created: without times, for the same state is to give the same bytes.
Hdf5Handle make_file_creation(const Hdf5Use&);
void create_groups_above(const Hdf5Use&, hid_t file, const std::string& path);  // those that are not there yet

hid_t stored_type(DType);                                          // little-endian, whatever the machine
std::optional<DType> element_type(const Hdf5Use&, hid_t dataset);  // nothing where we have no such type
Hdf5Handle make_space(const Hdf5Use&, std::span<const int64_t> dims);
std::vector<int64_t> dims_of(const Hdf5Use&, hid_t dataset);

// Paths of all datasets, in the order of their names.
std::vector<std::string> dataset_paths(const Hdf5Use&, hid_t file);

void write_attribute(const Hdf5Use&, hid_t object, const char* name, const std::string& value);
void write_attribute(const Hdf5Use&, hid_t object, const char* name, int64_t value);
void write_attribute(const Hdf5Use&, hid_t object, const char* name, std::span<const int64_t> values);
void write_attribute(const Hdf5Use&, hid_t object, const char* name, std::span<const uint64_t> values);

int64_t read_integer(const Hdf5Use&, hid_t object, const char* name);
std::vector<int64_t> read_integers(const Hdf5Use&, hid_t object, const char* name);
std::vector<uint64_t> read_hashes(const Hdf5Use&, hid_t object, const char* name);

}  // namespace gf
