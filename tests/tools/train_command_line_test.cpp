// SPDX-License-Identifier: Apache-2.0
#include "tools/train_command_line.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

const Arguments kGood = {"--model.vocab_size", "257", "--train.data_file", "data/x"};

Arguments with(Arguments more) {
  more.insert(more.begin(), kGood.begin(), kGood.end());
  return more;
}
Config parsed(const Arguments& more) {
  return parse_command_line(with(more)).value();
}
void refused(const Arguments& more, const std::vector<std::string>& pieces) {
  expect_refused(pieces, [&] { parse_command_line(with(more)); });
}

TEST(TrainCommandLine, ValuesStandApartOrBehindAnEqualsSign) {
  const Config c = parsed({"--model.n_layer", "4", "--model.tmix=llama", "--model.rope.base=5"});
  EXPECT_EQ(c.model.n_layer, 4);
  EXPECT_EQ(c.model.tmix, "llama");
  EXPECT_EQ(c.model.rope.value().base, 5);
}

TEST(TrainCommandLine, ValuesMayBeNegativeOrEmpty) {
  EXPECT_EQ(parsed({"--train.warmup_steps", "-1"}).train.warmup_steps, -1);
  EXPECT_EQ(parsed({"--train.weight_decay_final", "-1e-3"}).train.weight_decay_final, -1e-3);
  EXPECT_EQ(parsed({"--train.warmup_steps=-1"}).train.warmup_steps, -1);
  EXPECT_EQ(parsed({"--model.tmix2", ""}).model.tmix2, "");
  EXPECT_EQ(parsed({"--model.tmix2="}).model.tmix2, "");
  EXPECT_EQ(parsed({"--train.wandb", "two words"}).train.wandb, "two words");
}

TEST(TrainCommandLine, DataMayBeAList) {
  EXPECT_EQ(parsed({"--train.data_file", "a, b"}).train.data_file.text(), "a, b");
  EXPECT_EQ(parsed({"--train.data_file=[a, 'b, c']"}).train.data_file.text(), "[\"a\", \"b, c\"]");
  EXPECT_TRUE(
      parsed({"--train.data_file", "[{prefix: a, weight: 2}, {prefix: b, weight: 1}]"}).train.data_file.weighted());
  refused({"--train.data_file", "[a, b"}, {"train.data_file: ", "a list as in YAML"});
  refused({"--train.data_file", "[a, a]"}, {"train.data_file: entry 2: a is named by entry 1 already"});
}

TEST(TrainCommandLine, OptionsBeatFilesWhateverTheirOrder) {
  const TempFolder folder;
  std::ofstream(folder / "a.yaml") << "model: {n_layer: 4, n_embd: 64, tmix: llama, rope: {base: 7}}\n";
  std::ofstream(folder / "b.yaml") << "model: {n_layer: 8}\n";
  const std::string a = folder / "a.yaml", b = folder / "b.yaml";
  const Config c = parsed({"--model.n_embd", "128", "-c", a, "--config", b});
  EXPECT_EQ(c.model.n_layer, 8);
  EXPECT_EQ(c.model.n_embd, 128);
  EXPECT_EQ(c.model.rope.value().base, 7);
  EXPECT_FALSE(parsed({"-c", a, "--model.rope", "none"}).model.rope.has_value());
  EXPECT_TRUE(parsed({"-c" + a, "--model.rope", "none", "--model.alibi", "on"}).model.alibi.has_value());
}

TEST(TrainCommandLine, OfAKeyGivenAgainTheLastCounts) {
  EXPECT_EQ(parsed({"--train.lr_init", "1", "--train.lr_init=2"}).train.lr_init, 2);
}

TEST(TrainCommandLine, WrongOptionsAreRefused) {
  refused({"--train.lr_inti", "1"}, {"no option --train.lr_inti; did you mean --train.lr_init?"});
  refused({"--n_layer=4"}, {"did you mean --model.n_layer?"});
  refused({"--model.n_lay", "4"}, {"--model.n_lay", "did you mean --model.n_layer?"});
  refused({"--train.lr_init", "fast"}, {"train.lr_init", "\"fast\"", "a real number"});
  refused({"--train.lr_init"}, {"train.lr_init"});
  refused({"quickstart.yaml"}, {"quickstart.yaml", "-c"});
  refused({"-x"}, {"-x"});
  refused({"-c"}, {"config"});
  refused({"-c", "/no/such.yaml"}, {"/no/such.yaml"});
  refused({"--model", "x"}, {"--model"});
  refused({"--model.rope", "maybe"}, {"model.rope", "maybe", "none"});
  refused({"--model.n_layer", "0"}, {"model.n_layer is 0"});
  expect_refused({"model.vocab_size is not set"}, [] { parse_command_line({}); });
}

TEST(TrainCommandLine, HelpAndVersionEndWithoutAConfig) {
  for (const char* option : {"--help", "-h", "--version"}) {
    testing::internal::CaptureStdout();
    EXPECT_FALSE(parse_command_line({"--model.n_layer", "0", option}).has_value());
    EXPECT_NE(testing::internal::GetCapturedStdout().find("gf-dist-train"), std::string::npos);
  }
}

TEST(TrainCommandLine, AProgramMayHaveSwitchesOfItsOwn) {
  bool dry_run = false;
  boost::program_options::options_description switches;
  switches.add_options()("dry-run", boost::program_options::bool_switch(&dry_run), "print the plan and end");
  EXPECT_TRUE(parse_command_line(with({"--dry-run"}), {switches}).has_value());
  EXPECT_TRUE(dry_run);
  EXPECT_NE(train_help({switches}).find("print the plan and end"), std::string::npos);
}

TEST(TrainCommandLine, ItsNameIsInHelpAndHints) {
  EXPECT_NE(train_help({{}, "gf plan"}).find("usage: gf plan [-c FILE]"), std::string::npos);
  expect_refused({"there is no option --hardwire", "gf plan --help"}, [] {
    parse_command_line({"--hardwire", "x"}, {{}, "gf plan"});
  });
}

TEST(TrainCommandLine, HelpListsEveryKey) {
  Config config;
  const FieldList list(config);
  for (const Field& field : list.fields()) {
    EXPECT_NE(train_help().find(field.path), std::string::npos) << field.path;
    EXPECT_TRUE(field.path.empty() || !field.help.empty()) << field.path;
  }
}

// docs/configuration.md quotes the help; so neither can change without the other.
TEST(TrainCommandLine, DocsQuoteTheHelp) {
  std::ifstream file(GF_SOURCE_DIR "/docs/configuration.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(page.find("```text\n" + train_help() + "```\n"), std::string::npos)
      << "docs/configuration.md should quote:\n"
      << train_help();
}

}  // namespace
}  // namespace gf
