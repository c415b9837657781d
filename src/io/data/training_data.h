// SPDX-License-Identifier: Apache-2.0
// What a run trains on: token files read as one, or several such sources mixed by weight; and which tokens sample i is.
// That is a function of i, so that nothing has to be made, kept or shared for it: each rank reads the samples that are
// its own. Each source is gone through in the published order, with a magic_prime of its own.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/data/data_list.h"
#include "io/data/mixture.h"
#include "io/data/sampler.h"
#include "io/data/token_files.h"

namespace gf {

class TrainingData {
 public:
  struct Source {
    TokenFiles files;
    Sampler sampler;
  };

  // `magic_prime`: for data without weights; 0 finds it.
  TrainingData(const DataList&, int64_t ctx_len, int64_t magic_prime = 0, Masked = Masked::no);

  const std::vector<Source>& sources() const { return sources_; }
  bool weighted() const { return weighted_; }
  bool masked() const { return sources_[0].files.masked(); }
  const Mixture& mixture() const { return mixture_; }
  int64_t ctx_len() const { return sources_[0].sampler.ctx_len(); }
  int64_t files() const;
  int64_t tokens() const;
  int64_t documents() const;
  int64_t tokens_per_pass() const;  // one over each source

  // ctx_len + 1 tokens; samples count from 0 over the whole run. Safe from several threads.
  void read(int64_t sample, std::span<int32_t> out, int64_t vocab_size) const;
  void read_mask(int64_t sample, std::span<uint8_t> out) const;
  // Refuses data of another vocabulary, as far as the sample and, of a list, the beginning of each file can tell.
  void check_tokens(int64_t sample, int64_t vocab_size) const;

  // What the order of samples depends on beside ctx_len and magic_prime, whatever the files are called: a line for each
  // of them, as it was when this was made.
  const std::string& identity() const { return identity_; }
  // What of the identity is another than in that of an earlier run, in words; empty where nothing is.
  std::string difference(const std::string& then) const;

 private:
  std::vector<std::string> names() const;

  bool weighted_;
  std::vector<Source> sources_;
  Mixture mixture_;
  std::string identity_;
};

}  // namespace gf
