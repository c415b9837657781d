// SPDX-License-Identifier: Apache-2.0
// gf ckpt as a user meets it: what it prints and with which status it ends.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "io/checkpoint/pth/pth.h"
#include "io/checkpoint/pth/pth_samples.h"
#include "io/checkpoint/safetensors.h"
#include "support/run_program.h"
#include "support/temp_folder.h"
#include "train/config.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class GfCkpt : public testing::Test {
 protected:
  TempFolder folder_;
  fs::path checkpoints_ = folder_ / "checkpoints", file_ = folder_ / "x.safetensors";
  Tensor weight_ = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6.5});
  struct Output {
    int status;
    std::string text;
  };

  void SetUp() override {
    const auto self = make_self_communicator();
    Attributes a;
    a.program = "gf-test", a.config = "model:\n  n_embd: 3\n", a.step = 12, a.samples = 96, a.tokens = 6144;
    CheckpointWriter(checkpoints_, *self, 0)
        .write(a, std::vector<ShardView>{{"model/emb.weight", DType::f32, {2, 3}, 0, 6, weight_.raw()},
                                         {"optim/exp_avg/emb.weight", DType::f32, {2, 3}, 0, 6, weight_.raw()}});
  }
  Output run(const std::string& arguments) const {
    FILE* const pipe = popen((GF_BIN_DIR "/gf ckpt " + arguments + " 2>&1").c_str(), "r");
    GF_CHECK(pipe, "cannot run gf");
    std::string text;
    std::array<char, 4096> piece;
    while (const size_t n = fread(piece.data(), 1, piece.size(), pipe)) text.append(piece.data(), n);
    return {WEXITSTATUS(pclose(pipe)), text};
  }
  void expect(const std::string& arguments, int status, const std::vector<std::string>& pieces) const {
    const Output out = run(arguments);
    EXPECT_EQ(out.status, status) << out.text;
    for (const std::string& piece : pieces)
      EXPECT_NE(out.text.find(piece), std::string::npos) << "\"" << piece << "\" is not in: " << out.text;
  }
};

TEST_F(GfCkpt, InfoTellsWhatIsThere) {
  expect("info " + folder_.path().string(), 0,
         {"step        12\n", "samples     96\n", "tokens      6144\n", "6 in 1 tensors", "model/emb.weight",
          "f32  2x3", "n_embd: 3", "gf-test"});
}

// Of what stands in a checkpoint, whoever made it.
TEST_F(GfCkpt, InfoPrintsNothingThatATerminalObeys) {
  const auto self = make_self_communicator();
  Attributes a;
  a.program = "gf\x1b[2J", a.data = "9 tokens\x1b[31m\n8 tokens\n";
  a.config =
      "model:\r\n  n_embd: 3\t# \x1b]0;x\x07 caf\xc3\xa9 \xc2\x9b"
      "2J\r\n";
  CheckpointWriter(folder_ / "foreign", *self, 0)
      .write(a, std::vector<ShardView>{{"model/emb.weight", DType::f32, {2, 3}, 0, 6, weight_.raw()}});
  const Output out = run("info " + (folder_ / "foreign").string());
  EXPECT_EQ(out.status, 0);
  for (const char* piece : {"program     gf?[2J\n", "data\n  9 tokens?[31m\n  8 tokens\n",
                            "config\n  model:\n    n_embd: 3 # ?]0;x? caf\xc3\xa9 ?2J\n"})
    EXPECT_NE(out.text.find(piece), std::string::npos) << piece;
  for (const char control : {'\x1b', '\x07', '\r', '\t'}) EXPECT_EQ(out.text.find(control), std::string::npos);
}

