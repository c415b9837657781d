// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "io/checkpoint/checkpoint_samples.h"
#include "io/checkpoint/index_seal.h"
#include "io/checkpoint/index_section.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& path) {
  return read_small_file(path, 1 << 30);
}
void overwrite(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

TEST(CheckpointReader, ReadsWhatAnyNumberOfRanksWrote) {
  const TempFolder folder;
  const auto state = sample_state();
  for (const int ranks : {1, 2, 3, 4, 7, 13}) {  // 13 of 5 elements: some ranks have none
    const CheckpointReader reader(write_as_ranks(folder.path(), state, ranks, ranks));
    EXPECT_EQ(reader.num_parts(), ranks);
    expect_holds(reader, state);
    reader.verify();
  }
}

TEST(CheckpointReader, FillsAnyRangeOfAnyTensor) {
  const TempFolder folder;
  const auto state = sample_state();
  const CheckpointReader reader(write_as_ranks(folder.path(), state, 3));
  const Named& emb = state[0];
  for (int64_t begin = 0; begin <= 35; ++begin)
    for (int64_t end = begin; end <= 35; end += 3) {
      const auto blank = blank_like(state);
      const std::vector<ShardView> views{blank[0].view(begin, end)};
      reader.read(views);
      for (int64_t i = 0; i < 35; ++i)
        ASSERT_EQ(blank[0].tensor.data<float>()[i], begin <= i && i < end ? emb.tensor.data<float>()[i] : -1.f);
    }
}

TEST(CheckpointReader, SeveralViewsShareABlock) {
  const TempFolder folder;
  const auto state = sample_state(), one = blank_like(state), two = blank_like(state);
  const CheckpointReader reader(write_as_ranks(folder.path(), state, 1));
  reader.read(std::vector{one[0].view(3, 20), one[0].view(20, 21), two[0].view(0, 35)});
  EXPECT_EQ(values_of(two[0].tensor), values_of(state[0].tensor));
  EXPECT_EQ(one[0].tensor.data<float>()[20], state[0].tensor.data<float>()[20]);
  EXPECT_EQ(one[0].tensor.data<float>()[21], -1.f);
}

TEST(CheckpointReader, TensorOfSeveralBlocks) {
  const TempFolder folder;
  const Tensor large = Tensor::empty({3, kBlockElements / 2}, DType::f32, kCpu);
  for (int64_t i = 0; i < large.numel(); ++i) large.data<float>()[i] = static_cast<float>(i % 8191);
  const std::vector<Named> state{{"model/head.weight", large}};
  const CheckpointReader reader(write_as_ranks(folder.path(), state, 1));
  std::vector<float> some(1000);
  const int64_t begin = kBlockElements - 500;  // across the border of two blocks
  reader.read(std::vector<ShardView>{{"model/head.weight", DType::f32, large.shape(), begin, begin + 1000,
                                      reinterpret_cast<std::byte*>(some.data())}});
  EXPECT_EQ(some, std::vector<float>(large.data<float>() + begin, large.data<float>() + begin + 1000));
  expect_holds(reader, state);
}

TEST(CheckpointReader, ManyPiecesOfOneTensor) {  // more than fit an HDF5 attribute that lies with its object
  const TempFolder folder;
  const auto state = sample_state(0, {{"model/a", {9000}}});
  std::vector<ShardView> views;
  for (int64_t i = 0; i < 9000; ++i) views.push_back(state[0].view(i, i + 1));
  const fs::path made = folder / step_folder_name(1);
  fs::create_directories(made);
  PartWriter(made / part_file_name(0, 1), views).write();
  write_index(made / kIndexFile, sample_attributes(1), {read_part(made / part_file_name(0, 1))});
  File::create(made / kDoneFile).close();
  expect_holds(CheckpointReader(made), state);
}

TEST(CheckpointReader, GivesAttributes) {
  const TempFolder folder;
  const CheckpointReader reader(write_as_ranks(folder.path(), sample_state(), 2, 42));
  const Attributes& a = reader.attributes();
  EXPECT_EQ(a.format, "gf-checkpoint-2");
  EXPECT_EQ(a.program, "gf-test 1");
  EXPECT_EQ(a.config, sample_attributes(42).config);
  EXPECT_EQ(a.data, "");
  EXPECT_EQ(a.step, 42);
  EXPECT_EQ(a.samples, 16 * 42);
  EXPECT_EQ(a.tokens, 16 * 64 * 42);
  EXPECT_TRUE(reader.has("model/emb.weight"));
  EXPECT_FALSE(reader.has("model/emb"));
}

TEST(CheckpointReader, GivesLongAttributes) {  // of data in thousands of files
  const TempFolder folder;
  const fs::path made = write_as_ranks(folder.path(), sample_state(), 1, 42);
  Attributes long_ones = sample_attributes(42);
  for (int i = 0; i < 5000; ++i) long_ones.config += cat("# line ", i, "\n"), long_ones.data += cat(i, " tokens\n");
  write_index(made / kIndexFile, long_ones, {read_part(made / part_file_name(0, 1))});
  const CheckpointReader reader(made);
  EXPECT_EQ(reader.attributes().config, long_ones.config);
  EXPECT_EQ(reader.attributes().data, long_ones.data);
}

TEST(CheckpointReader, FolderCanBeMoved) {
  const TempFolder folder;
  const auto state = sample_state();
  const fs::path made = write_as_ranks(folder.path(), state, 2);
  fs::rename(made, folder / "elsewhere");
  expect_holds(CheckpointReader(folder / "elsewhere"), state);
}

TEST(FindCheckpoint, UnderstandsEveryWayToNameOne) {
  const TempFolder folder;
  const fs::path run = folder / "run-0", checkpoints = run / "checkpoints";
  write_as_ranks(checkpoints, sample_state(), 1, 9);
  const fs::path newest = write_as_ranks(checkpoints, sample_state(), 1, 100000000);  // nine digits
  fs::create_directories(checkpoints / "step-200000000");                             // never finished
  for (const fs::path& path : {run, checkpoints, newest, newest / kIndexFile})
    EXPECT_EQ(find_checkpoint(path), newest / kIndexFile) << path;
}

TEST(FindCheckpoint, RefusesWhatIsNotThereOrNotComplete) {
  const TempFolder folder;
  expect_error(Exit::bad_input, {"no-such", "no such file"}, [&] { find_checkpoint(folder / "no-such"); });
  expect_error(Exit::bad_input, {folder.path().string(), "no complete checkpoint"},
               [&] { find_checkpoint(folder.path()); });
  const fs::path made = write_as_ranks(folder.path(), sample_state(), 1);
  fs::remove(made / kDoneFile);
  for (const fs::path& path : {made, made / kIndexFile})
    expect_error(Exit::bad_input, {made.string(), "DONE"}, [&] { CheckpointReader{path}; });
  EXPECT_FALSE(newest_checkpoint(folder.path()));
}

// No DONE is missing beside a file that is no checkpoint of ours.
TEST(FindCheckpoint, AnHdf5FileOfAnotherProgramIsNoUnfinishedCheckpoint) {
  const TempFolder folder;
  for (const char* content : {"\x89HDF\r\n\x1a\n and so on", "", "gf-check"}) {
    overwrite(folder / "other.h5", content);
    expect_error(Exit::bad_input, {folder / "other.h5", "no checkpoint: it does not begin with gf-checkpoint-2"},
                 [&] { find_checkpoint(folder / "other.h5"); });
  }
  overwrite(folder / "older.h5", "gf-checkpoint-1\n");
  expect_error(Exit::bad_input, {folder.path().string() + " has no DONE"},
               [&] { find_checkpoint(folder / "older.h5"); });
}

class DamagedCheckpoint : public testing::Test {
 protected:
  TempFolder folder_;
  std::vector<Named> state_ = sample_state();
  fs::path made_ = write_as_ranks(folder_.path(), state_, 2);
  void load() const {
    const auto blank = blank_like(state_);
    CheckpointReader(made_).read(views_of(blank));
  }
};

TEST_F(DamagedCheckpoint, OtherShapeNamesBoth) {
  const auto other = sample_state(0, {{"model/emb.weight", {5, 7}}});
  expect_error(Exit::bad_input, {"emb.weight is 5x7 in the model and 7x5 in the checkpoint"},
               [&] { CheckpointReader(made_).read(views_of(other)); });
}

TEST_F(DamagedCheckpoint, OtherType) {
  const std::vector<Named> other{{"model/emb.weight", Tensor::zeros({7, 5}, DType::f64, kCpu)}};
  expect_error(Exit::bad_input, {"emb.weight is f64 in the model and f32 in the checkpoint"},
               [&] { CheckpointReader(made_).read(views_of(other)); });
}

TEST_F(DamagedCheckpoint, TensorMissing) {
  const auto other = sample_state(0, {{"model/head.weight", {5, 7}}});
  expect_error(Exit::bad_input, {"head.weight is 5x7 in the model and not in the checkpoint", made_.string()},
               [&] { CheckpointReader(made_).read(views_of(other)); });
}

TEST_F(DamagedCheckpoint, PartMissing) {
  fs::remove(made_ / part_file_name(1, 2));
  expect_error(Exit::bad_input, {"part-00001-of-00002.h5", "there is no "}, [&] { load(); });
}

TEST_F(DamagedCheckpoint, PartTruncated) {
  const fs::path part = made_ / part_file_name(0, 2);
  const auto size = fs::file_size(part);
  fs::resize_file(part, size - 4);
  expect_error(Exit::bad_input, {part.string(), std::to_string(size), std::to_string(size - 4)}, [&] { load(); });
}

TEST_F(DamagedCheckpoint, PartIsALinkElsewhere) {
  const fs::path part = made_ / part_file_name(0, 2);
  fs::rename(part, folder_ / "target.h5");
  fs::create_symlink(folder_ / "target.h5", part);
  expect_error(Exit::bad_input, {part.string()}, [&] { load(); });
}

// Every bit of every file matters: verify finds each, and loading finds those it reads and never more than refuses.
TEST_F(DamagedCheckpoint, AnyFlippedBitIsFound) {
  for (const std::string& name : {std::string(kIndexFile), part_file_name(0, 2), part_file_name(1, 2)}) {
    const std::string whole = content_of(made_ / name);
    for (size_t at = 0; at < whole.size(); at += at < 100 ? 1 : 89) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
      overwrite(made_ / name, damaged);
      expect_error(Exit::bad_input, {name}, [&] { CheckpointReader(made_).verify(); });
    }
    overwrite(made_ / name, whole);
  }
  CheckpointReader(made_).verify();
}

