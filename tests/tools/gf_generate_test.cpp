// SPDX-License-Identifier: Apache-2.0
// gf generate as a user meets it: a model that has learned one sentence, and one that knows nothing.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "support/files.h"
#include "support/process.h"
#include "support/tiny_run.h"
#include "support/world_file.h"

namespace gf {
namespace {

// A thread count for the programs that run while it lives.
class Threads {
 public:
  explicit Threads(const char* count) { setenv("OMP_NUM_THREADS", count, 1); }
  ~Threads() { unsetenv("OMP_NUM_THREADS"); }
};

class GfGenerate : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    learned_ = new_run_that_read("the goldfinch says \u20AC5. ", "150");
    fresh_ = new TinyRun({"--train.train_stage", "1"});
  }
  static void TearDownTestSuite() {
    delete folder_;
    delete learned_;
    delete fresh_;
  }
  static ProgramResult generate(const TinyRun& run, const std::string& prompt, std::vector<std::string> more) {
    std::vector<std::string> arguments{"generate", "--checkpoint", run.checkpoint(), "--vocab", "byte",
                                       "--prompt", prompt};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program("gf", arguments);
  }
  static std::string text(const TinyRun& run, const std::string& prompt, const std::vector<std::string>& more) {
    const ProgramResult result = generate(run, prompt, more);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }
  static void expect_refused(const std::vector<std::string>& more, const std::vector<std::string>& pieces) {
    const ProgramResult result = generate(*fresh_, "a", more);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(result.out, "");
    for (const std::string& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
  }

  inline static TempFolder* folder_;
  inline static TinyRun *learned_, *fresh_;
};

TEST_F(GfGenerate, SaysWhatItLearned) {
  const ProgramResult result = generate(*learned_, "the goldf", {"--tokens", "22", "--temperature", "0"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "inch says \u20AC5. the go");
  EXPECT_NE(result.err.find("prompt: 9 tokens"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("text: 22 tokens"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("tokens/s; ended by --tokens"), std::string::npos) << result.err;
}

TEST_F(GfGenerate, LeavesOutHalfACharacter) {
  const ProgramResult result = generate(*learned_, "the goldfinch sa", {"--tokens", "5", "--temperature=0"});
  EXPECT_EQ(result.out, "ys ");
  EXPECT_NE(result.err.find("left out an unfinished character at the end (2 bytes)"), std::string::npos) << result.err;
}

TEST_F(GfGenerate, EndsBeforeAStopText) {
  const ProgramResult result =
      generate(*learned_, "the goldf", {"--tokens=100", "--temperature=0", "--stop=never", "--stop", "\u20AC5"});
  EXPECT_EQ(result.out, "inch says ");
  EXPECT_NE(result.err.find("ended by --stop"), std::string::npos) << result.err;
}

TEST_F(GfGenerate, TheSeedDecidesAndNothingElse) {
  const std::vector<std::string> options{"--tokens", "60", "--top-p", "0.95", "--seed", "3"};
  std::string one, two;
  {
    const Threads threads("1");
    one = text(*fresh_, "a", options);
  }
  {
    const Threads threads("2");
    two = text(*fresh_, "a", options);
  }
  EXPECT_GT(one.size(), 10u);
  EXPECT_EQ(one, two);
  EXPECT_NE(one, text(*fresh_, "a", {"--tokens", "60", "--top-p", "0.95", "--seed", "4"}));
}

TEST_F(GfGenerate, WithOneCandidateTheSeedDoesNotMatter) {
  const std::string greedy = text(*fresh_, "a", {"--tokens=30", "--temperature=0"});
  EXPECT_EQ(text(*fresh_, "a", {"--tokens=30", "--top-k=1", "--seed=1"}), greedy);
  EXPECT_EQ(text(*fresh_, "a", {"--tokens=30", "--top-p=1e-6", "--seed=2"}), greedy);
}

TEST_F(GfGenerate, AnEmptyPromptBeginsADocument) {
  const ProgramResult result = generate(*fresh_, "", {"--tokens", "3"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.err.find("prompt: 1 token in"), std::string::npos) << result.err;
}

TEST_F(GfGenerate, APromptMayBeLongerThanCtxLen) {
  std::string prompt;
  while (prompt.size() < 200) prompt += "the goldfinch says \u20AC5. ";
  EXPECT_EQ(text(*learned_, prompt + "the goldf", {"--tokens=4", "--temperature=0"}), "inch");
}

TEST_F(GfGenerate, TheTextDoesNotDependOnPiecesOrCaches) {
  std::string prompt;
  while (prompt.size() < 300) prompt += "the goldfinch says \u20AC5. ";
  const std::string want = text(*learned_, prompt, {"--tokens=40", "--temperature=0"});
  for (const char* chunk : {"1", "7", "64", "1000"})
    for (const char* cache : {"compressed", "expanded"})
      EXPECT_EQ(text(*learned_, prompt, {"--tokens=40", "--temperature=0", "--chunk", chunk, "--cache", cache}), want)
          << chunk << " " << cache;
  for (const char* option : {"--cache-dtype=bf16", "--weights=bf16"})  // far from any choice between equals
    EXPECT_EQ(text(*learned_, prompt, {"--tokens=40", "--temperature=0", option}), want) << option;
}

// What is kept is rounded; what is made anew from it would not be by itself.
TEST_F(GfGenerate, TheTextThatIsDrawnDoesNotDependOnTheCache) {
  const std::string prompts = *folder_ / "many.jsonl";
  std::string lines;
  for (int i = 0; i < 40; ++i) lines += "{\"prompt\": \"the goldfinch says " + std::to_string(i) + "\"}\n";
  write_file(prompts, lines);
  for (const char* dtype : {"f32", "bf16"}) {
    const auto texts = [&](const char* cache) {
      const ProgramResult result = run_program(
          "gf", {"generate", "--checkpoint", learned_->checkpoint(), "--vocab", "byte", "--prompt-file", prompts,
                 "--tokens=60", "--temperature=1.5", "--seed=3", "--cache-dtype", dtype, "--cache", cache});
      EXPECT_EQ(result.status, 0) << result.err;
      return result.out;
    };
    const std::string compressed = texts("compressed");
    EXPECT_GT(compressed.size(), 2000u);
    EXPECT_EQ(compressed, texts("expanded")) << dtype;
  }
}

TEST_F(GfGenerate, AKeptStateIsGoneOnFrom) {
  const std::string state = *folder_ / "state";
  const std::vector<std::string> greedy{"--tokens=10", "--temperature=0"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), greedy.begin(), greedy.end());
    return more;
  };
  const std::string begin = text(*learned_, "the goldf", with({"--state-out", state}));
  EXPECT_EQ(begin, "inch says ");
  EXPECT_EQ(text(*learned_, "", with({"--state-in", state})), "\u20AC5. the ");
  EXPECT_EQ(text(*learned_, "\u20AC5. the goldfi", with({"--state-in", state})), "nch says ");
  expect_refused({"--tokens=1", "--state-in", state}, {"its model is"});
  const ProgramResult weights = generate(*learned_, "", with({"--state-in", state, "--weights=bf16"}));
  EXPECT_EQ(weights.status, 2);
  EXPECT_NE(weights.err.find("its weights is f32, and here it is bf16"), std::string::npos) << weights.err;
  EXPECT_NE(weights.err.find("try: the same --weights"), std::string::npos) << weights.err;
  const ProgramResult other = generate(*learned_, "", with({"--state-in", state, "--cache=compressed"}));
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find("its cache is expanded, and here it is compressed"), std::string::npos) << other.err;
}

// Of the Euro sign the first byte is read and not shown, then two of its three.
TEST_F(GfGenerate, AKeptStateIsGoneOnFromWithinACharacter) {
  const std::string state = *folder_ / "within", next = *folder_ / "within-too";
  const auto greedy = [](std::vector<std::string> more) {
    more.push_back("--temperature=0");
    return more;
  };
  EXPECT_EQ(text(*learned_, "the goldf", greedy({"--tokens=11", "--state-out", state})), "inch says ");
  EXPECT_EQ(text(*learned_, "", greedy({"--tokens=1", "--state-in", state, "--state-out", next})), "");
  EXPECT_EQ(text(*learned_, "", greedy({"--tokens=8", "--state-in", next})), "\u20AC5. the ");
  // A prompt comes after what was shown.
  EXPECT_EQ(text(*learned_, "\u20AC5. the goldfi", greedy({"--tokens=3", "--state-in", next})).find('\x82'),
            std::string::npos);
  write_file(*folder_ / "empty.jsonl", "{\"prompt\": \"\"}\n");
  const ProgramResult lines =
      run_program("gf", greedy({"generate", "--checkpoint", learned_->checkpoint(), "--vocab", "byte", "--prompt-file",
                                *folder_ / "empty.jsonl", "--tokens=2", "--state-in", state}));
  EXPECT_NE(lines.out.find("\"text\":\"\u20AC\""), std::string::npos) << lines.out << lines.err;
}

// What was held back for a stop text is held back on.
TEST_F(GfGenerate, AKeptStateIsGoneOnFromWithinAStopText) {
  const std::string state = *folder_ / "within_stop";
  const auto with = [](std::vector<std::string> more) {
    more.push_back("--temperature=0");
    return more;
  };
  EXPECT_EQ(text(*learned_, "the goldf", with({"--tokens=16", "--stop=says"})), "inch ");
  const ProgramResult first =
      generate(*learned_, "the goldf", with({"--tokens=7", "--stop=says", "--state-out", state}));
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.out, "inch ");
  EXPECT_NE(first.err.find("held back 2 bytes at the end, with which a --stop begins"), std::string::npos) << first.err;
  const ProgramResult second = generate(*learned_, "", with({"--tokens=9", "--stop=says", "--state-in", state}));
  EXPECT_EQ(second.out, "");
  EXPECT_NE(second.err.find("ended by --stop"), std::string::npos) << second.err;
  EXPECT_EQ(text(*learned_, "", with({"--tokens=3", "--state-in", state})), "says ") << "with no stop text after all";
  // Without a state, and where a line may come after it, all of a text is shown.
  EXPECT_EQ(text(*learned_, "the goldf", with({"--tokens=7", "--stop=says"})), "inch sa");
  const auto turn = [&](const std::string& stop) {
    const ProgramResult result =
        run_program("gf",
                    with({"generate", "--checkpoint", learned_->checkpoint(), "--vocab", "byte", "--interactive",
                          "--tokens=5", "--stop", stop, "--state-out", state}),
                    {}, "the goldf\n");
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const std::string shown = turn("never");
  ASSERT_GT(shown.size(), 1u);
  EXPECT_EQ(turn(shown.substr(shown.size() - 2, 1) + "never"), shown);
}

// What was read and written is kept, and goes on as if nothing had happened.
TEST_F(GfGenerate, ASignalEndsTheTextAndLosesNothing) {
  for (const int signal : {SIGINT, SIGTERM}) {
    SCOPED_TRACE(signal);
    const std::string state = *folder_ / cat("stopped", signal);
    Process process("gf", {"generate", "--checkpoint", learned_->checkpoint(), "--vocab", "byte", "--prompt",
                           "the goldf", "--tokens=100000", "--temperature=0", "--state-out", state});
    ASSERT_TRUE(process.wait_until([&] { return process.out().size() > 20; }));
    process.send(signal);
    const ProgramResult result = process.wait();
    EXPECT_EQ(result.status, 75) << result.err;
    EXPECT_NE(result.err.find("; ended by a signal"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find(cat("stopped by ", signal == SIGINT ? "SIGINT; " : "SIGTERM; ", state)),
              std::string::npos)
        << result.err;
    EXPECT_FALSE(std::filesystem::exists(state + ".partial"));
    const std::string before = "; text: ";
    const int made = std::stoi(result.err.substr(result.err.find(before) + before.size()));
    const std::string whole = text(*learned_, "the goldf", {cat("--tokens=", made + 10), "--temperature=0"});
    const std::string rest = text(*learned_, "", {"--tokens=10", "--temperature=0", "--state-in", state});
    EXPECT_TRUE(whole.starts_with(result.out)) << result.out << "\nand not\n" << whole;
    EXPECT_TRUE(whole.ends_with(rest)) << rest << "\nand not\n" << whole;
  }
}

// Nor is a prompt read to its end that takes long.
TEST_F(GfGenerate, ASignalEndsTheReadingOfAPrompt) {
  const std::string state = *folder_ / "stopped_prompt";
  const std::string lines = "one\n" + std::string(200'000, 'a') + "\n";
  Process process("gf",
                  {"generate", "--checkpoint", fresh_->checkpoint(), "--vocab", "byte", "--interactive", "--tokens=5",
                   "--chunk=8", "--state-out", state},
                  {}, lines);
  ASSERT_TRUE(process.wait_until([&] { return !process.out().empty(); }));
  process.send(SIGINT);
  const ProgramResult result = process.wait();
  EXPECT_EQ(result.status, 75) << result.err;
  EXPECT_TRUE(std::filesystem::exists(state));
  EXPECT_FALSE(std::filesystem::exists(state + ".partial"));
}

// As the end of the lines does: nothing is cut off but half a line.
TEST_F(GfGenerate, ASignalWhileItWaitsForALineEndsTheSession) {
  const std::string kept = *folder_ / "waited", answered = *folder_ / "ended", pipe = *folder_ / "lines";
  const auto words = [&](const std::string& state) {
    return std::vector<std::string>{"generate",      "--checkpoint", learned_->checkpoint(), "--vocab",     "byte",
                                    "--interactive", "--tokens=5",   "--temperature=0",      "--state-out", state};
  };
  const ProgramResult ended = run_program("gf", words(answered), {}, "the goldf\n");
  ASSERT_EQ(ended.status, 0) << ended.err;
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::vector<std::string> all{"-c", "exec \"$@\" <> " + pipe, "bash", std::string(GF_BIN_DIR) + "/gf"};
  for (const std::string& word : words(kept)) all.push_back(word);
  std::fstream writer(pipe, std::ios::in | std::ios::out);  // so that it waits for no reader
  writer << "the goldf\nhalf a li" << std::flush;
  Process process("/bin/bash", all);
  ASSERT_TRUE(process.wait_until([&] { return process.out() == ended.out; }));
  process.send(SIGINT);
  const ProgramResult result = process.wait();
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, ended.out);
  EXPECT_EQ(read_file(kept), read_file(answered));
  EXPECT_FALSE(std::filesystem::exists(kept + ".partial"));
}

TEST_F(GfGenerate, WithoutAStateASignalEndsItAtOnce) {
  Process process(
      "gf", {"generate", "--checkpoint", fresh_->checkpoint(), "--vocab", "byte", "--prompt", "a", "--tokens=100000"});
  ASSERT_TRUE(process.wait_until([&] { return !process.out().empty(); }));
  process.send(SIGINT);
  EXPECT_EQ(process.wait().status, 128 + SIGINT);
}

TEST_F(GfGenerate, PenaltiesCountWhatWasReadBefore) {
  const std::string state = *folder_ / "penalised";
  const std::vector<std::string> options{"--temperature=0", "--frequency-penalty=3"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), options.begin(), options.end());
    return more;
  };
  const std::string whole = text(*learned_, "the goldf", with({"--tokens=20"}));
  EXPECT_NE(whole, text(*learned_, "the goldf", {"--temperature=0", "--tokens=20"})) << "no penalty mattered";
  const std::string begin = text(*learned_, "the goldf", with({"--tokens=10", "--state-out", state}));
  EXPECT_EQ(begin + text(*learned_, "", with({"--tokens=10", "--state-in", state})), whole);
  EXPECT_EQ(begin + text(*learned_, "the goldf" + begin, with({"--tokens=10"})), whole);
  // A second turn with nothing new but a line end is the first with it.
  const auto turns = [&](const std::string& lines) {
    std::vector<std::string> arguments{"generate", "--checkpoint", learned_->checkpoint(),
                                       "--vocab",  "byte",         "--interactive"};
    for (const std::string& option : with({"--tokens=10"})) arguments.push_back(option);
    const ProgramResult result = run_program("gf", arguments, {}, lines);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const std::string first = turns("the goldf\n"), both = turns("the goldf\n\n");
  EXPECT_EQ(both, first + text(*learned_, "the goldf\n" + first, with({"--tokens=10"})) + "\n");
}

TEST_F(GfGenerate, AStateThatCannotBeKeptIsRefusedBeforeAnyText) {
  const std::string folder = *folder_ / "not_there", there = *folder_ / "kept";
  expect_refused({"--tokens=1", "--state-out", folder + "/state"}, {folder, "cannot be created"});
  expect_refused({"--tokens=1", "--state-out", *folder_ / ""}, {"a folder"});
  expect_refused({"--tokens=1000000000000000", "--state-out", there}, {"positions need"});
  EXPECT_FALSE(std::filesystem::exists(there) || std::filesystem::exists(there + ".partial"));
}

// What would fit, of what is not so already.
TEST_F(GfGenerate, MoreMemoryThanThereIsIsRefused) {
  for (const char* tokens : {"--tokens=1000000000000000", "--tokens=9223372036854775807"}) {
    expect_refused({tokens}, {"positions need", "are free", "at most ", "--cache compressed", "--cache-dtype bf16"});
    const ProgramResult least = generate(*fresh_, "a", {tokens, "--cache=compressed", "--cache-dtype=bf16"});
    EXPECT_EQ(least.status, 2) << least.err;
    EXPECT_NE(least.err.find("positions need"), std::string::npos) << least.err;
    EXPECT_EQ(least.err.find("--cache"), std::string::npos) << least.err;
  }
}

#if !defined(GF_SANITIZED)  // which takes more, and cannot live with a limit on address space
// A piece of a prompt may be longer than ctx_len: of 1,000,000 tokens it takes a gigabyte.
TEST_F(GfGenerate, APieceThatTakesMoreMemoryThanThereIsIsRefused) {
  const std::string prompts = *folder_ / "long.jsonl";
  write_file(prompts, "{\"prompt\": \"" + std::string(1000000, 'a') + "\"}\n");
  const auto limited = [&](const char* chunk) {
    return run_program(
        "/bin/bash",
        {"-c", "ulimit -v 600000 && exec \"$@\"", "bash", std::string(GF_BIN_DIR) + "/gf", "generate", "--checkpoint",
         fresh_->checkpoint(), "--vocab", "byte", "--prompt-file", prompts, "--chunk", chunk, "--tokens=1000000000000"},
        {{"OMP_NUM_THREADS", "1"}});
  };
  const ProgramResult piece = limited("1000000"), positions = limited("512");
  EXPECT_EQ(piece.status, 2) << piece.err;
  EXPECT_NE(piece.err.find("reading 1000000 tokens at once takes "), std::string::npos) << piece.err;
  EXPECT_NE(piece.err.find("a smaller --chunk"), std::string::npos) << piece.err;
  EXPECT_EQ(positions.status, 2) << positions.err;
  EXPECT_NE(positions.err.find("1000001000000 positions need"), std::string::npos) << positions.err;
}

// What was said before is kept: the state is that of the turns that were answered.
TEST_F(GfGenerate, ATurnThatIsRefusedLosesNothing) {
  const std::string kept = *folder_ / "turns", answered = *folder_ / "answered";
  const auto turns = [&](const std::string& state, const std::string& lines) {
    return run_program("/bin/bash",
                       {"-c", "ulimit -v 600000 && exec \"$@\"", "bash", std::string(GF_BIN_DIR) + "/gf", "generate",
                        "--checkpoint", fresh_->checkpoint(), "--vocab", "byte", "--interactive", "--chunk", "1000000",
                        "--tokens=5", "--temperature=0", "--state-out", state},
                       {{"OMP_NUM_THREADS", "1"}}, lines);
  };
  const ProgramResult first = turns(answered, "one\ntwo\n");
  const ProgramResult both = turns(kept, "one\ntwo\n" + std::string(1000000, 'a') + "\n");
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(both.status, 2) << both.err;
  EXPECT_NE(both.err.find("tokens at once takes "), std::string::npos) << both.err;
  EXPECT_EQ(both.out, first.out);
  EXPECT_EQ(read_file(kept), read_file(answered));
}
#endif

TEST_F(GfGenerate, ManyPromptsFromAFile) {
  const std::string prompts = *folder_ / "prompts.jsonl", wrong = *folder_ / "wrong.jsonl";
  write_file(prompts, "{\"prompt\": \"the goldf\"}\n\n{\"prompt\": \"says \"}\n");
  const std::vector<std::string> model{
      "generate", "--checkpoint", learned_->checkpoint(), "--vocab", "byte", "--tokens", "8", "--temperature",
      "0",        "--prompt-file"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = model;
    all.insert(all.end(), more.begin(), more.end());
    return run_program("gf", all);
  };
  EXPECT_EQ(with({prompts}).out,
            "{\"prompt\":\"the goldf\",\"text\":\"inch say\",\"tokens\":8,\"ended_by\":\"tokens\"}\n"
            "{\"prompt\":\"says \",\"text\":\"\u20AC5. th\",\"tokens\":8,\"ended_by\":\"tokens\"}\n");
  write_file(wrong, "{\"prompt\": \"a\"}\nnonsense\n");
  const ProgramResult refused = with({wrong});
  EXPECT_EQ(refused.status, 2);
  EXPECT_EQ(refused.out, "");
  EXPECT_NE(refused.err.find("wrong.jsonl:2"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("try: one JSON object a line: {\"prompt\": TEXT}"), std::string::npos) << refused.err;
  write_file(wrong, "{\"prompt\": \"a\"}\n{\"id\": " + std::string(100000, '[') + std::string(100000, ']') +
                        ", \"prompt\": \"a\"}\n");
  const ProgramResult deep = with({wrong});
  EXPECT_EQ(deep.status, 2);
  EXPECT_EQ(deep.out, "");
  EXPECT_NE(deep.err.find("wrong.jsonl:2: it is nested deeper than 128 levels"), std::string::npos) << deep.err;
  EXPECT_EQ(with({prompts, "--prompt", "a"}).status, 2);
}

// The first as it would be alone; a blank line is no prompt, and moves no text.
TEST_F(GfGenerate, EqualPromptsOfAFileAreDrawnApart) {
  const std::string prompts = *folder_ / "equal.jsonl";
  write_file(prompts, "{\"prompt\": \"a\"}\n\n{\"prompt\": \"a\"}\n{\"prompt\": \"a\"}\n");
  const auto texts = [&](const char* seed) {
    const ProgramResult result =
        run_program("gf", {"generate", "--checkpoint", learned_->checkpoint(), "--vocab", "byte", "--prompt-file",
                           prompts, "--tokens=40", "--temperature=1.5", "--seed", seed});
    EXPECT_EQ(result.status, 0) << result.err;
    std::vector<std::string> all;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) all.push_back(nlohmann::json::parse(line).at("text"));
    return all;
  };
  std::set<std::string> different;
  for (const char* seed : {"3", "4"}) {
    const std::vector<std::string> three = texts(seed);
    ASSERT_EQ(three.size(), 3u);
    // Where the text is no UTF-8, its answer differs from it.
    const std::string alone = text(*learned_, "a", {"--tokens=40", "--temperature=1.5", "--seed", seed});
    EXPECT_EQ(three[0], nlohmann::json::parse(
                            nlohmann::json(alone).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
    EXPECT_EQ(three, texts(seed));
    different.insert(three.begin(), three.end());
  }
  EXPECT_EQ(different.size(), 6u);
}

// Not the end of the input: a folder cannot be read.
TEST_F(GfGenerate, InputThatCannotBeReadIsAnErrorAndLosesNothing) {
  const std::string kept = *folder_ / "unread";
  const ProgramResult result =
      run_program("/bin/bash", {"-c", "exec \"$@\" < /", "bash", std::string(GF_BIN_DIR) + "/gf", "generate",
                                "--checkpoint", fresh_->checkpoint(), "--vocab", "byte", "--interactive", "--prompt",
                                "one", "--tokens=5", "--state-out", kept});
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_NE(result.err.find("cannot read standard input"), std::string::npos) << result.err;
  EXPECT_TRUE(std::filesystem::exists(kept));
}

TEST_F(GfGenerate, KeepsWhatWasSaidBetweenTurns) {
  const ProgramResult turns = run_program("gf",
                                          {"generate", "--checkpoint", fresh_->checkpoint(), "--vocab", "byte",
                                           "--interactive", "--tokens=6", "--temperature=0"},
                                          {}, "one\ntwo\n");
  EXPECT_EQ(turns.status, 0) << turns.err;
  EXPECT_NE(turns.err.find("for 9 positions"), std::string::npos) << turns.err;  // one, its line end, and 5 of 6 tokens
  EXPECT_NE(turns.err.find("for 19 positions"), std::string::npos) << turns.err;  // the sixth, and the same again
}

TEST_F(GfGenerate, WrongInputIsRefused) {
  expect_refused({}, {"tokens", "usage: gf generate"});
  expect_refused({"--tokens=0"}, {"--tokens is 0"});
  expect_refused({"--tokens=-4"}, {"--tokens is -4"});
  expect_refused({"--tokens=some"}, {"tokens", "some"});
  expect_refused({"--tokens=1", "--temperature=-0.5"}, {"--temperature is -0.5"});
  expect_refused({"--tokens=1", "--temperature=nan"}, {"--temperature is nan"});
  expect_refused({"--tokens=1", "--top-p=0"}, {"--top-p is 0"});
  expect_refused({"--tokens=1", "--top-p=1.5"}, {"--top-p is 1.5"});
  expect_refused({"--tokens=1", "--top-k=-2"}, {"--top-k is -2"});
  expect_refused({"--tokens=1", "--min-p=2"}, {"--min-p is 2"});
  expect_refused({"--tokens=1", "--repetition-penalty=0"}, {"--repetition-penalty is 0"});
  expect_refused({"--tokens=1", "--repetition-penalty=1e-300"}, {"--repetition-penalty is 1e-300"});
  expect_refused({"--tokens=1", "--presence-penalty=1e39"}, {"--presence-penalty is 1e+39"});
  expect_refused({"--tokens=1", "--chunk=0"}, {"--chunk is 0"});
  expect_refused({"--tokens=1", "--cache=small"}, {"--cache is small", "compressed or expanded"});
  expect_refused({"--tokens=1", "--cache-dtype=f16"}, {"--cache-dtype is f16"});
  expect_refused({"--tokens=1", "--interactive", "--prompt-file=x"}, {"more than one of"});
  expect_refused({"--tokens=1", "--stop", ""}, {"--stop"});
  expect_refused({"--tokens=1", "--hot"}, {"--hot"});
}

TEST_F(GfGenerate, AStateIsNotWrittenOverWhatIsNoFile) {
  const std::string pipe = *folder_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  expect_refused({"--tokens=1", "--state-out", pipe}, {pipe, "is not a regular file"});
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

// Text that is lost is an error, and no file takes it in its place: a state that was there stays.
TEST_F(GfGenerate, WithClosedStreamsNothingElseIsWritten) {
  const std::string state = *folder_ / "streams", other = *folder_ / "no_state";
  const std::vector<std::string> arguments{
      "generate", "--checkpoint", learned_->checkpoint(), "--vocab",         "byte",
      "--prompt", "the goldf",    "--tokens=10",          "--temperature=0", "--state-out"};
  const auto to = [&](const std::string& file) {
    auto all = arguments;
    all.push_back(file);
    return all;
  };
  ASSERT_EQ(run_program("gf", to(state)).status, 0);
  const std::string before = read_file(state);
  for (const char* streams : {">&-", "<&- >&- 2>&-"}) {
    SCOPED_TRACE(streams);
    EXPECT_EQ(run_with_streams(streams, "gf", to(state)).status, 1);
    EXPECT_EQ(read_file(state), before);
    EXPECT_EQ(run_with_streams(streams, "gf", to(other)).status, 1);
    EXPECT_FALSE(std::filesystem::exists(other));
  }
  for (const char* streams : {"2>&-", "2>/dev/full"}) {  // what it says by the way is not what was asked for
    SCOPED_TRACE(streams);
    const ProgramResult result = run_with_streams(streams, "gf", to(state));
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.out, "inch says ");
    EXPECT_EQ(read_file(state), before);
  }
}

TEST_F(GfGenerate, AWrongFileIsRefused) {
  const auto refused = [&](const std::string& checkpoint, const std::string& vocab,
                           const std::vector<std::string>& pieces) {
    const ProgramResult result =
        run_program("gf", {"generate", "--checkpoint", checkpoint, "--vocab", vocab, "--prompt", "a", "--tokens", "1"});
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(result.out, "");
    for (const std::string& piece : pieces)
      EXPECT_NE(result.err.find(piece), std::string::npos) << piece << ": " << result.err;
  };
  const std::string nowhere = *folder_ / "nowhere", wide = *folder_ / "wide.txt";
  write_file(wide, world_file({"ab", "cd"}));
  refused(nowhere, "byte", {nowhere});
  refused(fresh_->checkpoint(), nowhere, {nowhere});
  refused(fresh_->checkpoint(), wide, {"the vocabulary has 320 tokens", "vocab_size is 257", "--vocab"});
}

TEST_F(GfGenerate, IsInTheHelp) {
  const ProgramResult help = run_program("gf", {"--help"});
  EXPECT_NE(help.out.find("generate"), std::string::npos);
  EXPECT_NE(help.out.find("eval"), std::string::npos);
  const ProgramResult options = run_program("gf", {"generate", "--help"});
  EXPECT_EQ(options.status, 0);
  for (const char* option : {"--top-p", "--top-k", "--temperature", "--seed", "--stop"})
    EXPECT_NE(options.out.find(option), std::string::npos) << option;
}

}  // namespace
}  // namespace gf
