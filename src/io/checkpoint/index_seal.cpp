// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/index_seal.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <charconv>

#include "base/error.h"
#include "io/checkpoint/checkpoint_index.h"

namespace gf {

std::string make_seal(std::string_view hdf5) {
  std::string seal = fmt::format("{}\nbytes {}\nxxh3_64 {:016x}\n", kCheckpointFormat, kSealBytes + hdf5.size(),
                                 XXH3_64bits(hdf5.data(), hdf5.size()));
  seal.resize(kSealBytes, '\0');
  return seal;
}

void check_seal(const std::filesystem::path& path, std::string_view file) {
  const std::string format = cat(kCheckpointFormat, "\nbytes ");
  const char* hint = "a whole copy of the file, or another step folder beside it";
  if (!file.starts_with(format))
    refuse(cat(path.string(), " is no checkpoint: it does not begin with ", kCheckpointFormat), hint);
  const std::string_view seal = file.substr(0, kSealBytes);
  uint64_t bytes = 0;
  std::from_chars(seal.data() + format.size(), seal.data() + seal.size(), bytes);
  if (bytes != file.size())
    refuse(cat(path.string(), " is damaged: it has ", file.size(), " bytes and was written with ", bytes), hint);
  if (file.size() < kSealBytes || make_seal(file.substr(kSealBytes)) != seal)
    refuse(cat(path.string(), " is damaged: its checksum is not the one it was written with"), hint);
}

}  // namespace gf
