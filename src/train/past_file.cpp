// SPDX-License-Identifier: Apache-2.0
#include "train/past_file.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/build_id.h"
#include "base/fields.h"
#include "base/human.h"
#include "base/process_memory.h"
#include "base/text.h"
#include "io/checkpoint/safetensors.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

constexpr const char* kLogits = "model/logits";
constexpr const char* kCounts = "model/counts";  // rows of a token and how often it was read
constexpr const char* kFixed = "model/fixed:";
constexpr const char* kGrowing = "model/growing:";
constexpr const char* kPositions = "positions";  // keys of the metadata
constexpr const char* kBegun = "begun";          // its bytes as hexadecimal digits: metadata is UTF-8
constexpr const char* kContent = "content";
constexpr int64_t kExact = 1 << 24;  // float32 has all whole numbers up to here

// What the metadata says, and where it could be had as it should be.
constexpr std::pair<const char*, const char*> kHints[] = {
    {"format", "a file that --state-out of this program wrote"},
    {"weights", "the same --weights as when it was written"},  // before the model, whose digest is of their values
    {"model", "the checkpoint that the text was read with"},
    {"rope", "the same --rope.rescale and --rope.rebase as when it was written"},
    {"build", "the program that wrote it, or the text itself once more"},
    {"cache", "the same --cache as when it was written"},
    {"cache-dtype", "the same --cache-dtype as when it was written"},
};

// Tensors that are in memory, by name.
class KeptTensors final : public TensorSource {
 public:
  explicit KeptTensors(std::map<std::string, Tensor> tensors) : tensors_(std::move(tensors)) {
    std::vector<Entry> entries;
    for (const auto& [name, t] : tensors_) entries.push_back({name, t.dtype(), t.shape()});
    set_entries(std::move(entries));
  }

 private:
  void fill(std::span<const ShardView> views) const override {
    for (const ShardView& v : views)
      copy(tensors_.at(v.name).range(v.begin, v.end),
           Tensor({v.data, [](std::byte*) {}}, {v.end - v.begin}, v.dtype, kCpu));
  }
  std::string label() const override { return "what was read"; }
  std::map<std::string, Tensor> tensors_;
};

// Of names, shapes and values, and of texts.
class Digest {
 public:
  void add(const std::string& text) { add(text.data(), text.size()); }
  void add(const std::string& name, const Tensor& t) {
    add(cat(name, " ", t.shape()));
    add(t.raw(), t.bytes());
  }
  std::string text() const { return fmt::format("{:016x}", sum_); }

 private:
  void add(const void* bytes, size_t count) { sum_ = XXH3_64bits_withSeed(bytes, count, sum_); }
  uint64_t sum_ = 0;
};

// What options change of a model that is read, and its digest leaves out: so that a message can tell the one from the
// other.
std::string rope_of(const ModelConfig& config) {
  if (config.rope) return fmt::format("rescale {}, rebase {}", config.rope->rescale, config.rope->rebase);
  return config.brope ? fmt::format("rescale {}", config.brope->rescale) : "none";
}

// All else that the logits depend on, beside the tokens. Much of the configuration leaves no trace in the parameters,
// as how positions are turned.
std::string digest_of(const LayerStack& layers) {
  Digest digest;
  ModelConfig config = layers.config();
  if (config.rope) config.rope->rescale = config.rope->rebase = 1;
  if (config.brope) config.brope->rescale = 1;
  config.dropout = 0;                     // of training alone
  if (!config.brope) config.ctx_len = 0;  // whose slow pairs it decides
  const FieldList list(config);
  for (const Field& field : list.fields()) {
    const auto* section = std::get_if<Section>(&field.target);
    digest.add(cat(field.path, "=", section ? cat(section->present) : value_text(field)));
  }
  for (const auto& p : layers.parameters().all()) digest.add(p->name(), p->value());
  return digest.text();
}

// All of a file but this digest.
std::string digest_of(const std::map<std::string, Tensor>& tensors, const Metadata& metadata) {
  Digest digest;
  for (const auto& [name, t] : tensors) digest.add(name, t);
  for (const auto& [key, value] : metadata)
    if (key != kContent) digest.add(cat(key, "=", value));
  return digest.text();
}

DType dtype_of_matrices(const ParameterStore& parameters) {
  for (const auto& p : parameters.all())
    if (p->spec().role == Role::matrix) return p->value().dtype();
  return DType::f32;
}

