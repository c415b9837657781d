// SPDX-License-Identifier: Apache-2.0
#include "io/partial_file.h"

#include <algorithm>
#include <cstdio>

namespace gf {

namespace fs = std::filesystem;

void Appender::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), kCapacity - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    bytes = bytes.subspan(n);
    if (buffer_.size() == kCapacity) flush();
  }
}

void Appender::flush() {
  file_.write(buffer_);
  buffer_.clear();
}

fs::path output_place(const fs::path& name, File::Links links) {
  if (links == File::Links::refuse) refuse_link(name);
  std::error_code error;  // what cannot even be looked at cannot be written either, which will be said then
  const bool link = fs::is_symlink(name, error);
  const fs::file_status there = fs::status(name, error);
  if (fs::is_directory(there)) refuse(name.string() + " is a folder, not a file", "the name of a file");
  if (fs::exists(there) && !fs::is_regular_file(there))
    refuse(name.string() + " is not a regular file and will not be replaced", "another name");
  if (!link) return name;
  if (!fs::exists(there)) refuse(name.string() + " is a symbolic link that leads to no file", "another name");
  return fs::canonical(name);
}

PartialFile::PartialFile(const fs::path& name, Exit status, File::Links links)
    : path_(output_place(name, links)), file_(File::create_alone(path_.string() + ".partial", status)) {}

PartialFile::~PartialFile() {
  if (!whole_) std::remove(file_.path().c_str());
}

void PartialFile::publish() {
  PartialFile* const self = this;
  publish_all({&self, 1}, {});
}

void PartialFile::publish_all(std::span<PartialFile* const> files, std::span<const fs::path> old) {
  for (PartialFile* const f : files) f->whole_ = true;
  size_t removed = 0;
  try {
    for (; removed < old.size(); ++removed) remove_durably(old[removed]);
    for (const PartialFile* const f : files) rename_durably(f->file_.path(), f->path_);
  } catch (const Error& e) {
    std::string commands;
    const auto add = [&](const std::string& command) { commands += (commands.empty() ? "" : " && ") + command; };
    std::error_code none;
    for (const fs::path& path : old.subspan(removed))
      if (fs::exists(path, none)) add(cat("rm '", path.string(), "'"));
    for (const PartialFile* const f : files)
      if (const fs::path& from = f->file_.path(); fs::exists(from, none))
        add(cat("mv '", from.string(), "' '", f->path_.string(), "'"));
    if (commands.empty()) throw;  // all have their names
    throw Error(cat(e.what(), "; what was written is whole and on disk, and only lacks names"), commands, e.status(),
                e.where());
  }
}

void write_file_atomically(const fs::path& path, std::string_view content, Exit status, File::Links links) {
  PartialFile partial(path, status, links);
  partial.file().write_at(std::as_bytes(std::span(content)), 0);
  partial.file().sync();
  partial.publish();
}

}  // namespace gf
