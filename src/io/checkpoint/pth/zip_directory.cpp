// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/pth/zip_directory.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace gf {
namespace {

constexpr const char* kBroken = "the file is damaged or cut off; fetch it again";
constexpr int64_t kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20, kEntryBytes = 46, kLocalBytes = 30;
constexpr int64_t kLongestDirectory = int64_t{64} << 20;
constexpr size_t kLongestName = 512;  // the folder is called as the file was, and the rest is short
constexpr uint64_t kElsewhere32 = 0xffffffff, kElsewhere16 = 0xffff;  // "see the zip64 record"

// Little-endian fields of a record, which the caller has found to be long enough.
uint64_t field(std::string_view record, size_t at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(record[at + i]);
  return value;
}

class Directory {
 public:
  explicit Directory(const File& file) : file_(file), size_(file.size()) {}
  std::map<std::string, ZipEntry> read();

 private:
  struct Place {
    uint64_t entries, bytes, offset;
    bool operator==(const Place&) const = default;
  };
  struct Header {  // of an entry, as the directory has it
    std::string name;
    uint64_t packed, bytes, offset;
    uint32_t crc32;
  };
  [[noreturn]] void wrong(const std::string& what, const std::string& hint = kBroken) const {
    refuse(cat(file_.path().string(), " is no zip file that torch.save wrote: ", what), hint);
  }
  std::string bytes_at(int64_t offset, int64_t length) const;
  Place find();
  std::optional<Place> find64(int64_t end);
  Header next(std::string_view& rest) const;
  void take_zip64(Header&, std::string_view extra) const;
  void check_name(const std::string&) const;
  int64_t begin_of(const Header&) const;