Metadata metadata_of(const LayerStack& layers, const Past::Options& o) {
  return {{"format", "gf past 6"},
          {"weights", name_of(dtype_of_matrices(layers.parameters()))},
          {"model", digest_of(layers)},
          {"rope", rope_of(layers.config())},
          {"build", build_id()},
          {"cache", o.expanded ? "expanded" : "compressed"},
          {"cache-dtype", name_of(o.cache)}};
}

// Tokens are exact in float32, and the only rows that are not that already.
Tensor as_float(const Tensor& rows) {
  if (rows.dtype() == DType::f32) return rows;
  Tensor floats = Tensor::empty(rows.shape(), DType::f32, kCpu);
  std::copy_n(rows.data<int32_t>(), rows.numel(), floats.data<float>());
  return floats;
}

bool is_whole(float x, int64_t least, int64_t most) {
  return x >= static_cast<double>(least) && x <= static_cast<double>(most) && x == std::floor(x);
}

std::string hex(std::string_view bytes) {
  std::string digits;
  for (const char byte : bytes) digits += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return digits;
}

std::string value_of(const SafetensorsReader& reader, const char* key) {
  const auto found = reader.metadata().find(key);
  return found == reader.metadata().end() ? "nothing" : found->second;
}

// What hex() made.
std::string begun_of(const SafetensorsReader& reader, const std::string& file) {
  constexpr const char* kDigits = "0123456789abcdef";
  const std::string digits = value_of(reader, kBegun);
  if (digits.size() % 2 != 0 || digits.find_first_not_of(kDigits) != std::string::npos)
    refuse(cat(file, ": its ", kBegun, " is ", shortened(digits), ", and not bytes in hexadecimal digits"),
           "read the text once more");
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2) bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

// More rows of a token that was read more often than float32 counts.
Tensor as_rows(const TokenCounts& counts) {
  std::vector<float> rows;
  for (const auto& [token, times] : counts.times())
    for (int64_t told = 0; told < times; told += kExact)
      rows.insert(rows.end(), {static_cast<float>(token), static_cast<float>(std::min(times - told, kExact))});
  return Tensor::of<float>({std::ssize(rows) / 2, 2}, rows);
}

// The tensors of a file, each as it must be.
class Contents {
 public:
  Contents(const std::map<std::string, Tensor>& tensors, const std::string& file, int64_t vocab)
      : tensors_(tensors), file_(file), vocab_(vocab) {}

  [[noreturn]] void wrong(const std::string& what) const { refuse(cat(file_, ": ", what), "read the text once more"); }

  const Tensor& get(const std::string& name, const Shape& shape) {
    const Tensor& t = find(name);
    if (!(t.shape() == shape))
      wrong(cat("its ", name, " is ", t.shape(), ", and what this model keeps there is ", shape));
    return t;
  }
  // Of one number a row, with the values that as_float() had.
  Tensor get_tokens(const std::string& name, int64_t rows) {
    const Tensor floats = get(name, {rows, 1}), tokens = Tensor::empty(floats.shape(), DType::i32, kCpu);
    for (int64_t i = 0; i < rows; ++i) {
      const float token = floats.data<float>()[i];
      if (!is_whole(token, 0, vocab_ - 1)) wrong(cat("its ", name, " has ", token, ", and the model has ", vocab_));
      tokens.data<int32_t>()[i] = static_cast<int32_t>(token);
    }
    return tokens;
  }
  // What as_rows() made.
  TokenCounts get_counts() {
    const Tensor& rows = find(kCounts);
    TokenCounts counts;
    bool sound = rows.shape().rank() == 2 && rows.size(1) == 2;
    for (int64_t i = 0; sound && i < rows.size(0); ++i) {
      const float token = rows.data<float>()[2 * i], times = rows.data<float>()[2 * i + 1];
      sound = is_whole(token, 0, vocab_ - 1) && is_whole(times, 1, kExact);
      if (sound) counts.add(static_cast<int32_t>(token), static_cast<int64_t>(times));
    }
    if (!sound) wrong(cat("its ", kCounts, " is not how often each token was read"));
    return counts;
  }
  void check_nothing_is_left() const {
    for (const auto& [name, t] : tensors_)
      if (!taken_.contains(name)) wrong(cat("it has ", shortened(name), ", which this model does not keep"));
  }

 private:
  const Tensor& find(const std::string& name) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) wrong(cat("it has no ", name));
    if (found->second.dtype() != DType::f32) wrong(cat("its ", name, " is of ", found->second.dtype(), ", not f32"));
    taken_.insert(name);
    return found->second;
  }
  const std::map<std::string, Tensor>& tensors_;
  const std::string& file_;
  const int64_t vocab_;
  std::set<std::string> taken_{};
};

