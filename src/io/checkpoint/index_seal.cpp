// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/index_seal.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <span>

#include "base/error.h"
#include "base/text.h"
#include "io/checkpoint/checkpoint_index.h"
#include "io/files.h"

namespace gf {
namespace {

constexpr std::string_view kAnyFormat = "gf-checkpoint-";

// The number that follows `key`; 0 where there is none.
uint64_t number_after(std::string_view text, std::string_view key) {
  uint64_t number = 0;
  if (const size_t at = text.find(key); at != std::string_view::npos)
    std::from_chars(text.data() + at + key.size(), text.data() + text.size(), number);
  return number;
}

}  // namespace

bool begins_as_checkpoint(const std::filesystem::path& path) {
  std::string first(kAnyFormat.size(), '\0');
  File::open(path).read_some_at(std::as_writable_bytes(std::span(first)), 0);
  return first == kAnyFormat;
}

std::string make_seal(std::string_view rest, size_t section_bytes) {
  const size_t bytes = kSealBytes + rest.size();
  std::string seal = fmt::format("{}\nbytes {}\nindex {}\nxxh3_64 {:016x}\n", kCheckpointFormat, bytes,
                                 bytes - section_bytes, XXH3_64bits(rest.data(), rest.size()));
  seal.resize(kSealBytes, '\0');
  return seal;
}

std::string_view check_seal(const std::filesystem::path& path, std::string_view file) {
  const char* hint = "a whole copy of the file, or another step folder beside it";
  const std::string_view format = file.substr(0, std::min(file.find('\n'), kSealBytes));
  if (format != kCheckpointFormat && format.starts_with(kAnyFormat))
    refuse(cat(path.string(), " is a checkpoint of the format ", shortened(format), ", and this program reads ",
               kCheckpointFormat),
           "gf ckpt export of the version that wrote it makes a .safetensors, which every version reads");
  if (format != kCheckpointFormat)
    refuse(cat(path.string(), " is no checkpoint: it does not begin with ", kCheckpointFormat), hint);
  const std::string_view seal = file.substr(0, kSealBytes);
  const uint64_t bytes = number_after(seal, "\nbytes "), index = number_after(seal, "\nindex ");
  if (bytes != file.size())
    refuse(cat(path.string(), " is damaged: it has ", file.size(), " bytes and was written with ", bytes), hint);
  if (index < kSealBytes || index > file.size() || make_seal(file.substr(kSealBytes), file.size() - index) != seal)
    refuse(cat(path.string(), " is damaged: its checksum is not the one it was written with"), hint);
  return file.substr(index);
}

}  // namespace gf
