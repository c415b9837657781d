// SPDX-License-Identifier: Apache-2.0
#include "io/text/tokenize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "io/data/binidx.h"
#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"
#include "support/world_file.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

class Tokenize : public ::testing::Test {
 protected:
  Tokenize() { fs::create_directory(folder_ / "in"); }

  std::string in(const std::string& name, std::string_view content) {
    const fs::path path = folder_ / "in" / name;
    fs::create_directories(path.parent_path());
    write_file(path, content);
    return path;
  }
  TokenizeReport run(const TokenizeOptions& options, const Vocabulary& vocabulary) {
    advanced_ = 0;
    return tokenize(vocabulary, options, tokenize_inputs(options), [&](int64_t bytes) { advanced_ += bytes; });
  }
  TokenizeReport run(const TokenizeOptions& options) { return run(options, *bytes_); }
  std::vector<int32_t> tokens(const std::string& prefix) {
    const BinIdx data(prefix);
    data.verify();
    std::vector<int32_t> out(static_cast<size_t>(data.tokens()));
    data.read(0, out);
    return out;
  }
  std::string text(const std::string& prefix) {
    std::string out;
    for (const int32_t token : tokens(prefix)) out += token == 0 ? '|' : static_cast<char>(token - 1);
    return out;
  }

  TempFolder folder_;
  std::string out_ = folder_ / "out", input_ = folder_ / "in";
  std::unique_ptr<Vocabulary> bytes_ = Vocabulary::open("byte");
  int64_t advanced_ = 0;
};

TEST_F(Tokenize, TextAndJsonlInTheOrderGiven) {
  const std::string b = in("b.txt", "bb"), a = in("a.jsonl", "{\"text\":\"a1\"}\n{\"text\":\"a2\"}\n");
  const TokenizeReport report = run({.paths = {b, a}, .out = out_});
  EXPECT_EQ(text(out_), "bb|a1|a2|");
  EXPECT_EQ(report.train.tokens, 9);
  EXPECT_EQ(report.train.documents, 3);
  EXPECT_EQ(report.files, 2);
  EXPECT_EQ(report.bytes, 30);
  EXPECT_EQ(advanced_, 30);
  EXPECT_EQ(BinIdx(out_).documents(), 3);
  EXPECT_STREQ(BinIdx(out_).type().name, "uint16");
}

// As when a file is cut off while it is read, which may take an hour.
TEST_F(Tokenize, AFileThatShrinksIsAnError) {
  for (const std::string& path : {in("a.jsonl", "{\"text\":\"a1\"}\n{\"text\":\"a2\"}\n"), in("b.txt", "0123456789")}) {
    const TokenizeOptions options{.paths = {path}, .out = out_};
    const auto files = tokenize_inputs(options);
    const auto before = fs::file_size(path), after = before / 2;
    fs::resize_file(path, path.ends_with(".txt") ? after : after + after % 2);
    expect_error(Exit::failed, {path, cat(before, " bytes when"), cat("ends after ", fs::file_size(path))},
                 [&] { tokenize(*bytes_, options, files, {}); });
    EXPECT_FALSE(fs::exists(out_ + ".bin"));
  }
}

TEST_F(Tokenize, AFileThatGrowsIsReadToItsEnd) {
  const std::string path = in("b.txt", "0123");
  const TokenizeOptions options{.paths = {path}, .out = out_};
  const auto files = tokenize_inputs(options);
  write_file(path, "01234567");
  EXPECT_EQ(tokenize(*bytes_, options, files, {}).bytes, 8);
}

TEST_F(Tokenize, AnotherKey) {
  in("a.jsonl", "{\"text\":1,\"content\":\"x\"}");
  run({.paths = {input_}, .out = out_, .key = "content"});
  EXPECT_EQ(text(out_), "x|");
}

