// SPDX-License-Identifier: Apache-2.0
#include "base/build_id.h"

#include <elf.h>
#include <link.h>

#include <cstring>
#include <filesystem>

namespace gf {
namespace {

// The note that `ld --build-id`, which compilers ask for by default, puts into the first object: the program.
int find_note(dl_phdr_info* info, size_t, void* result) {
  auto& id = *static_cast<std::string*>(result);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* at = reinterpret_cast<const unsigned char*>(info->dlpi_addr + segment.p_vaddr);
    const auto* const end = at + segment.p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      const auto* const note = reinterpret_cast<const ElfW(Nhdr)*>(at);
      const auto* const name = at + sizeof(*note);
      const auto* const value = name + (note->n_namesz + 3) / 4 * 4;
      if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0) {
        constexpr char kDigits[] = "0123456789abcdef";
        for (size_t b = 0; b < note->n_descsz; ++b) id += {kDigits[value[b] >> 4], kDigits[value[b] & 15]};
        return 1;
      }
      at = value + (note->n_descsz + 3) / 4 * 4;
    }
  }
  return 1;  // the program itself comes first
}

}  // namespace

std::string build_id() {
  std::string id;
  dl_iterate_phdr(find_note, &id);
  if (id.empty()) {
    std::error_code error;
    id = std::to_string(std::filesystem::file_size("/proc/self/exe", error));
  }
  return id;
}

}  // namespace gf
