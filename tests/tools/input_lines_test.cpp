// SPDX-License-Identifier: Apache-2.0
#include "tools/input_lines.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <csignal>
#include <thread>

#include "support/expect_error.h"

namespace gf {
namespace {

class InputLinesOfPipe : public testing::Test {
 protected:
  InputLinesOfPipe() { GF_CHECK(::pipe(ends_.data()) == 0, "no pipe"); }
  ~InputLinesOfPipe() override {
    end();
    ::close(ends_[0]);
  }
  void write(const std::string& text) const {
    ASSERT_EQ(::write(ends_[1], text.data(), text.size()), std::ssize(text));
  }
  void end() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }
  InputLines lines(size_t longest, const StopSignal* stop = nullptr) const {
    return InputLines(ends_[0], longest, stop);
  }

 private:
  std::array<int, 2> ends_{};
};

TEST_F(InputLinesOfPipe, ComeAsTheyAreWritten) {
  InputLines in = lines(100);
  EXPECT_EQ(in.at_hand(), std::nullopt);
  write("one\n\ntw");
  EXPECT_EQ(in.next(), "one");
  EXPECT_EQ(in.at_hand(), "");
  EXPECT_EQ(in.at_hand(), std::nullopt) << "half a line";
  write("o\nthree");
  EXPECT_EQ(in.at_hand(), "two");
  end();
  EXPECT_EQ(in.next(), "three");
  EXPECT_EQ(in.next(), std::nullopt);
}

// A line that is whole comes all the same; what would come after it is not waited for.
TEST_F(InputLinesOfPipe, ASignalEndsTheWait) {
  const StopSignal stop;
  InputLines in = lines(100, &stop);
  write("one\ntwo\nthr");
  EXPECT_EQ(in.next(), "one");
  std::thread other([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    kill(getpid(), SIGTERM);
  });
  EXPECT_EQ(in.next(), "two");
  EXPECT_EQ(in.next(), std::nullopt);
  other.join();
  EXPECT_EQ(in.next(), std::nullopt);
  EXPECT_EQ(stop.received(), SIGTERM);
}

TEST_F(InputLinesOfPipe, OneThatIsTooLongTakesLittleMemoryAndIsRefused) {
  InputLines in = lines(5);
  write("12345\n");
  const auto whole = in.next();
  EXPECT_EQ(whole, "12345");
  EXPECT_NO_THROW(in.check_length(*whole));
  for (int i = 0; i < 100; ++i) {
    write(std::string(1000, 'x'));
    EXPECT_EQ(in.at_hand(), std::nullopt);
  }
  write("\nnext\n");
  const auto cut = in.next();
  ASSERT_TRUE(cut);
  EXPECT_LT(cut->size(), 2000u);
  expect_refused({"a line of more than 5 bytes"}, [&] { in.check_length(*cut); });
  EXPECT_EQ(in.next(), "next");
}

}  // namespace
}  // namespace gf
