// SPDX-License-Identifier: Apache-2.0
// The directory of a zip file whose entries are stored as they are, as torch.save writes them: where the bytes of each
// lie in the file. All of it is checked before anything is returned: an archive that is compressed, encrypted, cut off
// or contradicts itself is refused, and so are names that are paths out of it. Nothing is ever unpacked.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "io/files.h"

namespace gf {

struct ZipEntry {
  int64_t begin, end;  // of its bytes, in the file
  uint32_t crc32;      // of these; 0 where torch was told to write none
};

// By name. Entries do not overlap and lie within the file; folders are left out.
std::map<std::string, ZipEntry> read_zip_directory(const File&);

// Reads the entry and compares it with its checksum.
void check_zip_entry(const File&, const std::string& name, const ZipEntry&);

}  // namespace gf
