// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/hdf5_handle.h"

#include "base/error.h"

namespace gf {
namespace {

// The library is one per process and so is its lock.
std::mutex& library_lock() {
  static std::mutex lock;
  return lock;
}

void write_array(const Hdf5Use& use, hid_t object, const char* name, hid_t space, hid_t stored, hid_t native,
                 const void* values) {
  const std::string doing = cat("write the attribute ", name);
  Hdf5Handle attribute = use.hold(H5Acreate2(object, name, stored, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, doing);
  use.check(H5Awrite(attribute, native, values), doing);
  use.check(attribute.close(), doing);
}

template <class T>
std::vector<T> read_array(const Hdf5Use& use, hid_t object, const char* name, hid_t native) {
  const std::string doing = cat("read the attribute ", name);
  const Hdf5Handle attribute = use.hold(H5Aopen(object, name, H5P_DEFAULT), H5Aclose, doing);
  const Hdf5Handle type = use.hold(H5Aget_type(attribute), H5Tclose, doing);
  if (H5Tget_class(type) != H5T_INTEGER) fail(cat("the attribute ", name, " is no integer"));
  const Hdf5Handle space = use.hold(H5Aget_space(attribute), H5Sclose, doing);
  std::vector<T> values(static_cast<size_t>(use.check(H5Sget_simple_extent_npoints(space), doing)));
  if (!values.empty()) use.check(H5Aread(attribute, native, values.data()), doing);
  return values;
}

}  // namespace

Hdf5Use::Hdf5Use(std::filesystem::path file) : lock_(library_lock()), file_(std::move(file)) {
  // Handles close what they hold. What a disk's error kept open then cannot be closed at the process's end either,
  // which the library would try again and again, and complain.
  static const herr_t no_work_at_exit = H5dont_atexit();
  (void)no_work_at_exit;
  H5Eget_auto2(H5E_DEFAULT, &printer_, &printer_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Use::~Hdf5Use() {
  H5Eset_auto2(H5E_DEFAULT, printer_, printer_data_);
}

void Hdf5Use::fail_with_reason(const std::string& doing) const {
  std::string reason = "no reason given";
  const auto deepest = [](unsigned n, const H5E_error2_t* error, void* out) -> herr_t {
    if (n == 0 && error->desc) *static_cast<std::string*>(out) = error->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, deepest, &reason);
  fail(cat("HDF5 could not ", doing, " in ", file_.string(), ": ", reason));
}

Hdf5Handle make_access(const Hdf5Use& use) {
  Hdf5Handle access = use.hold(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "prepare");
  use.check(H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110), "set the format");
  // Locks fail or hang on many NFS and Lustre mounts, and no file here is ever shared while it is written.
#if H5_VERSION_GE(1, 12, 1) || (H5_VERS_MINOR == 10 && H5_VERS_RELEASE >= 7)
  use.check(H5Pset_file_locking(access, false, true), "turn file locks off");
#endif
  return access;
}

Hdf5Handle make_memory_access(const Hdf5Use& use) {
  Hdf5Handle access = make_access(use);
  // The usual driver insists on a path in a real folder.
  use.check(H5Pset_fapl_stdio(access), "prepare");
  return access;
}

Hdf5Handle make_file_creation(const Hdf5Use& use) {
  Hdf5Handle creation = use.hold(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "prepare");
  use.check(H5Pset_obj_track_times(creation, false), "prepare");
  return creation;
}

void create_groups_above(const Hdf5Use& use, hid_t file, const std::string& path) {
  const Hdf5Handle creation = use.hold(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, "prepare");
  use.check(H5Pset_obj_track_times(creation, false), "prepare");
  for (size_t end = path.find('/'); end != std::string::npos; end = path.find('/', end + 1)) {
    const std::string name = path.substr(0, end), doing = cat("create the group ", name);
    if (use.check(H5Lexists(file, name.c_str(), H5P_DEFAULT), doing) > 0) continue;
    use.hold(H5Gcreate2(file, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT), H5Gclose, doing);
  }
}

hid_t stored_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return H5T_IEEE_F32LE;
    case DType::f64:
      return H5T_IEEE_F64LE;
    case DType::i32:
      return H5T_STD_I32LE;
    default:
      break;
  }
  fail("an element type that checkpoints do not know");
}

std::optional<DType> element_type(const Hdf5Use& use, hid_t dataset) {
  const Hdf5Handle type = use.hold(H5Dget_type(dataset), H5Tclose, "read an element type");
  for (const DType dtype : {DType::f32, DType::f64, DType::i32})
    if (H5Tequal(type, stored_type(dtype)) > 0) return dtype;
  return {};
}

Hdf5Handle make_space(const Hdf5Use& use, std::span<const int64_t> dims) {
  const std::vector<hsize_t> sizes(dims.begin(), dims.end());
  return use.hold(H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose, "make a shape");
}

std::vector<int64_t> dims_of(const Hdf5Use& use, hid_t dataset) {
  const Hdf5Handle space = use.hold(H5Dget_space(dataset), H5Sclose, "read a shape");
  std::vector<hsize_t> sizes(static_cast<size_t>(use.check(H5Sget_simple_extent_ndims(space), "read a shape")));
  use.check(H5Sget_simple_extent_dims(space, sizes.data(), nullptr), "read a shape");
  return {sizes.begin(), sizes.end()};
}

std::vector<std::string> dataset_paths(const Hdf5Use& use, hid_t file) {
  std::vector<std::string> names, datasets;
  const auto visit = [](hid_t, const char* name, const auto*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  use.check(H5Lvisit(file, H5_INDEX_NAME, H5_ITER_INC, visit, &names), "list the datasets");
  for (std::string& name : names) {
    const Hdf5Handle object = use.hold(H5Oopen(file, name.c_str(), H5P_DEFAULT), H5Oclose, "open " + name);
    if (H5Iget_type(object) == H5I_DATASET) datasets.push_back(std::move(name));
  }
  return datasets;
}

void write_attribute(const Hdf5Use& use, hid_t object, const char* name, const std::string& value) {
  const Hdf5Handle type = use.hold(H5Tcopy(H5T_C_S1), H5Tclose, "make a string type");
  use.check(H5Tset_size(type, H5T_VARIABLE), "make a string type");
  use.check(H5Tset_cset(type, H5T_CSET_UTF8), "make a string type");
  const Hdf5Handle scalar = use.hold(H5Screate(H5S_SCALAR), H5Sclose, "make a shape");
  const char* text = value.c_str();
  write_array(use, object, name, scalar, type, type, &text);
}

void write_attribute(const Hdf5Use& use, hid_t object, const char* name, int64_t value) {
  const Hdf5Handle scalar = use.hold(H5Screate(H5S_SCALAR), H5Sclose, "make a shape");
  write_array(use, object, name, scalar, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

void write_attribute(const Hdf5Use& use, hid_t object, const char* name, std::span<const int64_t> values) {
  const Hdf5Handle space = make_space(use, std::vector{static_cast<int64_t>(values.size())});
  write_array(use, object, name, space, H5T_STD_I64LE, H5T_NATIVE_INT64, values.data());
}

void write_attribute(const Hdf5Use& use, hid_t object, const char* name, std::span<const uint64_t> values) {
  const Hdf5Handle space = make_space(use, std::vector{static_cast<int64_t>(values.size())});
  write_array(use, object, name, space, H5T_STD_U64LE, H5T_NATIVE_UINT64, values.data());
}

int64_t read_integer(const Hdf5Use& use, hid_t object, const char* name) {
  const std::vector<int64_t> values = read_integers(use, object, name);
  if (values.size() != 1) fail(cat("the attribute ", name, " has ", values.size(), " values instead of 1"));
  return values[0];
}

std::vector<int64_t> read_integers(const Hdf5Use& use, hid_t object, const char* name) {
  return read_array<int64_t>(use, object, name, H5T_NATIVE_INT64);
}

std::vector<uint64_t> read_hashes(const Hdf5Use& use, hid_t object, const char* name) {
  return read_array<uint64_t>(use, object, name, H5T_NATIVE_UINT64);
}

}  // namespace gf
