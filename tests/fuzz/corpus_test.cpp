// SPDX-License-Identifier: Apache-2.0
// Everything in the corpus, without a fuzzer: what was a fault once stays mended.
#include <gtest/gtest.h>

#include <filesystem>

#include "fuzz/targets.h"
#include "support/files.h"

namespace gf {
namespace {

class Corpus : public testing::TestWithParam<fuzz::Target> {};

TEST_P(Corpus, IsReadOrRefused) {
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(std::filesystem::path(GF_SOURCE_DIR) /
                                                              "tests/fuzz/corpus" / GetParam().name)) {
    SCOPED_TRACE(file.path().string());
    const std::string bytes = read_file(file.path());
    EXPECT_NO_THROW(GetParam().run({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}));
    ++files;
  }
  EXPECT_GT(files, 0);
}

INSTANTIATE_TEST_SUITE_P(Of, Corpus, testing::ValuesIn(fuzz::targets().begin(), fuzz::targets().end()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace gf
