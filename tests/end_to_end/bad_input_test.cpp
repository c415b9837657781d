// SPDX-License-Identifier: Apache-2.0
// Whatever is wrong with what a user gives: status 2, one message with what is wrong and what to do, and not a byte
// on the disk is another.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "end_to_end/tiny_training.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_index.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "io/data/sampler.h"
#include "support/binidx_files.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class BadInput : public TinyTraining {
 protected:
  using Pieces = std::vector<std::string>;

  // One message of two lines: what is wrong, with all these pieces in it, and what to do.
  static void expect_message(const ProgramResult& result, const std::string& program, const Pieces& pieces) {
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(count_lines(result.err), 2) << result.err;
    EXPECT_TRUE(result.err.starts_with(program + ": ")) << result.err;
    EXPECT_NE(result.err.find("\n  try: "), std::string::npos) << result.err;
    for (const std::string& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << "\"" << piece << "\" is not in: " << result.err;
  }
  void expect_refused(const Options& changes, const Pieces& pieces) const {
    SCOPED_TRACE(changes.empty() ? "" : cat("--", changes.begin()->first, " ", changes.begin()->second));
    const auto before = contents(folder_.path());
    expect_message(train(changes), "gf-dist-train", pieces);
    EXPECT_TRUE(contents(folder_.path()) == before) << "files have changed";
  }
  void expect_gf_refuses(const std::vector<std::string>& arguments, const Pieces& pieces) const {
    SCOPED_TRACE(cat("gf ", arguments[0], " ", arguments[1], " ... ", arguments.back()));
    const auto before = contents(folder_.path());
    expect_message(run_program("gf", arguments), "gf " + arguments[0], pieces);
    EXPECT_TRUE(contents(folder_.path()) == before) << "files have changed";
  }
  fs::path newest(const std::string& suffix = "0") const { return newest_checkpoint(checkpoints(suffix))->path; }
  // Of the first value of some tensor.
  static size_t place_of_a_value(const fs::path& step) {
    return static_cast<size_t>(read_index(step / kIndexFile).tensors.at(0).blocks.at(0).offset);
  }
  static void flip_bit(const fs::path& path, size_t byte) {
    std::string bytes = read_file(path);
    bytes.at(byte) = static_cast<char>(bytes.at(byte) ^ 8);
    write_file(path, bytes);
  }
};

TEST_F(BadInput, Data) {
  const std::vector<uint16_t> tokens = random_tokens(200, 65);
  const IdxFields good = idx_of({200}, 8, 2);
  const auto with_idx = [&](const char* name, const std::string& idx) {
    write_file(folder_ / (std::string(name) + ".bin"), bytes_of(tokens));
    write_file(folder_ / (std::string(name) + ".idx"), idx);
    return (folder_ / name).string();
  };
  const auto changed = [&](auto change) {
    IdxFields fields = good;
    change(fields);
    return fields.bytes();
  };
  const std::string nothing = folder_ / "nothing", only_idx = with_idx("only_idx", good.bytes()),
                    cut_bin = with_idx("cut_bin", good.bytes());
  fs::remove(only_idx + ".bin");
  fs::resize_file(cut_bin + ".bin", 300);

  expect_refused({{"train.data_file", nothing}}, {nothing + ".idx", "No such file"});
  expect_refused({{"train.data_file", only_idx}}, {only_idx + ".bin", "No such file"});
  expect_refused({{"train.data_file", cut_bin}}, {cut_bin + ".bin has 300 bytes", "describes 400"});
  expect_refused({{"train.data_file", with_idx("cut", good.bytes().substr(0, 50))}}, {"cut.idx", "50 bytes"});
  expect_refused({{"train.data_file", with_idx("empty", "")}}, {"empty.idx", "0 bytes"});
  expect_refused({{"train.data_file", with_idx("magic", changed([](auto& f) { f.magic[0] = 'X'; }))}},
                 {"magic.idx", "MMIDIDX"});
  expect_refused({{"train.data_file", with_idx("version", changed([](auto& f) { f.version = 7; }))}},
                 {"version.idx", "version 7", "reads 1"});
  expect_refused({{"train.data_file", with_idx("dtype", changed([](auto& f) { f.dtype = 6; }))}},
                 {"dtype.idx", "dtype 6", "1, 2, 3, 4, 5, 8"});
  expect_refused({{"train.data_file", with_idx("lies", changed([](auto& f) { f.sequences = uint64_t{1} << 62; }))}},
                 {"lies.idx", "4611686018427387904 sequences"});
  expect_refused({{"train.data_file", data_set("short", random_tokens(32, 65))}}, {"32 tokens", "at least 33"});
  expect_refused({{"train.validation_data_file", nothing}}, {nothing + ".idx", "No such file"});
  expect_refused({{"train.validation_data_file", data_set("tiny", random_tokens(16, 65))}}, {"16 tokens", "17"});
  expect_refused({{"train.data_file", ""}}, {"train.data_file is not set"});
}