TEST_F(GfCkpt, ALongNameFillsItsOwnLineOnly) {
  const auto self = make_self_communicator();
  const std::string name = "model/" + std::string(900, 'x');
  std::vector<ShardView> views{{name, DType::f32, {2, 3}, 0, 6, weight_.raw()}};
  for (const char* other : {"model/a", "model/b", "model/c"})
    views.push_back({other, DType::f32, {2, 3}, 0, 6, weight_.raw()});
  CheckpointWriter(folder_ / "long", *self, 0).write({}, views);
  const Output out = run("info " + (folder_ / "long").string());
  EXPECT_EQ(out.status, 0);
  EXPECT_NE(out.text.find("  " + name + "  f32  2x3\n"), std::string::npos) << out.text;
  EXPECT_NE(out.text.find("  model/a" + std::string(73, ' ') + "  f32  2x3\n"), std::string::npos) << out.text;
}

TEST_F(GfCkpt, AFileOfTheWorkingFolderNeedsNoFolder) {
  const auto info_here = [&](const std::string& file) {
    return run_program("/bin/bash",
                       {"-c", "cd \"$1\" && exec " GF_BIN_DIR "/gf ckpt info \"$2\"", "bash", folder_.path(), file});
  };
  std::ofstream(folder_ / "other.h5", std::ios::binary) << "\x89HDF\r\n\x1a\n and so on";
  EXPECT_TRUE(info_here("other.h5").err.starts_with("gf ckpt: other.h5 is no checkpoint: it does not begin with gf-"));
  for (const auto& file : fs::directory_iterator(checkpoints_ / "step-00000012"))
    fs::copy_file(file.path(), folder_ / file.path().filename());
  EXPECT_EQ(info_here("checkpoint.h5").status, 0);
  fs::remove(folder_ / "DONE");
  EXPECT_TRUE(info_here("checkpoint.h5").err.starts_with("gf ckpt: . has no DONE: writing this checkpoint was never"));
}

TEST_F(GfCkpt, VerifyFindsAFlippedBit) {
  expect("verify " + checkpoints_.string(), 0, {"ok: 2 tensors"});
  const fs::path part = checkpoints_ / "step-00000012" / "part-00000-of-00001.h5";
  std::fstream file(part, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(fs::file_size(part)) / 2);
  const auto byte = static_cast<char>(file.get() ^ 16);
  file.seekp(static_cast<std::streamoff>(fs::file_size(part)) / 2);
  file.put(byte);
  file.close();
  expect("verify " + checkpoints_.string(), 2, {"gf ckpt: ", part.string(), "damaged", "try: "});
}

TEST_F(GfCkpt, ExportAndImportGiveTheSameWeights) {
  for (const char* dtype : {"f32", "bf16", "f16"}) {  // the values are exact in all of them
    const fs::path made = folder_ / dtype;
    expect("export " + checkpoints_.string() + " " + file_.string() + " --dtype " + dtype, 0, {file_.string()});
    std::ofstream(folder_ / "c.yaml") << "model: {n_embd: 3}\n";
    expect("import " + file_.string() + " " + made.string() + " --config " + (folder_ / "c.yaml").string(), 0,
           {"step-00000000", "1 tensors"});
    const auto source = open_tensors(made);
    std::vector<float> values(6);
    source->read(std::vector<ShardView>{
        {"model/emb.weight", DType::f32, {2, 3}, 0, 6, reinterpret_cast<std::byte*>(values.data())}});
    EXPECT_EQ(values, std::vector<float>(weight_.data<float>(), weight_.data<float>() + 6));
    EXPECT_EQ(source->entries().size(), 1u);
    EXPECT_EQ(CheckpointReader(made).attributes().config, "model: {n_embd: 3}\n");
  }
}

TEST_F(GfCkpt, TheConfigurationGoesWithTheWeights) {
  const std::string before = CheckpointReader(checkpoints_).attributes().config;
  ASSERT_FALSE(before.empty());
  expect("export " + checkpoints_.string() + " " + file_.string(), 0, {});
  expect("import " + file_.string() + " " + (folder_ / "imported").string(), 0, {});
  EXPECT_EQ(CheckpointReader(folder_ / "imported").attributes().config, before);
}