std::map<std::string, Tensor> read_all(const TensorSource& source, const std::string& file) {
  size_t need = 0;  // twice: as it is in the file, and as it is kept
  for (const TensorSource::Entry& entry : source.entries())
    need += 2 * static_cast<size_t>(entry.shape.numel()) * size_of(entry.dtype);
  if (const AvailableMemory available = available_memory(); need > available.bytes)
    refuse(cat(file, ": to go on from it takes ", human_bytes(static_cast<double>(need)), ", and ",
               human_bytes(static_cast<double>(available.bytes)), " are free"),
           available.hint(need, "a shorter text, or a machine with more memory"));
  std::map<std::string, Tensor> tensors;
  for (const TensorSource::Entry& entry : source.entries()) {
    const Tensor t = Tensor::empty(entry.shape, entry.dtype, kCpu);
    const ShardView view{entry.name, entry.dtype, entry.shape, 0, entry.shape.numel(), t.raw()};
    source.read({&view, 1});
    tensors.emplace(entry.name, t);
  }
  return tensors;
}

void check_metadata(const std::string& file, const SafetensorsReader& reader, const Metadata& own) {
  for (const auto& [key, hint] : kHints) {
    const std::string there = value_of(reader, key);
    if (there != own.at(key))
      refuse(cat(file, ": its ", key, " is ", shortened(there), ", and here it is ", own.at(key)), hint);
  }
}

}  // namespace

void write_past(PartialFile& file, const StatefulDecoder& decoder, const std::string& begun) {
  const Past& past = decoder.past();
  GF_CHECK(past.size() > 0 && decoder.logits(), "nothing was read that could be kept");
  std::map<std::string, Tensor> tensors{{kLogits, decoder.logits()}, {kCounts, as_rows(decoder.counts())}};
  for (const auto& [name, t] : past.fixed()) tensors.emplace(cat(kFixed, name), t);
  for (const auto& [name, rows] : past.all_growing())
    tensors.emplace(cat(kGrowing, name), as_float(rows.rows(0, rows.size())));
  auto metadata = metadata_of(decoder.layers(), past.options());
  metadata.emplace(kPositions, std::to_string(past.size()));
  metadata.emplace(kBegun, hex(begun));
  metadata.emplace(kContent, digest_of(tensors, metadata));
  const KeptTensors source(std::move(tensors));
  write_safetensors(file.file(), source, parameters_of(source), FloatFormat::f32, std::move(metadata));
  file.publish();
}

KeptText read_past(const std::filesystem::path& path, const LayerStack& layers, StatefulDecoder::Options options) {
  const SafetensorsReader reader(path);
  check_metadata(path.string(), reader, metadata_of(layers, options.past));
  const std::string begun = begun_of(reader, path.string());
  const std::map<std::string, Tensor> tensors = read_all(reader, path.string());
  if (digest_of(tensors, reader.metadata()) != value_of(reader, kContent))
    refuse(cat(path.string(), ": damaged: it is not what was written"), "read the text once more");
  return {decoder_of(tensors, value_of(reader, kPositions), path.string(), layers, std::move(options)), begun};
}

StatefulDecoder decoder_of(const std::map<std::string, Tensor>& tensors, const std::string& positions,
                           const std::string& file, const LayerStack& layers, StatefulDecoder::Options options) {
  const int64_t vocab = layers.config().vocab_size;
  Contents contents(tensors, file, vocab);
  const TokenCounts counts = contents.get_counts();
  const int64_t size = counts.total();
  if (cat(size) != positions)
    contents.wrong(cat("its positions are ", shortened(positions), ", and its ", kCounts, " are of ", size));
  // Only the layers know what they keep. After one token it is what it is after many, but for the number of rows.
  StatefulDecoder one(layers, {.past = options.past});
  one.feed(std::vector<int32_t>{0});
  Past past(options.past);
  past.read_on(size);
  for (const auto& [name, t] : one.past().fixed())
    copy(contents.get(cat(kFixed, name), t.shape()), past.state(name, t.shape(), t.dtype()));
  for (const auto& [name, rows] : one.past().all_growing()) {
    const std::string there = cat(kGrowing, name);
    past.growing(name, rows.width(), rows.kept())
        .append(name == kKeptTokens ? contents.get_tokens(there, size) : contents.get(there, {size, rows.width()}));
  }
  const Tensor& logits = contents.get(kLogits, {vocab});
  contents.check_nothing_is_left();
  return {layers, std::move(options), std::move(past), logits, counts};
}

}  // namespace gf