// Such a token is met when it is read, which may be after hours: the steps before it are saved.
TEST_F(BadInput, TokenBeyondTheVocabulary) {
  std::vector<uint16_t> tokens = random_tokens(3000, 65);
  const int64_t bad = Sampler(3000, 16).offset(6) + 5;
  tokens[static_cast<size_t>(bad)] = 300;
  const ProgramResult result = train({{"train.data_file", data_set("beyond", tokens)}, {"train.micro_bsz", "1"}});
  expect_message(result, "gf-dist-train", {"beyond.bin", cat("token 300 at position ", bad), "vocabulary of 65"});
  EXPECT_EQ(count_lines(metrics_text("0")), 6);
  EXPECT_EQ(newest_checkpoint(checkpoints("0"))->step, 6);
}

TEST_F(BadInput, DataOfAnotherVocabulary) {
  expect_refused({{"train.data_file", data_set("other", std::vector<uint16_t>(3000, 300))}}, {"token 300", "of 65"});
}

TEST_F(BadInput, Keys) {
  const auto file = [&](const char* name, const std::string& text) {
    write_file(folder_ / name, text);
    return (folder_ / name).string();
  };
  const auto expect_file_refused = [&](const std::string& path, const Pieces& pieces) {
    SCOPED_TRACE(path);
    const auto before = contents(folder_.path());
    expect_message(run_program("gf-dist-train", {"-c", path}), "gf-dist-train", pieces);
    EXPECT_TRUE(contents(folder_.path()) == before);
  };
  expect_refused({{"train.micro_bzs", "2"}}, {"--train.micro_bzs", "did you mean --train.micro_bsz?"});
  expect_refused({{"train.micro_bsz", "two"}}, {"train.micro_bsz", "two"});
  expect_refused({{"train.micro_bsz", "2.5"}}, {"train.micro_bsz", "2.5"});
  expect_refused({{"train.lr_init", "fast"}}, {"train.lr_init", "fast"});
  expect_refused({{"train.grad_cp", "maybe"}}, {"train.grad_cp", "maybe"});
  expect_refused({{"train.max_steps", "99999999999999999999"}}, {"train.max_steps", "99999999999999999999"});
  expect_refused({{"train.lr_decay_type", "cosine"}}, {"cosine", "cos, linear, exp, oneminussqrt"});
  expect_refused({{"model.tmix", "x070"}}, {"x070", "x060c2"});
  expect_refused({{"parallel.pipeline", "2"}}, {"parallel.pipeline 2", "the 1 rank that there is"});
  expect_file_refused(file("unknown.yaml", "model:\n  n_layers: 3\n"), {"unknown.yaml:2", "n_layers", "n_layer"});
  expect_file_refused(file("type.yaml", "model:\n  n_layer: three\n"), {"type.yaml:2", "three"});
  expect_file_refused(file("section.yaml", "model: 3\n"), {"section.yaml:1", "model"});
  expect_file_refused(file("broken.yaml", "model: {n_layer: 3\n"), {"broken.yaml"});
  expect_file_refused(folder_ / "nothing.yaml", {"nothing.yaml"});
}

