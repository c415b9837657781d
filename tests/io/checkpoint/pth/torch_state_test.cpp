// SPDX-License-Identifier: Apache-2.0
// Pickles that no torch.save wrote: all of them are refused, and nothing in them is done.
#include "io/checkpoint/pth/torch_state.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "io/checkpoint/pth/pickle_opcodes.h"
#include "io/checkpoint/pth/pth_samples.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

using namespace pth;
using namespace std::string_literals;

void expect_refused_pickle(const std::string& value, std::vector<std::string> pieces) {
  SCOPED_TRACE(pieces[0]);
  pieces.insert(pieces.end(), {"x.pth", "nothing in this one was executed"});
  expect_error(Exit::bad_input, pieces, [&] { read_torch_state("x.pth", "\x80\x02" + value + "."); });
}

std::string whole_tensor() {
  return tensor(storage("0", 6), 0, {2, 3}, {3, 1});
}

TEST(TorchState, FunctionsAreNotCalled) {
  const TempFolder folder;
  const std::string made = (folder / "made").string(), command = text("touch " + made);
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"posix", "system"},
                                                        {"os", "system"},
                                                        {"builtins", "eval"},
                                                        {"subprocess", "Popen"},
                                                        {"torch", "load"},
                                                        {"torch", "FloatTensor"},
                                                        {"torch.hub", "load"},
                                                        {"collections", "OrderedDict.update"}})
    expect_refused_pickle(call(global(module, name), {command}), {"asks for " + module + "." + name});
  expect_refused_pickle(text("posix") + text("system") + "\x93" + tuple({command}) + "R", {"asks for posix.system"});
  expect_refused_pickle(dict({{"a", whole_tensor()}, {"b", call(global("posix", "system"), {command})}}),
                        {"asks for posix.system"});
  // What is known is called in no other way than torch does.
  expect_refused_pickle(call(global("torch", "FloatStorage"), {command}), {"calls torch.FloatStorage with other"});
  expect_refused_pickle(call(global("collections", "OrderedDict"), {command}), {"calls collections.OrderedDict with"});
  expect_refused_pickle(call(global("torch._utils", "_rebuild_parameter"), {command, "\x88", ordered_dict()}),
                        {"calls torch._utils._rebuild_parameter with other"});
  expect_refused_pickle(call(text("posix.system"), {command}), {"calls text"});
  expect_refused_pickle(global("torch", "FloatStorage") + command + "R", {"calls torch.FloatStorage with text"});
  EXPECT_FALSE(std::filesystem::exists(made));
}

TEST(TorchState, EveryOtherInstructionIsRefusedByItsName) {
  const std::string known = "(.JKMNQRXabc}ehj]qrst)uG\x80\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95";
  int refused = 0;
  for (const PickleOpcode& op : kPickleOpcodes) {
    if (known.find(static_cast<char>(op.code)) != std::string::npos) continue;
    expect_refused_pickle(std::string(1, static_cast<char>(op.code)) + "os\nsystem\n0",
                          {cat("the instruction ", op.name, ",")});
    ++refused;
  }
  EXPECT_EQ(refused + static_cast<int>(known.size()), 68);  // what Python's pickletools lists
  expect_refused_pickle("\xff", {"no instruction, byte 255"});
}

TEST(TorchState, PersistentIdsThatAreNone) {
  const auto with = [](const std::string& id) { return dict({{"a", tensor(id + "Q", 0, {1}, {1})}}); };
  expect_refused_pickle(with("N"), {"refers to a storage by None"});
  expect_refused_pickle(with(text("0")), {"by text"});
  expect_refused_pickle(with(tuple({})), {"lies outside"});
  expect_refused_pickle(with(tuple({text("module"), global("torch", "FloatStorage"), text("0"), text("cpu"), "K\1"})),
                        {"lies outside"});
  expect_refused_pickle(with(tuple({text("storage"), text("torch.FloatStorage"), text("0"), text("cpu"), "K\1"})),
                        {"lies outside"});
  expect_refused_pickle(
      with(tuple({text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), "K\1", text("view")})),
      {"lies outside"});
  expect_refused_pickle(with(tuple({text("storage"), global("torch", "FloatStorage"), "N", text("cpu"), "K\1"})),
                        {"no key of a storage"});
  expect_refused_pickle(with(tuple({text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), "N"})),
                        {"no number of elements"});
  expect_refused_pickle(dict({{"a", tensor("N", 0, {1}, {1})}}), {"_rebuild_tensor_v2 with other arguments"});
  expect_refused_pickle(
      dict({{"a", tensor(storage("0", 6), 0, {1}, {1})}, {"b", tensor(storage("0", 7), 0, {1}, {1})}}),
      {"storage 0 is a FloatStorage of 6 and a FloatStorage of 7"});
}

