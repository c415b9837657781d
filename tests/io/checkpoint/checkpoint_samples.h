// SPDX-License-Identifier: Apache-2.0
// Small states to save, and whole checkpoints written as many ranks would.
#pragma once
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_index.h"
#include "io/checkpoint/checkpoint_part.h"
#include "io/checkpoint/checkpoint_reader.h"
#include "io/files.h"
#include "tensor/tensor.h"

namespace gf {

struct Named {
  std::string name;
  Tensor tensor;
  ShardView view() const { return view(0, tensor.numel()); }
  ShardView view(int64_t begin, int64_t end) const {
    return {name,
            tensor.dtype(),
            tensor.shape(),
            begin,
            end,
            tensor.raw() + begin * static_cast<int64_t>(size_of(tensor.dtype()))};
  }
};

// Element i of tensor t is seed + 1000 t + i: what is in the wrong place shows. Exact in float.
inline std::vector<Named> sample_state(int seed, const std::vector<std::pair<std::string, Shape>>& tensors) {
  std::vector<Named> state;
  for (size_t t = 0; t < tensors.size(); ++t) {
    std::vector<float> values(static_cast<size_t>(tensors[t].second.numel()));
    std::iota(values.begin(), values.end(), static_cast<float>(seed + 1000 * static_cast<int>(t)));
    state.push_back({tensors[t].first, Tensor::of<float>(tensors[t].second, values)});
  }
  return state;
}

inline std::vector<Named> sample_state(int seed = 0) {
  return sample_state(seed, {{"model/emb.weight", {7, 5}},
                             {"model/blocks.0.att.time_faaaa", {2, 3, 4}},
                             {"model/blocks.0.ln1.bias", {5}},
                             {"optim/exp_avg/emb.weight", {7, 5}},
                             {"optim/exp_avg_sq/emb.weight", {7, 5}}});
}

inline std::vector<ShardView> views_of(const std::vector<Named>& state) {
  std::vector<ShardView> views;
  for (const Named& n : state) views.push_back(n.view());
  return views;
}

// The same tensors with other memory, filled with -1.
inline std::vector<Named> blank_like(const std::vector<Named>& state) {
  std::vector<Named> blank;
  for (const Named& n : state) {
    blank.push_back({n.name, Tensor::empty(n.tensor.shape(), n.tensor.dtype(), kCpu)});
    std::fill_n(blank.back().tensor.data<float>(), n.tensor.numel(), -1.f);
  }
  return blank;
}

inline std::vector<float> values_of(const Tensor& t) {
  return {t.data<float>(), t.data<float>() + t.numel()};
}

inline Attributes sample_attributes(int64_t step) {
  Attributes a;
  a.program = "gf-test 1";
  a.config = "model:\n  n_embd: 5  # caf\xc3\xa9\n";
  a.step = step, a.samples = 16 * step, a.tokens = 16 * 64 * step;
  return a;
}

// An equal run of every tensor's elements for each rank, for the last one what is left.
inline std::vector<ShardView> share_of(const std::vector<Named>& state, int rank, int ranks) {
  std::vector<ShardView> views;
  for (const Named& n : state) {
    const int64_t length = (n.tensor.numel() + ranks - 1) / ranks;
    const int64_t begin = std::min(rank * length, n.tensor.numel());
    views.push_back(n.view(begin, std::min(begin + length, n.tensor.numel())));
  }
  return views;
}

// A complete checkpoint of which each rank wrote its share.
inline std::filesystem::path write_as_ranks(const std::filesystem::path& folder, const std::vector<Named>& state,
                                            int ranks, int64_t step = 100) {
  const std::filesystem::path made = folder / step_folder_name(step);
  std::filesystem::create_directories(made);
  std::vector<PartFile> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    PartWriter(made / part_file_name(rank, ranks), share_of(state, rank, ranks)).write();
    parts.push_back(read_part(made / part_file_name(rank, ranks)));
  }
  write_index(made / kIndexFile, sample_attributes(step), parts);
  File::create(made / kDoneFile).close();
  return made;
}

inline void expect_holds(const TensorSource& source, const std::vector<Named>& state) {
  const std::vector<Named> read = blank_like(state);
  source.read(views_of(read));
  for (size_t i = 0; i < state.size(); ++i)
    EXPECT_EQ(values_of(read[i].tensor), values_of(state[i].tensor)) << state[i].name;
}

}  // namespace gf
