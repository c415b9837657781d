// SPDX-License-Identifier: Apache-2.0
// gf data as a user or script meets it: status, what it prints, what it leaves.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <regex>

#include "io/data/binidx.h"
#include "support/binidx_files.h"
#include "support/files.h"
#include "support/run_program.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

class GfData : public ::testing::Test {
 protected:
  ProgramResult run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "data");
    return run_program("gf", arguments);
  }
  void refused(const std::vector<std::string>& arguments, std::initializer_list<std::string> parts) {
    const ProgramResult result = run(arguments);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(result.err.rfind("gf data: ", 0), 0u) << result.err;
    for (const auto& part : parts) EXPECT_NE(result.err.find(part), std::string::npos) << part << ": " << result.err;
  }
  static void contains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
  }

  TempFolder folder_;
  std::string text_ = folder_ / "a.txt", out_ = folder_ / "out";
};

TEST_F(GfData, TokenizeAndInfo) {
  write_file(text_, std::string(5000, 'x'));
  const ProgramResult made = run({"tokenize", "--vocab", "byte", "--out", out_, text_});
  EXPECT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(made.err, "");  // no progress line where there is no terminal
  contains(made.out, out_ + ": 5001 tokens in 1 document, vocab_size 257\n");
  contains(made.out, "(5000 bytes) of 1 file");

  const ProgramResult info = run({"info", out_, "--ctx-len", "100"});
  EXPECT_EQ(info.status, 0) << info.err;
  EXPECT_EQ(info.out,
            "tokens: 5001\ndocuments: 1\nsequences: 1\ndtype: uint16\nlargest_token: 121\n"
            "ctx_len: 100\nmagic_prime: 47\nmy_exit_tokens: 4700\n");
}

TEST_F(GfData, InfoOfSeveralIsThatOfAllAsOne) {
  write_binidx(folder_ / "b", std::vector<int32_t>{7, 300, 9}, 4);
  write_binidx(folder_ / "a", std::vector<uint8_t>(98, 5), 1);
  const ProgramResult info = run({"info", folder_ / "a", "--ctx-len=10", folder_ / "b"});
  EXPECT_EQ(info.status, 0) << info.err;
  EXPECT_EQ(info.out,
            "files: 2\ntokens: 101\ndocuments: 2\nsequences: 2\ndtype: int32, uint8\nlargest_token: 300\n"
            "ctx_len: 10\nmagic_prime: 5\nmy_exit_tokens: 50\n");
  refused({"info", folder_ / "a", folder_ / "none", folder_ / "b"}, {(folder_ / "none").string() + ".idx"});
}

TEST_F(GfData, HoldsOutAPart) {
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "{\"body\":\"some text\"}\n";
  write_file(folder_ / "a.jsonl", lines);
  refused({"tokenize", "--vocab=byte", "--out", out_, folder_ / "a.jsonl"}, {"a.jsonl:1", "--key names another"});
  const std::string held = folder_ / "held";
  const ProgramResult result = run({"tokenize", "--vocab=byte", "--key=body", "--validation", "0.25",
                                    "--validation-out", held, "--out", out_, folder_ / "a.jsonl"});
  EXPECT_EQ(result.status, 0) << result.err;
  contains(result.out, held + ": ");
  EXPECT_EQ(BinIdx(out_).documents() + BinIdx(held).documents(), 200);
}

TEST_F(GfData, PairsHaveAMask) {
  const std::string pairs = folder_ / "a.jsonl", held = folder_ / "held";
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += "{\"q\":\"two and two?\",\"a\":\"four\"}\n";
  write_file(pairs, lines);
  const ProgramResult made =
      run({"tokenize", "--vocab=byte", "--prompt-key=q", "--answer-key=a", "--out", out_, pairs});
  EXPECT_EQ(made.status, 0) << made.err;
  contains(made.out, out_ + ": 850 tokens in 50 documents, 250 marked, vocab_size 257\n");
  contains(run({"info", out_, "--ctx-len=10"}).out, "largest_token: 120\nmarked: 250\n");
  const ProgramResult parted = run({"tokenize", "--vocab=byte", "--prompt-key=q", "--answer-key=a", "--out", out_,
                                    "--validation=0.5", "--validation-out", held, pairs});
  EXPECT_EQ(parted.status, 0) << parted.err;
  contains(run({"info", out_, held, "--ctx-len=10"}).out, "marked: 250\n");

  refused({"tokenize", "--vocab=byte", "--prompt-key=q", "--answer-key=a", "--key=t", "--out", out_, pairs},
          {"--key and --prompt-key"});
  refused({"tokenize", "--vocab=byte", "--prompt-key=q", "--out", out_, pairs}, {"go together"});
  write_file(out_ + ".mask.bin", "short");
  refused({"info", out_}, {out_ + ".mask.bin", "5 bytes"});
  std::filesystem::remove(out_ + ".mask.bin");
  refused({"info", held, out_}, {out_ + ".mask.bin is not there"});
}

