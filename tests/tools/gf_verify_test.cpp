// SPDX-License-Identifier: Apache-2.0
// gf verify golden: that it sees what is wrong. The cases themselves are tests of their own (tests/CMakeLists.txt).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/files.h"
#include "support/run_program.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

using Json = nlohmann::json;

class GfVerify : public testing::Test {
 protected:
  Json golden = Json::parse(read_file(std::string(GF_SOURCE_DIR) + "/tests/golden/llama.json"));

  ProgramResult verify(const Json& json) { return verify(json.dump()); }
  ProgramResult verify(const std::string& text) {
    write_file(file_, text);
    return run_program("gf", {"verify", "golden", file_});
  }
  // One number of the case moved by a thousandth, or made NaN on the way: the line that must say so.
  void fails(const std::string& what, const Json& json) {
    const ProgramResult result = verify(json);
    EXPECT_EQ(result.status, 1) << result.out << result.err;
    EXPECT_NE(result.out.find("FAIL " + what), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("some golden cases FAIL"), std::string::npos) << result.out;
  }
  void refused(const std::string& part, const Json& json) { refused(part, json.dump()); }
  void refused(const std::string& part, const std::string& text) {
    const ProgramResult result = verify(text);
    EXPECT_EQ(result.status, 2) << part << "\n" << result.out << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << part << " is not in: " << result.err;
  }

  TempFolder folder_;
  std::string file_ = folder_ / "case.json";
};

void move(Json& number) {
  number = number.get<double>() * 1.001;
}

TEST_F(GfVerify, RefusesWhatIsNoFile) {
  for (const std::string& name : {std::string(folder_ / "none.json"), folder_.path().string()}) {
    const ProgramResult result = run_program("gf", {"verify", "golden", name});
    EXPECT_EQ(result.status, 2) << result.out << result.err;
    EXPECT_NE(result.err.find(name + " "), std::string::npos) << result.err;
  }
}

TEST_F(GfVerify, HoldsAsPublished) {
  const ProgramResult result = verify(golden);
  EXPECT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_NE(result.out.find("all golden cases hold"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("FAIL"), std::string::npos) << result.out;
}

TEST_F(GfVerify, SeesEachKindOfNumber) {
  const auto changed = [&](const char* what, auto&& change) {
    Json json = golden;
    change(json);
    fails(what, json);
  };
  changed("loss ", [](Json& j) { move(j["forward"]["loss"]); });
  changed("logits", [](Json& j) { move(j["forward"]["logits"]["dots"][2]); });
  changed("taps", [](Json& j) { move(j["forward"]["taps"]["x3"]["norm"]); });
  changed("gradients ", [](Json& j) { move(j["forward"]["grads"]["blocks.2.att.wk.weight"]["dots"][0]); });
  changed("gradients with pull", [](Json& j) { move(j["forward"]["grads_l2wrap"]["emb.weight"]["norm"]); });
  changed("training losses", [](Json& j) { move(j["training"]["steps"][5]["loss"]); });
  changed("training norms", [](Json& j) { move(j["training"]["steps"][0]["grad_norm"]); });
  changed("learning rates", [](Json& j) { move(j["training"]["steps"][3]["lr"]); });
  changed("logits", [](Json& j) {
    for (Json& p : j["params"])
      if (p["name"] == "head.weight") move(p["scale"]);
  });
}

// A case that rounding moves far may be off by a few times as much, and by no more.
TEST_F(GfVerify, AllowsForRounding) {
  for (Json& step : golden["masked"]["steps"]) move(step["grad_norm"]);
  fails("masked training norms", golden);
  golden["masked"]["rounding"] = 3e-4;
  fails("masked training norms", golden);
  golden["masked"]["rounding"] = 3.4e-4;
  EXPECT_EQ(verify(golden).status, 0);
}

// A NaN is over every tolerance, also where finite errors come after it.
TEST_F(GfVerify, SeesNaN) {
  for (Json& p : golden["params"])
    if (p["name"] == "blocks.5.ffn.w2.weight") p["scale"] = 1e38;
  const ProgramResult result = verify(golden);
  EXPECT_EQ(result.status, 1) << result.out << result.err;
  for (const char* line :
       {"FAIL loss", "FAIL logits", "FAIL taps", "FAIL gradients", "FAIL training losses", "FAIL training norms"})
    EXPECT_NE(result.out.find(line), std::string::npos) << line << "\n" << result.out;
  EXPECT_EQ(result.out.find("FAIL learning rates"), std::string::npos) << result.out;
}

TEST_F(GfVerify, RefusesWhatIsNoCase) {
  refused("is no golden case", std::string("garbage"));
  refused("is no golden case", std::string());
  refused("is no golden case", std::string("{}"));
  refused("is no golden case", std::string("[1, 2]"));
  refused("is no golden case", golden.dump().substr(0, 20000));
  const ProgramResult missing = run_program("gf", {"verify", "golden", folder_ / "nowhere.json"});
  EXPECT_EQ(missing.status, 2);
  EXPECT_NE(missing.err.find("nowhere.json"), std::string::npos) << missing.err;
  EXPECT_EQ(run_program("gf", {"verify", "silver", file_}).status, 2);
  EXPECT_EQ(run_program("gf", {"verify", "golden"}).status, 2);
}

TEST_F(GfVerify, RefusesACaseThatCannotBe) {
  const auto changed = [&](const char* part, auto&& change) {
    Json json = golden;
    change(json);
    refused(part, json);
  };
  changed("tmix", [](Json& j) { j["model"]["tmix"] = "x999"; });
  changed("head_size", [](Json& j) { j["model"]["head_size"] = 0; });
  changed("n_layer", [](Json& j) { j["model"]["n_layer"] = 0; });
  changed("vocab_size", [](Json& j) { j["model"]["vocab_size"] = 1000000000000; });
  changed("parameters", [](Json& j) { j["model"]["vocab_size"] = 2000000000; });
  changed("batch is -1", [](Json& j) { j["batch"] = -1; });
  changed("length is 1000000000000", [](Json& j) { j["length"] = 1000000000000; });
  changed("tokens is 3", [](Json& j) { j["training"]["data"]["tokens"] = 3; });
  changed("micro_bsz is 0", [](Json& j) { j["training"]["train"]["micro_bsz"] = 0; });
  changed("blocks.0.att.wq.weight", [](Json& j) {
    for (Json& p : j["params"])
      if (p["name"] == "blocks.0.att.wq.weight") p["shape"] = {64, 65};
  });
  changed("71 parameters", [](Json& j) { j["params"].erase(0); });
  changed("is no golden case", [](Json& j) { j["forward"]["grads"].erase("emb.weight"); });
  changed("is no golden case", [](Json& j) { j["params"][1]["scale"] = "much"; });
  changed("lr_decay_type", [](Json& j) { j["training"]["train"]["lr_decay_type"] = "sine"; });
}

}  // namespace
}  // namespace gf
