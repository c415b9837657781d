// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_writer.h"

#include <exception>

#include "base/error.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_part.h"
#include "io/files.h"
#include "parallel/agreement.h"

namespace gf {

namespace fs = std::filesystem;

CheckpointWriter::CheckpointWriter(fs::path folder, Communicator& world, int keep)
    : folder_(std::move(folder)), world_(world), keep_(keep) {}

void CheckpointWriter::write(const Attributes& attributes, std::span<const ShardView> views) {
  const fs::path part = partial_folder(attributes.step) / part_file_name(world_.rank(), world_.size());
  together(attributes, views, [&] {
    check_names(views);
    if (world_.rank() == 0) prepare(attributes.step);
  });
  together(attributes, views, [&] { write_part(part, views); });
  together(attributes, views, [&] {
    if (world_.rank() == 0) publish(attributes);
  });
  if (world_.rank() == 0) prune(attributes.step);
}

// Runs one phase on all ranks. Every rank reaches the end of it; where one fails, all throw.
void CheckpointWriter::together(const Attributes& attributes, std::span<const ShardView> views,
                                const std::function<void()>& body) {
  const auto told = [&] {
    try {
      body();
    } catch (const std::exception& e) {
      const auto* const error = dynamic_cast<const Error*>(&e);
      int64_t bytes = 0;
      for (const ShardView& v : views) bytes += (v.end - v.begin) * static_cast<int64_t>(size_of(v.dtype));
      fail(cat("the checkpoint of step ", attributes.step, " was not written: ", e.what(), " (this rank's part has ",
               bytes, " bytes, and the disk had ", free_bytes(folder_), " free)"),
           cat(error && !error->hint().empty() ? error->hint() + "; " : "", "the checkpoints before it are whole"));
    }
  };
  try {
    all_or_none(world_, told);
  } catch (const Error&) {
    if (world_.rank() == 0) {
      try {
        remove_remnants(folder_);
      } catch (const std::exception&) {
        // The next save tries again; what went wrong first is what must be told.
      }
    }
    throw;
  }
}

// A name becomes a path in HDF5 files.
void CheckpointWriter::check_names(std::span<const ShardView> views) const {
  for (const ShardView& v : views) {
    const bool path = !v.name.starts_with('/') && !v.name.ends_with('/') && v.name.find("//") == std::string::npos &&
                      cat("/", v.name, "/").find("/./") == std::string::npos;
    GF_CHECK(path && !v.name.empty() && v.name.find('\0') == std::string::npos, "a tensor named \"", v.name, "\"");
    GF_CHECK(v.shape.rank() > 0 && v.shape.numel() > 0, v.name, " is ", v.shape, " and has no elements to save");
    GF_CHECK(0 <= v.begin && v.begin <= v.end && v.end <= v.shape.numel(), v.name, ": ", v.begin, " to ", v.end, " of ",
             v.shape);
  }
}

void CheckpointWriter::prepare(int64_t step) const {
  create_folder_durably(folder_);
  remove_remnants(folder_);
  create_folder_durably(partial_folder(step));
}

void CheckpointWriter::publish(const Attributes& attributes) const {
  const fs::path partial = partial_folder(attributes.step), final = folder_ / step_folder_name(attributes.step);
  std::vector<PartFile> parts;
  for (int rank = 0; rank < world_.size(); ++rank)
    parts.push_back(read_part(partial / part_file_name(rank, world_.size())));
  write_index(partial / kIndexFile, attributes, parts);
  sync_folder(partial);
  // Where a run is repeated from an older state, its step may have been saved before.
  if (fs::exists(final)) remove_checkpoint(final);
  rename_durably(partial, final);
  File done = File::create(final / kDoneFile);
  done.sync();
  done.close();
  sync_folder(final);
}

// A checkpoint that cannot be removed is no reason to end a run: it is tried again after the next one.
void CheckpointWriter::prune(int64_t step) const noexcept {
  if (keep_ <= 0) return;
  try {
    std::vector<StepFolder> older = complete_checkpoints(folder_);
    std::erase_if(older, [&](const StepFolder& f) { return f.step >= step; });
    for (size_t i = 0; i + static_cast<size_t>(keep_) <= older.size(); ++i) remove_checkpoint(older[i].path);
  } catch (const std::exception&) {}
}

fs::path CheckpointWriter::partial_folder(int64_t step) const {
  return folder_ / (step_folder_name(step) + ".partial");
}

}  // namespace gf