TEST_F(BadInput, Sizes) {
  expect_refused({{"model.head_size", "24"}}, {"model.head_size 24", "model.dim_att 32"});
  expect_refused({{"model.n_embd", "2048"}, {"model.head_size", "2048"}}, {"model.head_size is 2048", "at most 1024"});
  expect_refused({{"model.n_layer", "0"}}, {"model.n_layer is 0"});
  expect_refused({{"model.n_layer", "-3"}}, {"model.n_layer is -3"});
  expect_refused({{"model.n_embd", "33"}}, {"model.n_embd is 33", "32"});
  expect_refused({{"model.n_embd", "1000000000000"}}, {"model.n_embd is 1000000000000"});
  expect_refused({{"model.vocab_size", "0"}}, {"model.vocab_size is not set"});
  expect_refused({{"model.ctx_len", "0"}}, {"model.ctx_len is 0"});
  expect_refused({{"model.inv_other_layer_ratio", "1"}}, {"model.inv_other_layer_ratio 1", "no lower layer", "of 3"});
  expect_refused({{"model.inv_other_layer_ratio", "nan"}}, {"model.inv_other_layer_ratio", "nan"});
  expect_refused({{"model.kv_cache_compression_ratio", "64"}}, {"64", "32"});
  expect_refused({{"model.dim_att", "64"}}, {"model.dim_att is 64", "model.n_embd 32"});
  expect_refused({{"model.dropout", "1"}}, {"model.dropout is 1"});
  expect_refused({{"train.micro_bsz", "0"}}, {"train.micro_bsz is 0"});
  // 40320 samples of an epoch are no whole number of steps of 22.
  expect_refused({{"train.epoch_begin", "1"}, {"train.accumulate_grad_batches", "11"}}, {"40320", "22"});
  expect_refused({{"train.epoch_begin", "1"}}, {"20160", "3125"});
  expect_refused({{"train.accumulate_grad_batches", "1000000"}, {"train.micro_bsz", "100000"}},
                 {"1000000", "100000", "1073741824"});
  expect_refused({{"train.magic_prime", "100"}}, {"100", "not a prime"});
  expect_refused({{"train.my_exit_tokens", "100"}, {"train.warmup_steps", "50"}}, {"100", "50"});
  // As large as a config may say, and larger than any machine's memory.
  expect_refused({{"model.n_embd", "65536"}, {"model.n_layer", "3000"}}, {"the run needs", "and there are"});
}

TEST_F(BadInput, RunFolder) {
  const std::string file = folder_ / "file";
  write_file(file, "");
  expect_refused({{"train.proj_dir", file}}, {file, "cannot be written", "Not a directory"});
  expect_refused({{"train.proj_dir", file + "/out"}}, {file + "/out", "cannot be written", "Not a directory"});
  expect_refused({{"train.proj_dir", "/proc/out"}}, {"/proc/out", "cannot be written"});
  expect_refused({{"train.proj_suffix", "a/b"}}, {"a/b", "one folder"});
  fs::create_directories(run("0"));
  write_file(checkpoints("0"), "");
  expect_refused({}, {checkpoints("0"), "cannot be written"});
}

// What links in a run folder that somebody handed over lead to is not written; a name that the user gives is.
TEST_F(BadInput, LinksInARunFolder) {
  trained({{"train.max_steps", "2"}});
  write_file(folder_ / "victim", "precious");
  for (const char* name : {"lock", "metrics.jsonl", "config.yaml"}) {
    fs::rename(run("0") / name, folder_ / "kept");
    fs::create_symlink("../../victim", run("0") / name);
    expect_refused({{"train.max_steps", "4"}}, {run("0") / name, "is a symbolic link", "put the file itself"});
    fs::rename(folder_ / "kept", run("0") / name);
  }
  fs::create_symlink("../../victim", run("0") / "report.html");
  expect_gf_refuses({"report", run("0")}, {run("0") / "report.html", "is a symbolic link"});
  fs::create_symlink(folder_ / "victim", folder_ / "page.html");
  const ProgramResult asked = run_program("gf", {"report", run("0"), "--out", folder_ / "page.html"});
  EXPECT_EQ(asked.status, 0) << asked.err;
  EXPECT_NE(read_file(folder_ / "victim"), "precious") << "a link that a user names is followed";
}

// A run folder with a link to another run's checkpoints, handed over or copied: they stay as they are.
TEST_F(BadInput, CheckpointsOfAnotherRun) {
  trained({{"train.save_every_steps", "4"}});
  const Options other = {{"train.proj_suffix", "other"}, {"train.max_steps", "20"}, {"train.keep_checkpoints", "1"}};
  const Pieces pieces = {checkpoints("other"), "is a symbolic link to ../tiny-0/checkpoints", run("other")};
  fs::create_directories(run("other"));
  fs::create_symlink("../tiny-0/checkpoints", checkpoints("other"));
  expect_refused(other, pieces);
  // While that run trains, too: its lock is not in its checkpoints.
  Process first("gf-dist-train", arguments({{"train.max_steps", "0"}, {"train.my_exit_tokens", "1000000000000"}}),
                {{"OMP_NUM_THREADS", "1"}});
  ASSERT_TRUE(first.wait_until([&] { return count_lines(metrics_text("0")) > 12; }));
  expect_message(train(other), "gf-dist-train", pieces);
  first.send(SIGTERM);
  EXPECT_EQ(first.wait().status, 75);
}