TEST_F(GfCkpt, SeveralFilesWithAnIndexAreOneModel) {
  const fs::path first = folder_ / "x-00001-of-00002.safetensors", second = folder_ / "x-00002-of-00002.safetensors",
                 index = folder_ / "x.safetensors.index.json";
  const auto self = make_self_communicator();
  const fs::path two = folder_ / "two";
  Attributes a;
  a.config = "model: {n_embd: 3}\n";
  CheckpointWriter(two, *self, 0)
      .write(a, std::vector<ShardView>{{"model/emb.weight", DType::f32, {2, 3}, 0, 6, weight_.raw()},
                                       {"model/head.weight", DType::f32, {2, 3}, 0, 6, weight_.raw()}});
  // The size is that of the tensors, 24 bytes each: a file is larger by its header.
  const fs::path whole = folder_ / "whole.safetensors";
  expect("export " + two.string() + " " + whole.string() + " --max-shard-size 48", 0, {whole.string() + ": "});
  EXPECT_GT(fs::file_size(whole), 48u);
  const fs::path older = folder_ / "x-00003-of-00003.safetensors";
  std::ofstream(older) << "of an older export";
  std::ofstream(index) << R"({"weight_map": {"a": "x-00003-of-00003.safetensors"}})";
  expect("export " + two.string() + " " + file_.string() + " --max-shard-size 47", 0,
         {first.string(), second.string(), index.string(), older.string() + ": removed, of an older export\n"});
  EXPECT_FALSE(fs::exists(older));
  EXPECT_FALSE(fs::exists(file_));
  expect("import " + index.string() + " " + (folder_ / "made").string(), 0, {"2 tensors"});
  const CheckpointReader made(folder_ / "made");
  EXPECT_EQ(made.attributes().config, a.config);
  std::vector<float> values(12);
  const auto at = [&](int64_t i) { return reinterpret_cast<std::byte*>(values.data() + i); };
  made.read(std::vector<ShardView>{{"model/emb.weight", DType::f32, {2, 3}, 0, 6, at(0)},
                                   {"model/head.weight", DType::f32, {2, 3}, 0, 6, at(6)}});
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(values[static_cast<size_t>(i)], weight_.data<float>()[i % 6]);
  expect("export " + two.string() + " " + file_.string(), 2, {index.string() + " is there from another export"});
  for (const char* size : {"0", "-1", "5XB", "GB", "9999999999GB", "5 GB", "1.5GB"})
    expect("export " + two.string() + " " + file_.string() + " --max-shard-size '" + size + "'", 2,
           {std::string("--max-shard-size is ") + size, "5GB"});
}

TEST_F(GfCkpt, HelpSaysWhatTheSizeCounts) {
  expect("export --help", 0, {"max-shard-size", "of the tensors, without the"});
}

TEST_F(GfCkpt, FilesOfTorchAreImportedAndNothingInThemIsExecuted) {
  const fs::path torch_file = fs::path(GF_SOURCE_DIR) / "tests/fuzz/corpus/pth/zip", in = folder_ / "x.pth";
  fs::copy_file(torch_file, in);
  expect("import " + in.string() + " " + (folder_ / "made").string(), 0,
         {"10 tensors", "nothing says what model", "gf eval", "--config"});
  expect("verify " + (folder_ / "made").string(), 0, {"10 tensors"});
  const CheckpointReader made(folder_ / "made");
  const PthReader source(in);
  for (const auto& e : source.entries()) {
    const Tensor a = Tensor::empty(e.shape, e.dtype, kCpu), b = Tensor::empty(e.shape, e.dtype, kCpu);
    source.read(std::vector<ShardView>{{e.name, e.dtype, e.shape, 0, e.shape.numel(), a.raw()}});
    made.read(std::vector<ShardView>{{e.name, e.dtype, e.shape, 0, e.shape.numel(), b.raw()}});
    EXPECT_EQ(std::memcmp(a.raw(), b.raw(), static_cast<size_t>(e.shape.numel()) * 4), 0) << e.name;
  }
  std::ofstream(in, std::ios::binary) << pth::pth_of(
      pth::pickle(pth::call(pth::global("posix", "system"), {pth::text("touch " + (folder_ / "pwned").string())})), {});
  expect("import " + in.string() + " " + (folder_ / "out").string(), 2, {in.string(), "asks for posix.system"});
  std::ofstream(in, std::ios::binary) << pth::zip_of({{"../../x", "y"}, {"a/data.pkl", pth::small_pickle()}});
  expect("import " + in.string() + " " + (folder_ / "out").string(), 2, {"../../x is a path out of it"});
  std::string damaged = pth::small_pth();
  damaged[damaged.find(pth::six_floats())] ^= 1;
  std::ofstream(in, std::ios::binary) << damaged;
  expect("import " + in.string() + " " + (folder_ / "out").string(), 2, {"archive/data/0 has the checksum"});
  EXPECT_FALSE(fs::exists(folder_ / "out") || fs::exists(folder_ / "pwned"));
  expect("import " + checkpoints_.string() + " " + (folder_ / "out").string(), 2, {"can be imported", ".pth"});
}

