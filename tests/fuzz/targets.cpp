// SPDX-License-Identifier: Apache-2.0
#include "fuzz/targets.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/yaml.h"
#include "io/checkpoint/checkpoint_index.h"
#include "io/checkpoint/index_seal.h"
#include "io/checkpoint/pth/pth.h"
#include "io/checkpoint/safetensors.h"
#include "io/checkpoint/safetensors_shards.h"
#include "io/data/binidx.h"
#include "io/data/sampler.h"
#include "io/text/jsonl.h"
#include "io/text/vocabulary.h"
#include "support/small_model.h"
#include "support/temp_folder.h"
#include "tensor/tensor.h"
#include "train/config.h"
#include "train/imported_config.h"
#include "train/past_file.h"
#include "train/report.h"
#include "train/score_request.h"

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

std::map<std::string, Tensor> read_all(const TensorSource& source) {
  std::map<std::string, Tensor> tensors;
  for (const auto& e : source.entries()) {
    const Tensor values = Tensor::empty(e.shape, e.dtype, kCpu);
    source.read(std::vector<ShardView>{{e.name, e.dtype, e.shape, 0, e.shape.numel(), values.raw()}});
    tensors.emplace(e.name, values);
  }
  return tensors;
}

// The index in a checkpoint.h5, under a seal that is right.
void checkpoint_index(std::span<const uint8_t> bytes) {
  const fs::path path = folder() / "checkpoint.h5";
  const std::string seal = make_seal(as_text(bytes), bytes.size());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << seal << as_text(bytes);
  const CheckpointIndex index = read_index(path);
  int64_t room = 0;
  for (const auto& part : index.parts) room += part.bytes;
  for (const IndexedTensor& t : index.tensors) {
    if (t.blocks.empty() || t.blocks.back().end != t.shape.numel()) fail("a tensor with elements that lie nowhere");
    room -= t.shape.numel() * static_cast<int64_t>(size_of(t.dtype));
  }
  if (room < 0) fail("tensors of more bytes than the parts have");
}

// A whole file.
void safetensors(std::span<const uint8_t> bytes) {
  const fs::path path = folder() / "weights.safetensors";
  write(path, bytes);
  read_all(SafetensorsReader(path));
}

// The configuration that a file of weights carries, here of one tensor.
void imported_config(std::span<const uint8_t> bytes) {
  class Weights final : public TensorSource {
   public:
    explicit Weights(std::string_view config) : config_(config) {
      set_entries({{"model/emb.weight", DType::f32, {2, 64}}});
    }
    std::string config() const override { return config_; }

   private:
    void fill(std::span<const ShardView>) const override {}
    std::string label() const override { return "weights.safetensors"; }
    std::string config_;
  };
  const std::string text = gf::imported_config("weights.safetensors", {}, Weights(as_text(bytes))).text;
  if (text != as_text(bytes)) fail("another text than the weights carry");
}

// An index; beside it there is one file, a.safetensors, with the tensors x and y.
void safetensors_index(std::span<const uint8_t> bytes) {
  const std::string header =
      R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})";
  const uint64_t length = header.size();
  std::ofstream(folder() / "a.safetensors", std::ios::binary).write(reinterpret_cast<const char*>(&length), 8)
      << header << "12345678";
  const fs::path path = folder() / "weights.safetensors.index.json";
  write(path, bytes);
  read_all(SafetensorsShards(path));
}

struct SmallModel {
  SmallModel() {
    layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
    fill_hashed(layers.parameters());
  }
  LayerStack layers{small_config("x060c2", "x060", "gold")};
};

// A state file, as if its metadata and digest were right.
void past(std::span<const uint8_t> bytes) {
  static const SmallModel model;
  const fs::path path = folder() / "text.past";
  write(path, bytes);
  const SafetensorsReader reader(path);
  const auto positions = reader.metadata().find("positions");
  if (positions == reader.metadata().end()) return;
  decoder_of(read_all(reader), positions->second, path.string(), model.layers, {}).feed(std::vector<int32_t>{1, 32});
}

// One file of a run folder, for the report.
void report_with(const std::string& name, std::span<const uint8_t> bytes) {
  const fs::path run = folder() / name;
  fs::create_directories(run);
  std::ofstream(run / "metrics.jsonl")
      << R"({"step": 0, "tokens": 9, "loss": 2, "grad_norm": 1, "lr": 0.1, "step_s": 1, "tokens_per_s": 9})"
      << "\n";
  write(run / name, bytes);
  report_page(std::vector{load_run(run)});
}
void metrics(std::span<const uint8_t> bytes) {
  report_with("metrics.jsonl", bytes);
}
void positions(std::span<const uint8_t> bytes) {
  report_with("positions.jsonl", bytes);
}
void run_config(std::span<const uint8_t> bytes) {
  report_with("config.yaml", bytes);
}
void trace(std::span<const uint8_t> bytes) {
  report_with("trace.json", bytes);
}

// A whole file.
void jsonl(std::span<const uint8_t> bytes) {
  const fs::path path = folder() / "lines.jsonl";
  write(path, bytes);
  File file = File::open_stream(path);
  const std::string keys[] = {"text", "prompt"};
  read_jsonl(
      file, keys, "",
      [](std::span<const std::string> texts) {
        if (texts.size() != 2) fail("texts that were not asked for");
      },
      [](int64_t) {});
}

// A line of gf score, for a model of byte tokens.
void score_request(std::span<const uint8_t> bytes) {
  static const auto vocabulary = Vocabulary::open("byte");
  const ScoreRequest request = parse_score_request(as_text(bytes), *vocabulary, vocabulary->size());
  if (request.continuation.empty()) fail("a request for nothing");
  for (const auto& tokens : {request.context, request.continuation})
    if (std::ranges::any_of(tokens, [](int32_t t) { return t < 0 || t >= vocabulary->size(); }))
      fail("a token that the model does not know");
}

// The data.pkl of a .pth file.
void pickle(std::span<const uint8_t> bytes) {
  const TorchState state = read_torch_state("data.pkl", as_text(bytes));
  for (const auto& [name, t] : state.tensors)
    if (t.elements > 0 && t.last >= state.storages.at(t.storage).elements)
      fail("a tensor that its storage does not hold");
}

// A whole file, of either layout.
void pth(std::span<const uint8_t> bytes) {
  const fs::path path = folder() / "weights.pth";
  write(path, bytes);
  const PthReader reader(path);
  reader.verify();
  read_all(reader);
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

constexpr Target kTargets[] = {{"checkpoint_index", refusing<checkpoint_index>},
                               {"idx", refusing<idx>},
                               {"imported_config", refusing<imported_config>},
                               {"jsonl", refusing<jsonl>},
                               {"metrics", refusing<metrics>},
                               {"past", refusing<past>},
                               {"pickle", refusing<pickle>},
                               {"positions", refusing<positions>},
                               {"pth", refusing<pth>},
                               {"run_config", refusing<run_config>},
                               {"safetensors", refusing<safetensors>},
                               {"safetensors_index", refusing<safetensors_index>},
                               {"score_request", refusing<score_request>},
                               {"trace", refusing<trace>},
                               {"vocabulary", refusing<vocabulary>},
                               {"yaml", refusing<yaml>}};

}  // namespace

std::span<const Target> targets() {
  return kTargets;
}

}  // namespace gf::fuzz