TEST_F(BadInput, RunFolderInUse) {
  const Options endless = {{"train.max_steps", "0"}, {"train.my_exit_tokens", "1000000000000"}};
  Process first("gf-dist-train", arguments(endless), {{"OMP_NUM_THREADS", "1"}});
  ASSERT_TRUE(first.wait_until([&] { return !metrics_text("0").empty(); }));
  expect_message(train(endless), "gf-dist-train", {run("0"), "in use by process "});
  const int steps = count_lines(metrics_text("0"));
  EXPECT_TRUE(first.wait_until([&] { return count_lines(metrics_text("0")) > steps; })) << "the first goes on";
  first.send(SIGTERM);
  EXPECT_EQ(first.wait().status, 75);
}

TEST_F(BadInput, CheckpointOfTheRun) {
  const Options save = {{"train.max_steps", "2"}, {"train.save_every_steps", "1"}};
  trained(save);
  // Another model, another step.
  expect_refused({{"model.n_embd", "64"}},
                 {"is 65x64 in the model and 65x32 in the checkpoint", "--model.n_embd 32", "--train.proj_suffix"});
  expect_refused({{"model.n_layer", "6"}}, {"in the model and not in the checkpoint", "--model.n_layer 3"});
  // Another model of the same shapes.
  expect_refused({{"model.parallel", "1"}}, {"model.parallel is 1", "begun with 0"});
  expect_refused({{"model.alibi", "on"}}, {"model.alibi is on", "begun with none", "--model.alibi none"});
  expect_refused({{"model.ctx_len", "32"}}, {"model.ctx_len is 32", "begun with 16"});
  expect_refused({{"train.micro_bsz", "4"}}, {"is 4", "begun with 2"});
  // Damaged files: no step is lost by going back to an older one unasked.
  const fs::path part = newest() / part_file_name(0, 1), index = newest() / kIndexFile;
  flip_bit(part, place_of_a_value(newest()));
  expect_refused({}, {part, "is damaged"});
  flip_bit(part, place_of_a_value(newest()));
  for (const size_t byte : {size_t{0}, fs::file_size(index) / 2, fs::file_size(index) - 1}) {
    flip_bit(index, byte);
    expect_refused({}, {index});
    flip_bit(index, byte);
  }
  for (const fs::path& path : {part, index}) {
    SCOPED_TRACE(path.filename().string());
    const std::string good = read_file(path);
    fs::resize_file(path, good.size() / 2);
    expect_refused({}, {path});
    fs::remove(path);
    if (path == part) expect_refused({}, {path, "there is no "});
    write_file(path, good);
  }
  trained();
}

TEST_F(BadInput, ModelToLoad) {
  trained({{"train.proj_suffix", "from"}, {"train.max_steps", "2"}});
  const fs::path step = newest("from"), part = step / part_file_name(0, 1);
  expect_refused({{"train.load_model", folder_ / "nothing"}}, {folder_ / "nothing", "no such file"});
  expect_refused({{"train.load_model", step}, {"model.vocab_size", "66"}}, {"66x32", "65x32"});
  expect_refused({{"train.load_model", step}, {"model.n_layer", "6"}},
                 {"not in the checkpoint", "--train.load_partial"});
  expect_refused({{"train.load_model", step}, {"train.load_partial", "1"}, {"model.n_embd", "64"}}, {"65x64", "65x32"});
  flip_bit(part, place_of_a_value(step));
  expect_refused({{"train.load_model", step}}, {part, "is damaged"});
  flip_bit(part, place_of_a_value(step));
  fs::resize_file(part, fs::file_size(part) - 1);
  expect_refused({{"train.load_model", step}}, {part, "is damaged"});
  fs::remove(step / kDoneFile);
  expect_refused({{"train.load_model", step}}, {step, "DONE"});
  expect_refused({{"train.load_model", run("from")}}, {run("from"), "no complete checkpoint"});
  write_file(folder_ / "other.h5", "\x89HDF\r\n\x1a\n and so on");
  expect_refused({{"train.load_model", folder_ / "other.h5"}},
                 {"other.h5 is no checkpoint: it does not begin with gf-checkpoint-", "a run folder"});
}