TEST_F(GfCkpt, SeveralConfigurationsAreLaidOverOneAnother) {
  std::ofstream(folder_ / "x.pth", std::ios::binary) << pth::small_pth();
  std::ofstream(folder_ / "size.yaml") << "model: {n_embd: 3, vocab_size: 0}\n";
  std::ofstream(folder_ / "model.yaml") << "model: {n_embd: 64, tmix: x060}\n";
  expect("import " + (folder_ / "x.pth").string() + " " + (folder_ / "out").string() + " --config " +
             (folder_ / "size.yaml").string() + " --config " + (folder_ / "model.yaml").string(),
         0, {"1 tensors"});
  const Config config = config_from_text(CheckpointReader(folder_ / "out").attributes().config, "out");
  EXPECT_EQ(config.model.n_embd, 64);
  EXPECT_EQ(config.model.tmix, "x060");
}

TEST_F(GfCkpt, WrongInputIsRefusedAndNothingIsMade) {
  const fs::path out = folder_ / "out";
  expect("", 2, {"no action", "info, verify, export or import"});
  expect("inspect x", 2, {"inspect"});
  expect("info", 2, {"no CHECKPOINT given"});
  expect("info " + (folder_ / "nowhere").string(), 2, {"nowhere"});
  expect("export " + checkpoints_.string() + " " + file_.string() + " --dtype f8", 2, {"f8", "f32, bf16 or f16"});
  EXPECT_FALSE(fs::exists(file_));
  std::ofstream(file_) << "something else";
  expect("import " + file_.string() + " " + out.string(), 2, {file_.string()});
  expect("export " + checkpoints_.string() + " " + file_.string(), 0, {});
  std::ofstream(folder_ / "c.yaml") << "a: [1";
  expect("import " + file_.string() + " " + out.string() + " --config " + (folder_ / "c.yaml").string(), 2, {"c.yaml"});
  EXPECT_FALSE(fs::exists(out));
  expect("import " + file_.string() + " " + checkpoints_.string(), 2, {checkpoints_.string(), "not empty"});
}

