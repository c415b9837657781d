// SPDX-License-Identifier: Apache-2.0
#include "fuzz/targets.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "base/yaml.h"
#include "io/checkpoint/safetensors.h"
#include "io/data/binidx.h"
#include "io/data/sampler.h"
#include "io/text/vocabulary.h"
#include "support/temp_folder.h"
#include "tensor/tensor.h"
#include "train/config.h"

namespace gf::fuzz {
namespace {

namespace fs = std::filesystem;

const TempFolder& folder() {
  static const TempFolder folder;
  return folder;
}

std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void write(const fs::path& path, std::span<const uint8_t> bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << as_text(bytes);
}

// Two bytes: how long the .bin is, a file of zeros. The rest is the .idx.
void idx(std::span<const uint8_t> bytes) {
  if (bytes.size() < 2) return;
  const fs::path prefix = folder() / "data";
  write(prefix.string() + ".idx", bytes.subspan(2));
  std::ofstream(prefix.string() + ".bin");
  fs::resize_file(prefix.string() + ".bin", bytes[0] + 256 * bytes[1]);
  const BinIdx data(prefix.string());
  std::vector<int32_t> tokens(static_cast<size_t>(data.tokens()));
  data.read(0, tokens, 1);
  data.verify();
  const Sampler sampler(data.tokens(), 8);
  if (sampler.offset(0) + 9 > data.tokens()) fail("a sample that the data does not hold");
}

// A whole file.
void safetensors(std::span<const uint8_t> bytes) {
  const fs::path path = folder() / "weights.safetensors";
  write(path, bytes);
  const SafetensorsReader reader(path);
  for (const auto& e : reader.entries()) {
    const Tensor values = Tensor::empty(e.shape, e.dtype, kCpu);
    reader.read(std::vector<ShardView>{{e.name, e.dtype, e.shape, 0, e.shape.numel(), values.raw()}});
  }
}

// A whole file; its own bytes are the text, which must come back.
void vocabulary(std::span<const uint8_t> bytes) {
  const fs::path path = folder() / "vocabulary.txt";
  write(path, bytes);
  const auto vocabulary = Vocabulary::open(path);
  std::vector<int32_t> tokens;
  vocabulary->encode(as_text(bytes), tokens);
  if (vocabulary->decode(tokens) != as_text(bytes)) fail("decoding gives another text");
}

void yaml(std::span<const uint8_t> bytes) {
  Config config;
  apply_settings(parse_yaml(std::string(as_text(bytes)), "fuzz.yaml"), config);
  resolve(config);
  check(config);
  const std::string text = to_yaml(config);
  if (to_yaml(config_from_text(text, "again.yaml")) != text) fail("the configuration does not read back to itself");
}

template <void (*parse)(std::span<const uint8_t>)>
void refusing(std::span<const uint8_t> bytes) {
  try {
    parse(bytes);
  } catch (const Error& e) {
    if (e.status() != Exit::bad_input) throw;
  }
}

constexpr Target kTargets[] = {{"idx", refusing<idx>},
                               {"safetensors", refusing<safetensors>},
                               {"vocabulary", refusing<vocabulary>},
                               {"yaml", refusing<yaml>}};

}  // namespace

std::span<const Target> targets() {
  return kTargets;
}

}  // namespace gf::fuzz