// Each text of a pair by itself, and the end of the document with the answer.
TEST_F(Tokenize, PairsWithAMaskOfTheAnswers) {
  const std::string pairs = in("a.jsonl",
                               "{\"q\":\"ab\",\"a\":\"c\"}\n{\"a\":\"\",\"q\":\"d\"}\n"
                               "{\"q\":\"\",\"a\":\"ef\"}\n{\"q\":\"\",\"a\":\"\"}\n");
  const TokenizeReport report = run({.paths = {pairs}, .out = out_, .prompt_key = "q", .answer_key = "a"});
  EXPECT_EQ(tokens(out_), (std::vector<int32_t>{98, 99, 100, 0, 101, 0, 102, 103, 0}));
  EXPECT_EQ(read_file(out_ + ".mask.bin"), std::string("\0\0\1\1\0\1\1\1\1", 9));
  EXPECT_EQ(report.train.documents, 3);
  EXPECT_EQ(report.train.marked, 6);
  EXPECT_EQ(report.empty_documents, 1);
  run({.paths = {in("b.txt", "plain")}, .out = out_});
  EXPECT_FALSE(fs::exists(out_ + ".mask.bin")) << "of the data set that was replaced";
}

TEST_F(Tokenize, RefusesWhatAreNoPairs) {
  const std::string lines = in("a.jsonl", "{\"q\":\"ab\"}\n");
  const auto refused = [&](const std::vector<std::string>& pieces, const TokenizeOptions& options) {
    expect_refused(pieces, [&] { run(options); });
    EXPECT_FALSE(fs::exists(out_ + ".bin") || fs::exists(out_ + ".mask.bin"));
  };
  refused({"a.jsonl:1", "no \"a\"", "q, a"}, {.paths = {lines}, .out = out_, .prompt_key = "q", .answer_key = "a"});
  refused({"--prompt-key and --answer-key go together"}, {.paths = {lines}, .out = out_, .prompt_key = "q"});
  refused({"--prompt-key and --answer-key go together"}, {.paths = {lines}, .out = out_, .answer_key = "q"});
  refused({"are both q"}, {.paths = {lines}, .out = out_, .prompt_key = "q", .answer_key = "q"});
  refused({"b.txt is no .jsonl file"},
          {.paths = {in("b.txt", "plain")}, .out = out_, .prompt_key = "q", .answer_key = "a"});
}

TEST_F(Tokenize, FoldersInSortedOrderWithoutWhatIsNoText) {
  in("z.txt", "z");
  in("b/2.txt", "b2");
  in("b/1", "b1");
  in("B.txt", "B");
  in(".hidden", "no");
  in(".git/config", "no");
  in("b/.hidden/x/y", "no");
  in("c.bin", std::string("\x7f"
                          "ELF\0no",
                          7));
  in("empty.txt", "");
  write_file(folder_ / "elsewhere", "no");
  fs::create_symlink(folder_ / "elsewhere", folder_ / "in" / "link");
  fs::create_directory_symlink(folder_ / "in" / "b", folder_ / "in" / "loop");
  const TokenizeReport report = run({.paths = {input_}, .out = out_});
  EXPECT_EQ(text(out_), "B|b1|b2|z|");
  EXPECT_EQ(report.files, 5);
  EXPECT_EQ(report.binary_files, 1);
  EXPECT_EQ(report.empty_documents, 1);
}

TEST_F(Tokenize, EmptyDocumentsAreLeftOut) {
  in("a.jsonl", "{\"text\":\"\"}\n{\"text\":\"a\"}\n{\"text\":\"\"}\n");
  EXPECT_EQ(run({.paths = {input_}, .out = out_}).empty_documents, 2);
  EXPECT_EQ(text(out_), "a|");
}

TEST_F(Tokenize, BinaryFilesOnRequest) {
  const std::string path = in("a", std::string("a\0b", 3));
  expect_refused({path + " is no text", "byte 1 is 0", "--binary"}, [&] { run({.paths = {path}, .out = out_}); });
  run({.paths = {path}, .out = out_, .binary = true});
  EXPECT_EQ(tokens(out_), (std::vector<int32_t>{98, 1, 99, 0}));
}

TEST_F(Tokenize, OutputInsideTheInputIsNotRead) {
  in("a.txt", "a");
  for (int i = 0; i < 2; ++i) run({.paths = {input_}, .out = input_ + "/data"});
  EXPECT_EQ(run({.paths = {input_}, .out = input_ + "/data", .binary = true}).files, 1);
  EXPECT_EQ(text(input_ + "/data"), "a|");
}