TEST_F(GfCkpt, ImportTakesTheWeightsOfItsConfigurationOnly) {
  const std::string from = "import " + file_.string() + " " + (folder_ / "out").string(),
                    with = " --config " + (folder_ / "c.yaml").string();
  const std::string header = R"({"emb.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  const uint64_t length = header.size();
  std::ofstream(file_, std::ios::binary).write(reinterpret_cast<const char*>(&length), 8)
      << header << std::string(24, '\0');
  std::ofstream(folder_ / "c.yaml") << "model: {tmix: x060, n_layer: 1, n_embd: 64, vocab_size: 2, ctx_len: 8}\n";
  expect(from + with, 2, {"emb.weight is 2x64 in the model and 2x3"});
  std::ofstream(folder_ / "c.yaml") << "model: {tmix: x060, n_layer: 4096, n_embd: 64, vocab_size: 2}\n";
  expect(from + with, 2, {"model.n_layer is 4096", "1 tensors"});
  // What the weights' file says itself has its say, where shapes would not tell.
  const std::string told =
      R"({"__metadata__":{"config":"model: {n_embd: 64, vocab_size: 2}"},"emb.weight":{"dtype":"F32","shape":[2,3],)"
      R"("data_offsets":[0,24]}})";
  const uint64_t told_length = told.size();
  std::ofstream(file_, std::ios::binary).write(reinterpret_cast<const char*>(&told_length), 8)
      << told << std::string(24, '\0');
  std::ofstream(folder_ / "c.yaml") << "model: {n_embd: 64, vocab_size: 2, use_v2: 0}\n";
  expect(from + with, 2, {"model.use_v2 is 0 in " + (folder_ / "c.yaml").string(), "says that it is 1"});
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

// Of a configuration that somebody else put there nothing is made before it is known to be of a size that makes sense.
TEST_F(GfCkpt, AHugeConfigurationInAFileIsRefused) {
  std::string config = "model: [a";
  while (config.size() < 10'000'000) config += ",a";
  const std::string header = "{\"__metadata__\":{\"config\":\"" + config +
                             "]\"},\"emb.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
  const uint64_t length = header.size();
  std::ofstream(file_, std::ios::binary).write(reinterpret_cast<const char*>(&length), 8) << header << "1234";
  const std::vector<std::string> arguments{"ckpt", "import", file_.string(), folder_ / "out"};
  const std::string said = "the configuration in " + file_.string() + " is larger than 1048576 bytes";
#if defined(GF_SANITIZED)  // which cannot live with a limit on address space
  const ProgramResult result = run_program("gf", arguments);
#else
  std::vector<std::string> words{"-c", "ulimit -v 600000 && exec \"$@\"", "bash", GF_BIN_DIR "/gf"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const ProgramResult result = run_program("/bin/bash", words, {{"OMP_NUM_THREADS", "1"}});
#endif
  EXPECT_EQ(result.status, 2) << result.err;
  EXPECT_NE(result.err.find(said), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(GfCkpt, WhatCannotBeWrittenIsRefused) {
  expect("export " + checkpoints_.string() + " /nonexistent/x.safetensors", 2,
         {"/nonexistent/x", "try: a folder that"});
  fs::create_directory(folder_ / "folder.safetensors");
  expect("export " + checkpoints_.string() + " " + (folder_ / "folder.safetensors").string(), 2, {"is a folder"});
  const std::string index = (checkpoints_ / "step-00000012" / "checkpoint.h5").string();
  expect("export " + checkpoints_.string() + " " + index, 2, {index + " is no name of such a file"});
  expect("info " + checkpoints_.string() + " 3>&1 >/dev/full 2>&3 #", 1,
         {"cannot write to standard output", "No space left"});
}

TEST_F(GfCkpt, ImportNamesWhatItCannotRead) {
  const std::string header = R"({"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})";
  const uint64_t length = header.size();
  std::ofstream(file_, std::ios::binary).write(reinterpret_cast<const char*>(&length), 8) << header << "12345678";
  expect("import " + file_.string() + " " + (folder_ / "out").string(), 2, {"ids", "I64"});
}

// A name becomes a path in an HDF5 file, and this one would be the group that it lies in.
TEST_F(GfCkpt, ImportRefusesANameThatACheckpointCannotHave) {
  const std::string header = R"({".":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const uint64_t length = header.size();
  std::ofstream(file_, std::ios::binary).write(reinterpret_cast<const char*>(&length), 8) << header << "1234";
  expect("import " + file_.string() + " " + (folder_ / "out").string(), 2, {". in " + file_.string(), "has a name"});
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(GfCkpt, ANoteThatCannotBeWrittenEndsNothing) {
  run("export " + checkpoints_.string() + " " + file_.string());
  const ProgramResult made = run_with_streams("2>/dev/full", "gf", {"ckpt", "import", file_.string(), folder_ / "out"});
  EXPECT_EQ(made.status, 0);
  EXPECT_NE(made.out.find("1 tensors"), std::string::npos) << made.out;
}

}  // namespace
}  // namespace gf
