// SPDX-License-Identifier: Apache-2.0
#include "train/planner/hardware.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"
#include "train/config.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

const char* const kSmall =
    "nodes: 2\nranks_per_node: 4\nrank: {flops: 1e12, memory: 8e9, memory_bandwidth: 1e11}\n"
    "within_node: {bandwidth: 1e10, latency: 1e-6}\n";

class HardwareFile : public testing::Test {
 protected:
  fs::path written(const std::string& text) const {
    const fs::path path = folder_ / "hardware.yaml";
    write_file(path, text);
    return path;
  }
  void refused(const std::string& text, std::initializer_list<std::string> pieces) const {
    SCOPED_TRACE(text);
    expect_refused(pieces, [&] { load_hardware(written(text)); });
  }
  TempFolder folder_;
};

TEST_F(HardwareFile, ShippedOnesLoad) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(GF_SOURCE_DIR "/configs/hardware")) {
    SCOPED_TRACE(entry.path().string());
    const Hardware h = load_hardware(entry.path());
    EXPECT_TRUE(h.within_node && h.between_nodes);
    EXPECT_FALSE(h.measured);
    EXPECT_EQ(h.accelerator.value_or("auto"), "gpu");
    EXPECT_EQ(h.rank.precision.value_or("auto"), "bf16");
    EXPECT_GT(h.within_node->bandwidth, h.between_nodes->bandwidth);
    ++files;
  }
  EXPECT_GE(files, 2);
  const Hardware h100 = load_hardware(GF_SOURCE_DIR "/configs/hardware/h100.yaml");
  EXPECT_EQ(h100.rank.flops, 989.4e12);
  EXPECT_EQ(h100.ranks(), 32);
}

TEST_F(HardwareFile, ReadsBackToItself) {
  Hardware h = load_hardware(written(kSmall));
  h.measured.emplace();
  h.measured->update = 1e-9;
  h.measured->model.vocab_size = 257;
  h.measured->model.rope.emplace();
  h.measured->model.resolve();
  h.measured->layers.lower = {0.1, 0.2, 1.0 / 3};
  const std::string text = to_yaml(h, {{"name", "a note"}});
  EXPECT_NE(text.find("# a note"), std::string::npos);
  const Hardware again = load_hardware(written(text));
  EXPECT_EQ(to_yaml(again), to_yaml(h));
  EXPECT_EQ(again.measured->layers.lower.backward_weight, 1.0 / 3);
  EXPECT_FALSE(again.between_nodes);
}

