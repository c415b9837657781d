// SPDX-License-Identifier: Apache-2.0
#include "io/yaml_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "support/expect_error.h"
#include "support/faulty_disk.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

TEST(YamlFile, FilesThatCannotBeReadAreNamed) {
  const TempFolder folder;
  const auto refused = [&](const std::filesystem::path& path, const std::string& piece) {
    expect_refused({path.string(), piece}, [&] { read_yaml(path); });
  };
  refused(folder / "none.yaml", "No such file");
  refused(folder.path(), "is a folder");
  write_file(folder / "a.yaml", "a: 1\nb: c: d\n");
  refused(folder / "a.yaml", "a.yaml:2");
  write_file(folder / "long.yaml", std::string(kLongestYaml + 1, '#'));
  refused(folder / "long.yaml", "is larger than 1048576 bytes");
}

TEST(YamlFile, MayBeAPipe) {
  const TempFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::thread writer([&] { write_file(folder / "pipe", "a: 1\n"); });
  const auto settings = read_yaml(folder / "pipe");
  writer.join();
  ASSERT_EQ(settings.size(), 1u);
  EXPECT_EQ(settings[0].path, "a");
}

TEST(YamlFile, APipeIsRefusedWhereNobodyMayWait) {
  const TempFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_refused({folder / "pipe", "is not a regular file"}, [&] { read_yaml(folder / "pipe", YamlFrom::regular); });
  write_file(folder / "a.yaml", "a: 1\n");
  EXPECT_EQ(read_yaml(folder / "a.yaml", YamlFrom::regular).size(), 1u);
}

TEST(YamlFile, AFailureToReadIsTold) {
  const TempFolder folder;
  write_file(folder / "a.yaml", "a: 1\n");
  const FaultyDisk disk(folder.path().string(), Fault::read_error, 0);
  expect_error(Exit::failed, {"cannot read " + (folder / "a.yaml").string(), "Input/output error"},
               [&] { read_yaml(folder / "a.yaml"); });
}

}  // namespace
}  // namespace gf