TEST_F(GfData, OutputsThatAreNoFilesAreRefused) {
  write_file(text_, "abc");
  const std::string pipe = out_ + ".bin";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  refused({"tokenize", "--vocab=byte", "--out", out_, text_}, {pipe, "is not a regular file"});
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

#if !defined(GF_SANITIZED)  // which cannot live with such a limit
TEST_F(GfData, ALineThatDoesNotFitIntoMemoryIsNamed) {
  const std::string lines = folder_ / "a.jsonl";
  write_file(lines, "{\"text\":\"a\"}\n");
  std::filesystem::resize_file(lines, 1'000'000'000);  // a hole, as one line
  const ProgramResult result =
      run_program("/bin/bash", {"-c", "ulimit -v 900000 && exec \"$@\"", "bash", cat(GF_BIN_DIR, "/gf"), "data",
                                "tokenize", "--vocab=byte", "--out", out_, lines});
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_TRUE(std::regex_search(
      result.err, std::regex("^gf data: .*a.jsonl:2: a line of more than [0-9]{8,} bytes does not fit into memory\n"
                             "  try: shorter lines, or more memory")))
      << result.err;
}
#endif

TEST_F(GfData, Mqar) {
  const ProgramResult made =
      run({"mqar", "--length=32", "--pairs=2", "--examples=40", "--seed=3", "--vocab-size=100", "--out", out_});
  EXPECT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(made.out, out_ +
                          ": 40 examples of 32 tokens, 80 marked, vocab_size 100\n"
                          "read them with model.ctx_len 32 in training; for gf eval and validations, make others with "
                          "--windows\n");
  contains(run({"info", out_, "--ctx-len=32"}).out, "tokens: 1280\ndocuments: 40\n");
  contains(run({"info", out_, "--ctx-len=32"}).out, "marked: 80\n");
  refused({"mqar", "--length=32", "--pairs=9", "--examples=40", "--out", out_}, {"--pairs is 9", "32 tokens"});
  refused({"mqar", "--out", out_}, {"--examples"});
}

TEST_F(GfData, InfoOfDataTooShortSaysWhatThereIs) {
  write_file(text_, "abc");
  ASSERT_EQ(run({"tokenize", "--vocab", "byte", "--out", out_, text_}).status, 0);
  const ProgramResult info = run({"info", out_});
  EXPECT_EQ(info.status, 2);
  contains(info.out, "tokens: 4\n");
  contains(info.err, "4 tokens, and ctx_len 1024 needs at least 2049");
}

TEST_F(GfData, RefusesWrongCommandLines) {
  write_file(text_, "abc");
  refused({}, {"no command", "gf data tokenize"});
  refused({"frobnicate"}, {"\"frobnicate\""});
  refused({"tokenize", "--vocab", "byte", text_}, {"--out"});
  refused({"tokenize", "--out", out_, text_}, {"--vocab"});
  refused({"tokenize", "--vocab", "byte", "--out", out_}, {"no PATH given"});
  refused({"tokenize", "--vocab", "byte", "--out", out_, "--validation", "x", text_}, {"--validation"});
  refused({"tokenize", "--vocab", "byte", "--out", out_, folder_ / "none"}, {"none", "No such file"});
  refused({"tokenize", "--vocab", folder_ / "none", "--out", out_, text_}, {"none", "--vocab byte"});
  refused({"tokenize", "--vocab", "byte", "--out", "/proc/none/out", text_}, {"/proc/none"});
  refused({"info"}, {"no PREFIX given"});
  refused({"info", out_}, {out_ + ".idx"});
  refused({"info", out_, "--ctx-len", "0"}, {"--ctx-len 0"});
}

TEST_F(GfData, Help) {
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"--help"}, {"tokenize", "--help"}, {"info", "--help"}, {"mqar", "--help"}}) {
    const ProgramResult result = run(arguments);
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.out.rfind("usage: gf data ", 0), 0u) << result.out;
  }
}

}  // namespace
}  // namespace gf