TEST_F(Tokenize, AFileOfManyChunksIsTheSameAsInOnePiece) {
  const auto made_up = made_up_tokens(2000);
  write_file(folder_ / "vocab", world_file(made_up));
  const auto vocabulary = Vocabulary::open(folder_ / "vocab");
  std::string long_text = made_up_text(made_up, 9'000'001, 1);
  std::ranges::replace(long_text, '\0', ' ');
  in("long.txt", long_text);
  run({.paths = {input_}, .out = out_}, *vocabulary);
  std::vector<int32_t> whole;
  vocabulary->encode(long_text, whole);
  whole.push_back(0);
  EXPECT_EQ(tokens(out_), whole);
}

TEST_F(Tokenize, HoldsOutTheSameDocumentsEveryTime) {
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += cat("{\"text\":\"<", i, ">\"}\n");
  in("a.jsonl", lines);
  const std::string held = folder_ / "held";
  const TokenizeOptions options{.paths = {input_}, .out = out_, .validation = 0.1, .validation_out = held};
  const TokenizeReport report = run(options);
  EXPECT_EQ(report.train.documents + report.validation.documents, 1000);
  EXPECT_NEAR(static_cast<double>(report.validation.documents), 100, 5 * 9.5);  // five standard deviations
  const std::string train = text(out_), validation = text(held);
  run(options);
  EXPECT_EQ(text(out_), train);
  EXPECT_EQ(text(held), validation);
  for (int i = 0; i < 1000; ++i) {
    const std::string document = cat("<", i, ">|");
    EXPECT_NE(train.find(document) == std::string::npos, validation.find(document) == std::string::npos) << i;
  }
}

TEST_F(Tokenize, RefusesWhatMakesNoDataSet) {
  const auto refused = [&](const TokenizeOptions& options, std::initializer_list<std::string> parts) {
    expect_refused(parts, [&] { run(options); });
    EXPECT_FALSE(fs::exists(out_ + ".bin")) << "something was written";
  };
  refused({.paths = {input_}, .out = out_}, {"nothing to tokenize: no files"});
  refused({.paths = {}, .out = out_}, {"nothing to tokenize: no files"});
  refused({.paths = {input_ + "/none"}, .out = out_}, {input_ + "/none", "No such file"});
  refused({.paths = {input_}, .out = ""}, {"--out"});
  const std::string held = folder_ / "held";
  in("a.txt", "");
  refused({.paths = {input_}, .out = out_}, {"nothing to tokenize: no document"});
  in("a.txt", "a");
  refused({.paths = {input_}, .out = out_, .validation = 1e-9, .validation_out = held},
          {"1 documents", "0 fall to the validation"});
  for (const double share : {1.0, -0.5, std::numeric_limits<double>::quiet_NaN()}) {
    refused({.paths = {input_}, .out = out_, .validation = share, .validation_out = held}, {cat(share), "share"});
  }
  refused({.paths = {input_}, .out = out_, .validation = 0.5}, {"go together"});
  refused({.paths = {input_}, .out = out_, .validation_out = held}, {"go together"});
  refused({.paths = {input_}, .out = out_, .validation = 0.5, .validation_out = input_ + "/../out"}, {"both", out_});
  refused({.paths = {input_}, .out = "new", .validation = 0.5, .validation_out = "./new"}, {"both", "new"});
  // A text that the output would replace.
  write_file(out_ + ".bin", "some text");
  for (const std::string& path : {out_ + ".bin", fs::path(out_).parent_path().string()})
    expect_refused({out_ + ".bin is one of the inputs"}, [&] { run({.paths = {path}, .out = out_}); });
  EXPECT_EQ(read_small_file(out_ + ".bin", 100), "some text");
  fs::remove(out_ + ".bin");
  refused({.paths = {input_}, .out = "new", .validation = 0.5, .validation_out = fs::absolute("new").string()},
          {"both", "new"});
}

TEST_F(Tokenize, ABadLineLeavesWhatWasThere) {
  const std::string path = in("a.jsonl", "{\"text\":\"good\"}\n");
  run({.paths = {path}, .out = out_});
  in("a.jsonl", "{\"text\":\"new\"}\n{\"text\":}\n");
  expect_refused({path + ":2: "}, [&] { run({.paths = {path}, .out = out_}); });
  EXPECT_EQ(text(out_), "good|");
  EXPECT_FALSE(fs::exists(out_ + ".bin.partial") || fs::exists(out_ + ".idx.partial"));
}

}  // namespace
}  // namespace gf