  const File& file_;
  const int64_t size_;
  int64_t directory_end_ = 0;
};

std::string Directory::bytes_at(int64_t offset, int64_t length) const {
  if (offset < 0 || length < 0 || length > size_ || offset > size_ - length)
    wrong(cat("bytes ", offset, " to ", offset + length, " are wanted, and it has ", size_));
  std::string bytes(static_cast<size_t>(length), '\0');
  file_.read_at(std::as_writable_bytes(std::span(bytes)), offset);
  return bytes;
}

// The zip64 record, where there is one before the end record; both may say where the directory lies.
std::optional<Directory::Place> Directory::find64(int64_t end) {
  if (end < kLocator64Bytes) return {};
  const std::string locator = bytes_at(end - kLocator64Bytes, kLocator64Bytes);
  if (!locator.starts_with("PK\6\7")) return {};
  const uint64_t at = field(locator, 8, 8);
  if (at > static_cast<uint64_t>(end - kLocator64Bytes)) wrong("its zip64 record lies behind its end");
  const std::string record = bytes_at(static_cast<int64_t>(at), kEnd64Bytes);
  if (!record.starts_with("PK\6\6")) wrong("its zip64 record is none");
  if (field(record, 16, 4) != 0 || field(record, 20, 4) != 0) wrong("it is one of several parts");
  directory_end_ = static_cast<int64_t>(at);
  return Place{field(record, 32, 8), field(record, 40, 8), field(record, 48, 8)};
}

Directory::Place Directory::find() {
  if (size_ < kEndBytes) wrong(cat("it has ", size_, " bytes"));
  const int64_t length = std::min(size_, kEndBytes + static_cast<int64_t>(kElsewhere16));
  const std::string tail = bytes_at(size_ - length, length);
  size_t at = tail.size() - kEndBytes + 1;
  while (at-- > 0)
    if (tail.compare(at, 4, "PK\5\6") == 0 && at + kEndBytes + field(tail, at + 20, 2) == tail.size()) break;
  if (at > tail.size()) wrong("it has no directory at its end");
  const std::string_view record = std::string_view(tail).substr(at);
  if (field(record, 4, 2) != 0 && field(record, 4, 2) != kElsewhere16) wrong("it is one of several parts");
  const Place place{field(record, 10, 2), field(record, 12, 4), field(record, 16, 4)};
  directory_end_ = size_ - length + static_cast<int64_t>(at);
  const auto place64 = find64(directory_end_);
  if (!place64) return place;
  const auto agree = [](uint64_t value, uint64_t value64, uint64_t elsewhere) {
    return value == elsewhere || value == value64;
  };
  if (!agree(place.entries, place64->entries, kElsewhere16) || !agree(place.bytes, place64->bytes, kElsewhere32) ||
      !agree(place.offset, place64->offset, kElsewhere32))
    wrong("it says in two ways where its directory lies");
  return *place64;
}

void Directory::take_zip64(Header& h, std::string_view extra) const {
  while (!extra.empty()) {
    if (extra.size() < 4 || extra.size() - 4 < field(extra, 2, 2))
      wrong(cat("what ", h.name, " has of extra fields is cut off"));
    const uint64_t kind = field(extra, 0, 2);
    std::string_view values = extra.substr(4, field(extra, 2, 2));
    extra.remove_prefix(4 + values.size());
    if (kind != 1) continue;
    for (uint64_t* value : {&h.bytes, &h.packed, &h.offset}) {
      if (*value != kElsewhere32) continue;
      if (values.size() < 8) wrong(cat("the zip64 field of ", h.name, " is cut off"));
      *value = field(values, 0, 8);
      values.remove_prefix(8);
    }
  }
}

// No name is ever used as a path. One that looks like a way out of the archive was made by somebody with a purpose.
void Directory::check_name(const std::string& name) const {
  if (name.size() > kLongestName)
    wrong(cat("an entry has a name of ", name.size(), " bytes; at most ", kLongestName, " are read"));
  const bool text = std::ranges::none_of(name, [](unsigned char c) { return c < 32 || c == '\\' || c == 127; });
  if (name.empty() || !text) wrong("an entry has a name that is empty or has control characters or backslashes");
  const std::string between = cat("/", name, name.ends_with('/') ? "" : "/");
  if (name.starts_with('/') || between.find("/../") != std::string::npos || between.find("/./") != std::string::npos ||
      between.find("//") != std::string::npos)
    wrong(cat("the entry ", name, " is a path out of it"), "do not trust where it came from");
}

Directory::Header Directory::next(std::string_view& rest) const {
  if (rest.size() < static_cast<size_t>(kEntryBytes) || !rest.starts_with("PK\1\2")) wrong("its directory is cut off");
  const size_t name = field(rest, 28, 2), extra = field(rest, 30, 2), comment = field(rest, 32, 2);
  if (rest.size() - kEntryBytes < name + extra + comment) wrong("its directory is cut off");
  Header h{std::string(rest.substr(kEntryBytes, name)), field(rest, 20, 4), field(rest, 24, 4), field(rest, 42, 4),
           static_cast<uint32_t>(field(rest, 16, 4))};
  check_name(h.name);
  take_zip64(h, rest.substr(kEntryBytes + name, extra));
  if (field(rest, 8, 2) & 0x41) wrong(cat(h.name, " is encrypted"), "a file without a password");
  if (field(rest, 10, 2) != 0)
    wrong(cat(h.name, " is compressed (method ", field(rest, 10, 2), ")"),
          "torch.save stores without compression: load it in Python and save it again");
  if (h.packed != h.bytes) wrong(cat(h.name, " has ", h.bytes, " bytes and is stored in ", h.packed));
  rest.remove_prefix(kEntryBytes + name + extra + comment);
  return h;
}

// The entry's own header, before its bytes, may have other extra fields than the directory: torch pads with them.
int64_t Directory::begin_of(const Header& h) const {
  const auto end = static_cast<uint64_t>(directory_end_);
  if (h.offset > end || h.bytes > end - h.offset)
    wrong(cat(h.name, " has ", h.bytes, " bytes from byte ", h.offset, ", and the directory ends at ", end));
  const auto offset = static_cast<int64_t>(h.offset);
  const std::string local = bytes_at(offset, kLocalBytes);
  if (!local.starts_with("PK\3\4")) wrong(cat(h.name, " is not where the directory has it, at byte ", offset));
  const auto name = static_cast<int64_t>(field(local, 26, 2)), extra = static_cast<int64_t>(field(local, 28, 2));
  if (bytes_at(offset + kLocalBytes, name) != h.name || field(local, 8, 2) != 0)
    wrong(cat(h.name, " is not what lies at byte ", offset));
  return offset + kLocalBytes + name + extra;
}

std::map<std::string, ZipEntry> Directory::read() {
  const Place place = find();
  if (place.bytes > static_cast<uint64_t>(std::min(kLongestDirectory, directory_end_)) ||
      place.offset != static_cast<uint64_t>(directory_end_) - place.bytes)
    wrong(cat("its directory has ", place.bytes, " bytes from byte ", place.offset, " and ends at byte ",
              directory_end_, " of ", size_));
  const auto begin = static_cast<int64_t>(place.offset);
  const std::string directory = bytes_at(begin, static_cast<int64_t>(place.bytes));
  std::map<std::string, ZipEntry> entries;
  std::vector<std::pair<int64_t, int64_t>> places;
  uint64_t count = 0;
  for (std::string_view rest = directory; !rest.empty(); ++count) {
    const Header h = next(rest);
    const int64_t first = begin_of(h);
    if (first > begin || static_cast<int64_t>(h.bytes) > begin - first)
      wrong(cat(h.name, " has ", h.bytes, " bytes from byte ", first, ", and the directory begins at ", begin));
    const int64_t last = first + static_cast<int64_t>(h.bytes);
    places.emplace_back(static_cast<int64_t>(h.offset), last);
    if (h.name.ends_with('/')) continue;
    if (!entries.try_emplace(h.name, ZipEntry{first, last, h.crc32}).second) wrong(cat(h.name, " is in it twice"));
  }
  if (count != place.entries) wrong(cat("its directory has ", count, " entries and says ", place.entries));
  std::ranges::sort(places);
  for (size_t i = 1; i < places.size(); ++i)
    if (places[i].first < places[i - 1].second) wrong("two of its entries share their bytes");
  return entries;
}

}  // namespace

std::map<std::string, ZipEntry> read_zip_directory(const File& file) {
  return Directory(file).read();
}

void check_zip_entry(const File& file, const std::string& name, const ZipEntry& entry) {
  if (entry.crc32 == 0) return;
  constexpr int64_t kChunk = int64_t{1} << 20;
  std::vector<std::byte> chunk(static_cast<size_t>(std::min(kChunk, entry.end - entry.begin)));
  uLong sum = crc32(0, nullptr, 0);
  for (int64_t at = entry.begin; at < entry.end; at += kChunk) {
    const auto bytes = std::span(chunk).first(static_cast<size_t>(std::min(kChunk, entry.end - at)));
    file.read_at(bytes, at);
    sum = crc32(sum, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size()));
  }
  if (sum != entry.crc32)
    refuse(fmt::format("{} is damaged: {} has the checksum {:08x} and was written with {:08x}", file.path().string(),
                       name, sum, entry.crc32),
           "fetch it again");
}

}  // namespace gf
