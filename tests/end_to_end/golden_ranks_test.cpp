// SPDX-License-Identifier: Apache-2.0
// The golden training runs (tests/golden) through gf-dist-train under mpirun: data and parameters are written to files
// as the cases describe them, and losses, norms and learning rates compared with what the published code gave.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/random.h"
#include "end_to_end/many_ranks.h"
#include "support/binidx_files.h"
#include "support/run_program.h"

namespace gf {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Layout {
  int pipeline, data, zero;
  std::string schedule;
  int pieces;
  bool recompute;
  std::string name() const {
    return cat("p", pipeline, "-d", data, "-z", zero, "-", schedule, pieces, recompute ? "-recompute" : "");
  }
};

class GoldenRanks : public ManyRanks, public testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    std::ifstream in(cat(GF_SOURCE_DIR, "/tests/golden/", GetParam(), ".json"));
    json_ = Json::parse(in);
    const Json& m = json_.at("model");
    configs_.clear();
    options_ = {{"train.proj_dir", folder_ / "out"}, {"train.proj_name", "tiny"}, {"train.max_steps", "6"}};
    for (const auto& [key, value] : m.items()) {
      if (key == "rope_base") {
        if (value.get<double>() != 0) options_["model.rope"] = "on", options_["model.rope.base"] = value.dump();
      } else {
        options_["model." + key] = value.is_string() ? value.get<std::string>() : value.dump();
      }
    }
    const Json& training = json_.at("training");
    for (const auto& [key, value] : training.at("train").items())
      options_["train." + key] = value.is_string() ? value.get<std::string>() : value.dump();
    // As many microbatches as there are sequences.
    options_["train.accumulate_grad_batches"] = options_.at("train.micro_bsz");
    options_["train.micro_bsz"] = "1";
    options_["train.data_file"] = data_set("data", hashed_tokens(training.at("data"), m.at("vocab_size")));
    options_["train.load_model"] = write_parameters();
  }

  static std::vector<uint16_t> hashed_tokens(const Json& data, int64_t vocab) {
    const Random random(data.at("seed").get<uint64_t>(), "tokens");
    std::vector<uint16_t> tokens(data.at("tokens").get<size_t>());
    for (size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<uint16_t>(std::floor((random.uniform(i) + 1) / 2 * static_cast<double>(vocab)));
    return tokens;
  }

  // A .safetensors file of the parameters that the case describes.
  std::string write_parameters() const {
    Json header = Json::object();
    std::string values;
    for (const Json& p : json_.at("params")) {
      const std::string name = p.at("name");
      const auto shape = p.at("shape").get<std::vector<int64_t>>();
      int64_t count = 1;
      for (const int64_t n : shape) count *= n;
      const Random random(json_.at("seed").get<uint64_t>(), name);
      const double offset = p.at("offset"), slope = p.at("slope"), scale = p.at("scale");
      const size_t begin = values.size();
      for (int64_t i = 0; i < count; ++i)
        append_bytes(values, static_cast<float>(offset + slope * static_cast<double>(i) + scale * random.uniform(i)));
      header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, values.size()}}};
    }
    const std::string text = header.dump(), path = folder_ / "parameters.safetensors";
    std::string file;
    append_bytes(file, static_cast<uint64_t>(text.size()));
    write_file(path, file + text + values);
    return path;
  }

  // PREFIX.mask.bin as the case describes it.
  void write_mask() const {
    const Json& mask = json_.at("masked").at("mask");
    const Random random(mask.at("seed").get<uint64_t>(), "mask");
    std::string marks(json_.at("training").at("data").at("tokens").get<size_t>(), '\0');
    for (size_t i = 0; i < marks.size(); ++i)
      marks[i] = random.uniform(i) < mask.at("below").get<double>() ? '\1' : '\0';
    write_file(options_.at("train.data_file") + ".mask.bin", marks);
  }

  static constexpr double kTolerance = 2e-5;  // relative; see golden.cpp

  void run_layout(const Layout& l) {
    run_layout(l, {{"train.loss_mask", "0"}}, json_.at("training").at("steps"),
               {{"loss", kTolerance}, {"grad_norm", kTolerance}, {"lr", kTolerance}});
  }
  void run_layout(const Layout& l, Options options, const Json& want, const std::map<std::string, double>& tolerances) {
    SCOPED_TRACE(l.name());
    options.merge(Options{{"train.proj_suffix", l.name()},
                          {"parallel.pipeline", std::to_string(l.pipeline)},
                          {"parallel.zero", std::to_string(l.zero)},
                          {"parallel.schedule", l.schedule},
                          {"parallel.pieces", std::to_string(l.pieces)},
                          {"train.grad_cp", l.recompute ? "1" : "0"}});
    const ProgramResult result = train_on(l.pipeline * l.data, options);
    ASSERT_EQ(result.status, 0) << result.out << result.err;
    const auto got = metrics(l.name());
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      for (const auto& [key, tolerance] : tolerances) {
        const double value = want[i].at(key);
        EXPECT_NEAR(got[i].at(key).get<double>(), value, tolerance * std::fabs(value)) << key << " of step " << i;
      }
    }
    fs::remove_all(run(l.name()));
  }

  Json json_;
};

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& file : fs::directory_iterator(GF_SOURCE_DIR "/tests/golden"))
    if (file.path().extension() == ".json") names.push_back(file.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

constexpr const char* kSchedules[] = {"gpipe", "one_f_one_b", "interleaved", "zero_bubble"};

// Of the cases' six layers. One piece interleaved is 1F1B: only where there are no layers for more.
std::vector<int> pieces_of(const std::string& schedule, int pipeline) {
  if (schedule != "interleaved" || pipeline > 3) return {1};
  return pipeline > 2 ? std::vector<int>{2} : std::vector<int>{2, 3};
}

// Each case on two layouts, which over all cases have every pipeline, number of data ranks, zero, schedule, number of
// pieces and recompute. GF_ALL_LAYOUTS=1 takes all of them (288 a case).
TEST_P(GoldenRanks, HoldOnEveryLayout) {
  std::vector<Layout> layouts;
  for (int pipeline = 1; pipeline <= 4; ++pipeline)
    for (int data = 1; data <= 2; ++data)
      for (int zero = 0; zero <= 3; ++zero)
        for (const char* schedule : kSchedules)
          for (const int pieces : pieces_of(schedule, pipeline))
            for (const bool recompute : {false, true})
              layouts.push_back({pipeline, data, zero, schedule, pieces, recompute});
  if (std::getenv("GF_ALL_LAYOUTS")) {
    for (const Layout& l : layouts) run_layout(l);
    return;
  }
  // Steps that share no factor with the length of the list visit all kinds.
  const auto names = golden_names();
  const size_t nth = static_cast<size_t>(std::find(names.begin(), names.end(), GetParam()) - names.begin());
  for (size_t i = 0; i < 2; ++i) {
    Layout l = layouts[(2 * nth + i) * 101 % layouts.size()];
    // By no step comes what this case is for: a key cache over several stages, with gradients that data ranks share.
    if (GetParam() == "goldfinch_ablation_gold_invratio_2" && i == 0) l.pipeline = 4, l.data = 2, l.zero = 2;
    run_layout(l);
  }
}

// The loss and its gradients restricted to what the mask marks, which is another number of targets each step.
TEST_P(GoldenRanks, HoldWithALossMask) {
  write_mask();
  const auto names = golden_names();
  const auto nth = std::find(names.begin(), names.end(), GetParam()) - names.begin();
  const int pipeline = static_cast<int>(1 + nth % 3), data = static_cast<int>(2 - nth % 2);
  const char* const schedule = kSchedules[nth % 4];
  const Json& masked = json_.at("masked");
  // See golden.cpp: by how much more the norms may be off.
  run_layout({pipeline, data, 2, schedule, pieces_of(schedule, pipeline).back(), nth % 2 == 0},
             {{"train.loss_mask", "1"}}, masked.at("steps"),
             {{"targets", kTolerance},
              {"loss", kTolerance},
              {"grad_norm", kTolerance + 3 * masked.at("rounding").get<double>()}});
}

INSTANTIATE_TEST_SUITE_P(Of, GoldenRanks, testing::ValuesIn(golden_names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace gf
