// SPDX-License-Identifier: Apache-2.0
// What may not change a number: running again, the number of threads, recomputation, how a batch is cut.
#include <nlohmann/json.hpp>

#include "end_to_end/tiny_training.h"

namespace gf {
namespace {

class Determinism : public TinyTraining, public testing::WithParamInterface<std::string> {
 protected:
  Determinism() {
    configs_ = {GetParam()};
    options_["train.max_steps"] = "5";
    options_["model.dropout"] = "0.1";
    // Wide and long enough that two threads share the work.
    options_["model.n_embd"] = "64";
    options_["model.ctx_len"] = "40";
    options_["train.micro_bsz"] = "3";
  }
};

INSTANTIATE_TEST_SUITE_P(Of, Determinism,
                         testing::Values("finch", "finchc2", "eagle", "goldfinch", "goldfinch_ablation_gold_invratio_2",
                                         "goldfinch_ablation_gptalpha", "goldfinch_ablation_rope10k", "gptalpha",
                                         "llama"),
                         [](const auto& test) { return test.param; });

TEST_P(Determinism, SameBits) {
  const Outcome first = trained({{"train.proj_suffix", "first"}});
  {
    SCOPED_TRACE("again");
    expect_same(trained({{"train.proj_suffix", "again"}}), first);
  }
  {
    SCOPED_TRACE("two threads");
    expect_same(trained({{"train.proj_suffix", "threads"}}, {{"OMP_NUM_THREADS", "2"}}), first);
  }
  {
    SCOPED_TRACE("recomputed, with two threads");
    expect_same(trained({{"train.proj_suffix", "grad_cp"}, {"train.grad_cp", "1"}}, {{"OMP_NUM_THREADS", "2"}}), first);
  }
}

class Batches : public TinyTraining {
 protected:
  std::vector<double> losses(const Options& changes) {
    std::vector<double> all;
    for (const std::string& line : trained(changes).metrics) all.push_back(nlohmann::json::parse(line)["loss"]);
    return all;
  }
};

TEST_F(Batches, HowTheyAreCutDoesNotMatter) {
  options_["model.dropout"] = "0.1";
  options_["train.adam_eps"] = "1";  // far above the gradients: an update follows a rounding error, but never its sign
  const auto whole = losses({{"train.proj_suffix", "whole"}, {"train.micro_bsz", "4"}});
  ASSERT_EQ(whole.size(), 12u);
  for (const auto& [micro_bsz, factor, count] : {std::tuple("2", "train.accumulate_grad_batches", "2"),
                                                 {"1", "train.accumulate_grad_batches", "4"},
                                                 {"2", "train.devices", "2"},
                                                 {"1", "train.num_nodes", "4"}}) {
    const auto cut =
        losses({{"train.proj_suffix", std::string(factor) + count}, {"train.micro_bsz", micro_bsz}, {factor, count}});
    ASSERT_EQ(cut.size(), whole.size());
    // The sum over the 64 tokens of a step in another order: each addition rounds by 2^-24 of it at most.
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(cut[i], whole[i], whole[i] * 64 * 0x1p-24) << "step " << i;
  }
}

}  // namespace
}  // namespace gf