TEST_F(HardwareFile, UnknownKeysNameTheNearest) {
  refused("ranks_per_nodes: 4\n", {"hardware.yaml:1", "ranks_per_nodes", "did you mean ranks_per_node?"});
  refused("rank: {flop: 1}\n", {"rank.flop", "did you mean rank.flops?"});
  refused("measured: {layers: {lowr: {forward: 1}}}\n",
          {"measured.layers.lowr", "did you mean measured.layers.lower?"});
  refused("nodes: many\n", {"nodes is \"many\"", "a whole number"});
  // What to do is about the file, not about options.
  try {
    load_hardware(written("x: 1\n"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(e.hint().find("docs/running.md"), std::string::npos) << e.hint();
  }
}

TEST_F(HardwareFile, FiguresThatCannotBeAreRefused) {
  const std::string base = kSmall;
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = base;
    return text.replace(text.find(from), from.size(), to);
  };
  refused(with("nodes: 2", "nodes: 0"), {"nodes is 0", "from 1 to"});
  refused(with("ranks_per_node: 4", "ranks_per_node: -1"), {"ranks_per_node is -1"});
  refused(with("flops: 1e12", "flops: 0"), {"rank.flops is 0", "above 0"});
  refused(with("flops: 1e12", "flops: 1e12, product_share: 1.5"), {"rank.product_share is 1.5", "at most 1"});
  refused(with("memory: 8e9, ", ""), {"rank.memory is 0"});
  refused(with("memory_bandwidth: 1e11", "memory_bandwidth: -1"), {"rank.memory_bandwidth is -1"});
  refused(with("bandwidth: 1e10", "bandwidth: 0"), {"within_node.bandwidth is 0"});
  refused(with("latency: 1e-6", "latency: -1e-6"), {"within_node.latency is -1e-06", "0 or more"});
  refused(base + "measured: {update: 1e-9}\n", {"measured.layers.lower.forward is 0"});
  refused(base + "measured: {micro_bsz: 0, update: 1e-9}\n", {"measured.micro_bsz is 0"});
  refused(base + "measured: {update: 0}\n", {"measured.update is 0"});
}

TEST_F(HardwareFile, WhatItsFiguresAreOfMayBeSaid) {
  const std::string base = kSmall;
  const Hardware silent = load_hardware(written(base));
  EXPECT_FALSE(silent.accelerator || silent.rank.precision);
  const Hardware tf32 = load_hardware(written("accelerator: gpu\n" + base.substr(0, base.find("flops")) +
                                              "precision: tf32, " + base.substr(base.find("flops"))));
  EXPECT_EQ(*tf32.accelerator, "gpu");
  EXPECT_EQ(*tf32.rank.precision, "tf32");
  EXPECT_EQ(to_yaml(load_hardware(written(to_yaml(tf32)))), to_yaml(tf32));
  refused("accelerator: tpu\n" + base, {"accelerator is \"tpu\"", "cpu, gpu"});
  refused("accelerator: gpu\nrank: {precision: fp8, flops: 1}\n", {"rank.precision is \"fp8\"", "32, tf32, bf16"});
  for (const std::string accelerator : {"", "accelerator: cpu\n"})
    refused(accelerator + "rank: {precision: bf16, flops: 1}\n", {"rank.precision is bf16", "accelerator: gpu"});
}

// What a run says nothing of follows the file; without either it is a CPU's, in float32.
TEST(HardwareOfARun, IsThatOfTheFileOrOfTheRun) {
  const auto planned = [](const char* accelerator, const char* precision, const Hardware& h) {
    Config c;
    if (*accelerator) c.train.accelerator.emplace(accelerator);
    if (*precision) c.train.precision.emplace(precision);
    plan_on(h, c.train);
    resolve(c);
    const std::string why = why_not_of(h, c.train);
    return *c.train.accelerator + " " + *c.train.precision + (why.empty() ? "" : ": " + why);
  };
  Hardware silent, gpu, bf16, cpu;
  gpu.accelerator.emplace("gpu");
  bf16.accelerator.emplace("gpu"), bf16.rank.precision.emplace("bf16");
  cpu.accelerator.emplace("cpu"), cpu.rank.precision.emplace("32");
  EXPECT_EQ(planned("", "", silent), "cpu 32");
  EXPECT_EQ(planned("", "", cpu), "cpu 32");
  EXPECT_EQ(planned("", "", gpu), "gpu bf16");
  EXPECT_EQ(planned("", "", bf16), "gpu bf16");
  bf16.rank.precision.emplace("tf32");
  EXPECT_EQ(planned("", "", bf16), "gpu tf32");
  bf16.rank.precision.emplace("bf16");
  // The run has its say where the file has none, or the same.
  EXPECT_EQ(planned("gpu", "", silent), "gpu bf16");
  EXPECT_EQ(planned("", "bf16", silent), "gpu bf16");
  EXPECT_EQ(planned("", "32", gpu), "gpu 32");
  EXPECT_EQ(planned("", "bf16-mixed", bf16), "gpu bf16-mixed");
  EXPECT_EQ(planned("cpu", "32", cpu), "cpu 32");
  // Speeds of one with bytes of the other tell nothing.
  const std::string of_bf16 = ": its figures are of accelerator gpu and rank.precision bf16, and train.accelerator is ";
  EXPECT_EQ(planned("cpu", "", bf16), "cpu 32" + of_bf16 + "cpu and train.precision 32");
  EXPECT_EQ(planned("", "32", bf16), "gpu 32" + of_bf16 + "gpu and train.precision 32");
  EXPECT_EQ(planned("gpu", "", cpu),
            "gpu bf16: its figures are of accelerator cpu and rank.precision 32, and train.accelerator is gpu and "
            "train.precision bf16");
}

TEST_F(HardwareFile, ALinkThatIsNotThereIsMissedWhereItIsNeeded) {
  const Hardware h = load_hardware(written(kSmall));
  EXPECT_EQ(h.link(true).bandwidth, 1e10);
  EXPECT_TRUE(h.link(true).overlaps);
  expect_refused({"between nodes", "between_nodes"}, [&] { h.link(false); });
  EXPECT_TRUE(h.same_node(4, 7));
  EXPECT_FALSE(h.same_node(3, 4));
}

}  // namespace
}  // namespace gf