// Whoever asks a trained model has no options of the trainer, and none would change what a checkpoint says.
TEST_F(BadInput, ConfigurationInACheckpoint) {
  const auto self = make_self_communicator();
  const Tensor values = Tensor::zeros({2, 3}, DType::f32, kCpu);
  const std::string checkpoint = folder_ / "c", data = data_set("some", random_tokens(200, 65));
  for (const auto& [config, said] :
       {std::pair<std::string, std::string>{"model: {vocab_size: 257, n_embd: 32, head_size: 16, ctx_len: 99999999}\n",
                                            "is wrong: model.ctx_len is 99999999 and must be"},
        {"model: {vocab_size: 257, n_embd: 33}\n", "is wrong: model.n_embd is 33 and must be"},
        {"model: {vocab_size: 257, n_embd: many}\n", "model.n_embd is \"many\" and must be"},
        {"model: [\n", "checkpoint.h5:"}}) {
    Attributes attributes;
    attributes.config = config;
    CheckpointWriter(checkpoint, *self, 0)
        .write(attributes, std::vector<ShardView>{{"model/emb.weight", DType::f32, {2, 3}, 0, 6, values.raw()}});
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"eval", "--checkpoint", checkpoint, "--data", data},
          {"generate", "--checkpoint", checkpoint, "--vocab", "byte", "--prompt", "a", "--tokens", "1"},
          {"score", "--checkpoint", checkpoint, "--vocab", "byte"}})
      expect_gf_refuses(arguments, {checkpoint, said, "\n  try: another checkpoint; or gf ckpt import, with --config"});
  }
}

TEST_F(BadInput, Safetensors) {
  trained({{"train.proj_suffix", "from"}, {"train.max_steps", "2"}});
  const std::string good = folder_ / "good.safetensors", bad = folder_ / "bad.safetensors";
  ASSERT_EQ(run_program("gf", {"ckpt", "export", run("from"), good}).status, 0);
  const std::string bytes = read_file(good);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const std::string text = bytes.substr(8, length), values = bytes.substr(8 + length);
  const auto expect_both = [&](const std::string& content, const Pieces& pieces) {
    write_file(bad, content);
    expect_refused({{"train.load_model", bad}}, pieces);
    expect_gf_refuses({"ckpt", "import", bad, folder_ / "imported"}, pieces);
  };
  const auto file_of = [](uint64_t size, const std::string& header, const std::string& rest) {
    std::string out;
    append_bytes(out, size);
    return out + header + rest;
  };
  const auto with_header = [&](auto change) {
    auto header = nlohmann::ordered_json::parse(text);
    change(header);
    const std::string changed = header.dump();
    return file_of(changed.size(), changed, values);
  };
  const char* name = "emb.weight";
  expect_both("", {bad, "0 bytes"});
  expect_both(bytes.substr(0, bytes.size() - 4), {bad});
  expect_both(file_of(uint64_t{1} << 63, text, values), {bad, "9223372036854775808"});
  expect_both(file_of(length - 8, text, values), {bad});
  expect_both(with_header([&](auto& h) { h[name]["shape"] = {65, 33}; }), {bad, name});
  expect_both(with_header([&](auto& h) { h[name]["shape"] = {int64_t{1} << 40, int64_t{1} << 40}; }), {bad, name});
  expect_both(with_header([&](auto& h) { h[name]["shape"] = {-65, -32}; }), {bad, name});
  expect_both(with_header([&](auto& h) { h[name]["data_offsets"] = {0, int64_t{1} << 60}; }), {bad, name});
  expect_both(with_header([&](auto& h) { h[name]["data_offsets"][1] = values.size() + 8; }), {bad, name});
  expect_both(with_header([&](auto& h) { h[name].erase("dtype"); }), {bad, name});
  const std::string twice = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],)"
                            R"("data_offsets":[4,8]}})";
  expect_both(file_of(twice.size(), twice, std::string(8, 'x')), {bad, "twice"});
  // What is there but cannot be read is no reason for fresh values.
  write_file(bad, with_header([](auto& h) { h["head.weight"]["dtype"] = "I32"; }));
  for (const char* partial : {"0", "1"})
    expect_refused({{"train.load_model", bad}, {"train.load_partial", partial}}, {bad, "head.weight", "stored as I32"});
}

}  // namespace
}  // namespace gf
