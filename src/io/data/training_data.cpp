// SPDX-License-Identifier: Apache-2.0
#include "io/data/training_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "base/error.h"
#include "base/text.h"

namespace gf {
namespace {

std::vector<double> weights_of(const DataList& list) {
  std::vector<double> weights;
  for (const DataList::Source& s : list.sources()) weights.push_back(list.weighted() ? s.weight : 1);
  return weights;
}

std::vector<TrainingData::Source> opened(const DataList& list, int64_t ctx_len, int64_t magic_prime, Masked masked) {
  GF_CHECK(!list.empty() && (!list.weighted() || magic_prime == 0), "magic_prime ", magic_prime, " for ",
           list.sources().size(), " sources");
  constexpr int64_t kMostTokens = int64_t{1} << 62;
  std::vector<TrainingData::Source> sources;
  int64_t tokens = 0;
  for (const DataList::Source& s : list.sources()) {
    TokenFiles files(s.prefixes, masked);
    if (files.tokens() > kMostTokens - tokens)
      refuse(cat(files.name(), ": too many tokens to count, with those before"));
    tokens += files.tokens();
    try {
      const Sampler sampler(files.tokens(), ctx_len, magic_prime);
      sources.push_back({std::move(files), sampler});
    } catch (const Error& e) {
      if (!list.weighted()) throw;
      refuse(cat(files.name(), ": ", e.what()), e.hint());
    }
  }
  return sources;
}

std::string identity_of(const std::vector<TrainingData::Source>& sources, const Mixture& mixture, bool weighted) {
  std::string text;
  for (size_t i = 0; i < sources.size(); ++i) {
    const TokenFiles& files = sources[i].files;
    for (size_t f = 0; f < files.files().size(); ++f) {
      text += files.identity(f);
      // Fewer digits than there are: weights of the same ratios are the same.
      if (weighted) text += fmt::format(", in source {} with a share of {:.12g}", i + 1, mixture.shares()[i]);
      text += "\n";
    }
  }
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TrainingData::TrainingData(const DataList& list, int64_t ctx_len, int64_t magic_prime, Masked masked)
    : weighted_(list.weighted()),
      sources_(opened(list, ctx_len, magic_prime, masked)),
      mixture_(weights_of(list)),
      identity_(identity_of(sources_, mixture_, weighted_)) {}

int64_t TrainingData::files() const {
  int64_t sum = 0;
  for (const Source& s : sources_) sum += std::ssize(s.files.files());
  return sum;
}

int64_t TrainingData::tokens() const {
  int64_t sum = 0;
  for (const Source& s : sources_) sum += s.files.tokens();
  return sum;
}

int64_t TrainingData::documents() const {
  int64_t sum = 0;
  for (const Source& s : sources_) sum += s.files.documents();
  return sum;
}

int64_t TrainingData::tokens_per_pass() const {
  int64_t sum = 0;
  for (const Source& s : sources_) sum += s.sampler.tokens_per_pass();
  return sum;
}

void TrainingData::read(int64_t sample, std::span<int32_t> out, int64_t vocab_size) const {
  const Mixture::Place place = mixture_.place(sample);
  const Source& source = sources_[place.source];
  source.files.read(source.sampler.offset(place.sample), out, vocab_size);
}

void TrainingData::read_mask(int64_t sample, std::span<uint8_t> out) const {
  const Mixture::Place place = mixture_.place(sample);
  const Source& source = sources_[place.source];
  source.files.read_mask(source.sampler.offset(place.sample), out);
}

void TrainingData::check_tokens(int64_t sample, int64_t vocab_size) const {
  std::vector<int32_t> tokens(static_cast<size_t>(ctx_len()) + 1);
  read(sample, tokens, vocab_size);
  if (files() == 1) return;
  for (const Source& s : sources_) s.files.check_beginnings(std::ssize(tokens), vocab_size);
}

std::vector<std::string> TrainingData::names() const {
  std::vector<std::string> names;
  for (const Source& s : sources_)
    for (const BinIdx& file : s.files.files()) names.push_back(file.prefix());
  return names;
}

std::string TrainingData::difference(const std::string& then) const {
  const std::vector<std::string> mine = lines_of(identity_), theirs = lines_of(then), called = names();
  constexpr size_t kLongest = 240;  // of a line that stands in a checkpoint: more than any of ours
  const size_t both = std::min(mine.size(), theirs.size());
  for (size_t i = 0; i < both; ++i)
    if (mine[i] != theirs[i])
      return cat("file ", i + 1, ", ", called[i], ", is ", mine[i], ", and was ", shortened(theirs[i], kLongest));
  if (mine.size() == theirs.size()) return "";
  return cat("there are ", mine.size(), " files, and were ", theirs.size());
}

}  // namespace gf
