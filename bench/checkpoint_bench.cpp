// SPDX-License-Identifier: Apache-2.0
// How fast a checkpoint is written and read, beside plain files of the same size on the same disk:
// checkpoint_bench FOLDER [megabytes] [rounds]. Writing: to the end of fsync, both. Reading: what was just written,
// from the page cache; the checkpoint's is copied to its tensors and its checksums verified, the plain file's copied.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "io/files.h"

namespace {

namespace fs = std::filesystem;

struct Seconds {
  double write, read;
};

constexpr size_t kChunk = size_t{16} << 20;

Seconds plain(const fs::path& path, std::vector<float>& values) {
  const auto bytes = std::as_writable_bytes(std::span(values));
  fs::rename(path, path.string() + ".old");  // both write to new blocks while the last round's are there
  gf::Stopwatch watch;
  {
    gf::File file = gf::File::create(path);
    for (size_t at = 0; at < bytes.size(); at += kChunk)
      file.write_at(bytes.subspan(at, std::min(kChunk, bytes.size() - at)), static_cast<int64_t>(at));
    file.sync();
    file.close();
  }
  const double write = watch.lap();
  gf::File::open(path).read_at(bytes, 0);
  const double read = watch.lap();
  fs::remove(path.string() + ".old");
  return {write, read};
}

Seconds checkpoint(const fs::path& folder, std::vector<float>& values, int64_t step) {
  const auto self = gf::make_self_communicator();
  constexpr int kTensors = 24;  // of a rank's share
  std::vector<gf::ShardView> views;
  const int64_t length = std::ssize(values) / kTensors;
  for (int i = 0; i < kTensors; ++i)
    views.push_back({gf::cat("model/", i), gf::DType::f32, gf::Shape{length}, 0, length,
                     reinterpret_cast<std::byte*>(values.data() + i * length)});
  gf::Stopwatch watch;
  gf::Attributes attributes;
  attributes.step = step;
  gf::CheckpointWriter(folder, *self, 1).write(attributes, views);
  const double write = watch.lap();
  const gf::CheckpointReader reader(folder);
  reader.read(views);
  return {write, watch.lap()};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) return std::fprintf(stderr, "usage: checkpoint_bench FOLDER [megabytes] [rounds]\n"), 2;
  const fs::path folder = fs::path(argv[1]) / "checkpoint_bench";
  const int64_t megabytes = argc > 2 ? std::atoll(argv[2]) : 1000;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  fs::create_directories(folder);
  gf::File::create(folder / "plain").close();
  std::vector<float> values(static_cast<size_t>(megabytes) * 250'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1'000'003);
  const auto speed = [&](double seconds) { return static_cast<double>(megabytes) / seconds; };
  std::printf("round  plain write  checkpoint  ratio    plain read  checkpoint  ratio   (MB/s)\n");
  for (int round = 0; round < rounds; ++round) {
    const Seconds one = plain(folder / "plain", values), two = checkpoint(folder / "checkpoints", values, round + 1);
    std::printf("%5d  %11.0f  %10.0f  %5.2f    %10.0f  %10.0f  %5.2f\n", round, speed(one.write), speed(two.write),
                one.write / two.write, speed(one.read), speed(two.read), one.read / two.read);
  }
  fs::remove_all(folder);
} catch (const std::exception& e) {
  return std::fprintf(stderr, "%s\n", e.what()), 1;
}