TEST_F(DamagedCheckpoint, FlippedBitInValuesNamesTensorAndFile) {
  const fs::path part = made_ / part_file_name(0, 2);
  std::string bytes = content_of(part);
  bytes[static_cast<size_t>(read_part(part).pieces.front().offset)] ^= 1;
  const std::string name = read_part(part).pieces.front().name;
  overwrite(part, bytes);
  expect_error(Exit::bad_input, {part.string(), "damaged", name}, [&] { load(); });
}

TEST_F(DamagedCheckpoint, IndexTruncatedAnywhere) {
  const std::string whole = content_of(made_ / kIndexFile);
  for (size_t size = 0; size < whole.size(); size += size < 600 ? 7 : 501) {
    overwrite(made_ / kIndexFile, whole.substr(0, size));
    expect_error(Exit::bad_input, {kIndexFile}, [&] { load(); });
  }
}

TEST_F(DamagedCheckpoint, IndexIsSomethingElse) {
  overwrite(made_ / kIndexFile, "\x89HDF\r\n\x1a\n and so on");
  expect_error(Exit::bad_input, {kIndexFile, "does not begin with gf-checkpoint-2"}, [&] { load(); });
}

TEST_F(DamagedCheckpoint, IndexOfAnotherFormat) {
  overwrite(made_ / kIndexFile, "gf-checkpoint-1\nbytes 600\n" + std::string(573, 'x'));
  expect_error(Exit::bad_input, {kIndexFile, "of the format gf-checkpoint-1, and this program reads gf-checkpoint-2"},
               [&] { load(); });
}

