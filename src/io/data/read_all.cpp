// SPDX-License-Identifier: Apache-2.0
#include "io/data/read_all.h"

#include "base/error.h"

namespace gf {

void read_all(const File& file, int64_t offset, std::span<std::byte> out) {
  const size_t got = file.read_some_at(out, offset);
  if (got == out.size()) return;
  fail(cat(file.path().string(), " has become shorter while in use: ", file.size(), " bytes, and byte ",
           offset + static_cast<int64_t>(got), " was to be read"),
       "restore the file and run again; nothing else may write to it meanwhile");
}

}  // namespace gf
