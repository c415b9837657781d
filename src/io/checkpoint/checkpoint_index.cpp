// SPDX-License-Identifier: Apache-2.0
// Reading checkpoint.h5: its first bytes and its last, never what HDF5 wrote in between.
#include "io/checkpoint/checkpoint_index.h"

#include "base/error.h"
#include "io/checkpoint/index_seal.h"
#include "io/checkpoint/index_section.h"
#include "io/files.h"

namespace gf {

CheckpointIndex read_index(const std::filesystem::path& path) {
  const std::string file = read_small_file(path, kLargestIndex);
  const std::string_view section = check_seal(path, file);
  try {
    return decode_index(section);
  } catch (const Error& e) {
    refuse(cat(path.string(), " is no checkpoint: ", e.what()), "gf ckpt verify of another step folder");
  }
}

}  // namespace gf