// libhdf5 dies of hostile files: whatever stands in its part of this one, under a checksum that is right, is not read.
TEST_F(DamagedCheckpoint, NothingOfHdf5IsParsed) {
  const std::string whole = content_of(made_ / kIndexFile), section = encode_index(read_index(made_ / kIndexFile));
  ASSERT_TRUE(whole.ends_with(section));
  const std::string rest = std::string(whole.size() - kSealBytes - section.size(), '\xff') + section;
  overwrite(made_ / kIndexFile, make_seal(rest, section.size()) + rest);
  CheckpointReader(made_).verify();
  expect_holds(CheckpointReader(made_), state_);
}

// Nor does an index of ours bring anything down that someone made up and sealed: read or refused, and without asking
// for more memory than the file has.
TEST_F(DamagedCheckpoint, AnySealedIndexIsReadOrRefused) {
  const std::string section = encode_index(read_index(made_ / kIndexFile));
  int refused = 0, read = 0;
  const auto check = [&](const std::string& changed) {
    overwrite(made_ / kIndexFile, make_seal(changed, changed.size()) + changed);
    try {
      load();
      ++read;
    } catch (const Error& e) {
      EXPECT_EQ(static_cast<int>(e.status()), 2) << e.what();
      ++refused;
    }
  };
  for (size_t at = 0; at < section.size(); ++at)
    for (const char byte : {'\0', '\x01', '\x7f', '\xff'}) {
      std::string changed = section;
      changed[at] = byte;
      check(changed);
    }
  for (size_t at = 0; at + 8 <= section.size(); ++at) {
    std::string changed = section;
    changed.replace(at, 8, "\0\0\0\0\0\0\0\x80", 8);
    check(changed);
  }
  EXPECT_GT(read, 0) << "a byte of a text";
  EXPECT_GT(refused, 0);
  read = 0;
  for (size_t size = 0; size < section.size(); ++size) check(section.substr(0, size));
  EXPECT_EQ(read, 0);
  check(section + "and more");
  EXPECT_EQ(read, 0);
  check(section);
  EXPECT_EQ(read, 1);
}