TEST(TorchState, NothingContainsItself) {
  expect_refused_pickle("}q\0"s + text("a") + "h\0s"s, {"into a dict that is part of another"});
  expect_refused_pickle("]q\0h\0a"s, {"into a list that is part of another"});
  expect_refused_pickle("}q\0h\0b"s, {"a dict part of itself"});
  // Through another: a list in a list, and then the outer one into the inner.
  expect_refused_pickle("]q\0]q\1h\0ah\0h\1a"s, {"into a list that is part of another"});
  expect_refused_pickle("]q\0\x85q\1h\0h\1a"s, {"into a list that is part of another"});
}

TEST(TorchState, DepthAndAmountsAreBounded) {
  expect_refused_pickle(std::string(1 << 20, '('), {"nested deeper than 64"});
  expect_refused_pickle(std::string(1 << 20, 'N'), {"more than 65536 values"});
  std::string nested = ")";
  for (int i = 0; i < 1 << 20; ++i) nested += '\x85';
  expect_refused_pickle(nested, {"is of a tuple"});  // nothing here goes down into it
  std::string kept = "N";
  for (int i = 0; i < 5 << 20; ++i) kept += '\x94';
  expect_refused_pickle(kept, {"more than 4194304 instructions"});
  // Ten of ten of ten ...: the text has 10^40 copies of "lol", the memory one.
  std::string laughs = text("lol") + "q\0"s;
  for (char i = 0; i < 40; ++i) {
    laughs += "(";
    for (int k = 0; k < 10; ++k) laughs += std::string("h") + i;
    laughs += std::string("tq") + static_cast<char>(i + 1);
    laughs = "(" + laughs + "t";
  }
  expect_refused_pickle(laughs, {"is of a tuple"});
}

TEST(TorchState, PicklesThatAreNone) {
  expect_refused_pickle("", {"ends with 0 values"});
  expect_refused_pickle("NN", {"ends with 2 values"});
  expect_refused_pickle("(N", {"instead of one"});
  expect_refused_pickle("t", {"a MARK that is not there"});
  expect_refused_pickle("\x86", {"an empty stack"});
  expect_refused_pickle("N(\x85", {"an empty stack"});  // nothing below a mark is taken
  expect_refused_pickle("h\5"s, {"recalls value 5"});
  expect_refused_pickle("\x80\6N", {"protocol 6"});
  expect_refused_pickle("X\xff\xff\xff\xff", {"4294967295 bytes are wanted"});
  expect_refused_pickle("\x95" + raw(INT64_MAX), {"a frame of"});
  expect_refused_pickle("cposix", {"ends within a name"});
  expect_refused_pickle("c\n\n", {"without a proper name"});
  expect_refused_pickle("N}s", {"empty stack"});
  expect_refused_pickle("N" + text("a") + "Ns", {"puts items into None"});
  expect_refused_pickle("}(Nu", {"a key without a value"});
  expect_refused_pickle("]}b", {"sets attributes of a list"});
  expect_refused_pickle("}", {"it is empty"});
  expect_refused_pickle("N", {"is of None"});
  expect_refused_pickle(dict({{"a", whole_tensor()}, {"a", whole_tensor()}}), {"same name twice"});
  expect_refused_pickle(dict({{"a", whole_tensor()}, {"a", "N"}}), {"same name twice"});
  expect_refused_pickle(dict({{"a\nb", whole_tensor()}}), {"a name of 3 bytes"});
  expect_refused_pickle(dict({{std::string(201, 'a'), whole_tensor()}}), {"a name of 201 bytes"});
  expect_refused_pickle("}K\1" + whole_tensor() + "s", {"no name where one belongs"});
  expect_refused_pickle("N.N", {"ends before its file does"});
  expect_error(Exit::bad_input, {"begin with PROTO"}, [] { read_torch_state("x.pth", "N."); });
}

}  // namespace
}  // namespace gf