// A small file could otherwise ask for any amount of memory, and of disk where it is exported.
TEST_F(DamagedCheckpoint, NoByteIsOfTwoPieces) {
  constexpr int64_t kAt = 1000;
  const auto decode_with = [](int64_t part, int64_t offset) {
    const CheckpointIndex index{sample_attributes(1),
                                {{4096, 0}, {4096, 0}},
                                {{"model/a", DType::f32, {12}, {{0, 12, part, offset, 0}}},
                                 {"model/b", DType::f32, {18}, {{0, 18, 1, kAt, 0}}}}};
    decode_index(encode_index(index));
  };
  for (const int64_t offset : {kAt - 47, kAt - 1, kAt, kAt + 8, kAt + 71}) {
    decode_with(0, offset);
    expect_error(Exit::failed,
                 {"in part 1 ", "model/a", cat("the bytes ", offset, " to ", offset + 48), "model/b",
                  cat("the bytes ", kAt, " to ", kAt + 72)},
                 [&] { decode_with(1, offset); });
  }
  for (const int64_t offset : {kAt - 48, kAt + 72}) decode_with(1, offset);
  // Of one tensor's pieces each a byte on from the one before.
  CheckpointIndex index = read_index(made_ / kIndexFile);
  IndexedTensor& tensor = *std::ranges::find(index.tensors, "model/emb.weight", &IndexedTensor::name);
  const int64_t at = tensor.blocks[0].offset;
  tensor.shape = Shape{600}, tensor.blocks.clear();
  for (int64_t i = 0; i < 60; ++i) tensor.blocks.push_back({10 * i, 10 * i + 10, 0, at + i, 0});
  const std::string section = encode_index(index);
  overwrite(made_ / kIndexFile, make_seal(section, section.size()) + section);
  expect_error(Exit::bad_input,
               {kIndexFile, cat("in part 0 model/emb.weight has the bytes ", at, " to ", at + 40,
                                " and model/emb.weight the bytes ", at + 1)},
               [&] { CheckpointReader{made_}; });
}

TEST_F(DamagedCheckpoint, PartsOfMoreBytesThanCanBeCounted) {
  CheckpointIndex index = read_index(made_ / kIndexFile);
  index.parts[1].bytes = INT64_MAX;
  expect_error(Exit::failed, {"a part of 9223372036854775807 bytes"}, [&] { decode_index(encode_index(index)); });
}

TEST_F(DamagedCheckpoint, NamesThatNoTensorHas) {
  const auto with_name = [&](const std::string& name) {
    CheckpointIndex index = read_index(made_ / kIndexFile);
    index.tensors.back().name = name;  // behind all others
    decode_index(encode_index(index));
  };
  with_name("p" + std::string(999, 'x'));
  with_name("p\u00e9");
  for (const std::string& name : {std::string(), std::string("p\x1b[2J"), std::string("p\n"), std::string("p\x7f"),
                                  std::string("p\xc2\x9b"), std::string("p\xff"), std::string(1001, 'x')}) {
    SCOPED_TRACE(name.substr(0, 10));
    expect_error(Exit::failed, {"a tensor called ", "without control characters"}, [&] { with_name(name); });
  }
}

TEST_F(DamagedCheckpoint, PartsThatDoNotFitTheIndex) {
  const fs::path other = write_as_ranks(folder_.path(), sample_state(1), 2, 200);
  fs::copy_file(other / part_file_name(0, 2), made_ / part_file_name(0, 2), fs::copy_options::overwrite_existing);
  expect_error(Exit::bad_input, {"part-00000-of-00002.h5", "checksum"}, [&] { load(); });
}

TEST(CheckpointJoin, PiecesMustCoverEachTensorOnce) {
  const TempFolder folder;
  const auto state = sample_state(0, {{"model/a", {4, 3}}});
  const auto join = [&](std::vector<std::pair<int64_t, int64_t>> ranges) {
    std::vector<PartFile> parts;
    for (const auto& [begin, end] : ranges) {
      PartWriter(folder / "part.h5", std::vector{state[0].view(begin, end)}).write();
      parts.push_back(read_part(folder / "part.h5"));
    }
    write_index(folder / kIndexFile, sample_attributes(1), parts);
  };
  expect_error(Exit::failed, {"model/a", "element 7", "up to 5"}, [&] { join({{0, 5}, {7, 12}}); });
  expect_error(Exit::failed, {"model/a", "element 4", "up to 5"}, [&] { join({{0, 5}, {4, 12}}); });
  expect_error(Exit::failed, {"model/a", "11 elements"}, [&] { join({{0, 5}, {5, 11}}); });
}

}  // namespace
}  // namespace gf
