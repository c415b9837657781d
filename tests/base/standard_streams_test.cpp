// SPDX-License-Identifier: Apache-2.0
#include "base/standard_streams.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "base/error.h"

namespace gf {
namespace {

// In a process of its own, whose descriptors these may be.
int status_of(int (*body)()) {
  std::fflush(stdout);  // else the child has it to write, too
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(StandardStreams, NoFileTakesThePlaceOfOneThatIsClosed) {
  EXPECT_EQ(status_of([] {
              for (const int standard : {0, 1, 2}) close(standard);
              hold_standard_descriptors();
              char byte = 0;
              if (open("/dev/null", O_RDONLY) <= 2) return 1;
              if (read(0, &byte, 1) != 0) return 2;    // its end
              if (write(1, &byte, 1) != -1) return 3;  // is seen to be lost
              if (write(2, &byte, 1) != 1) return 4;
              return 0;
            }),
            0);
}

TEST(StandardStreams, ThoseThatAreOpenStayAsTheyAre) {
  EXPECT_EQ(status_of([] {
              int ends[2];
              if (pipe(ends) != 0 || dup2(ends[1], 1) != 1 || close(0) != 0) return 1;
              hold_standard_descriptors();
              char byte = 'x';
              if (write(1, &byte, 1) != 1 || read(ends[0], &byte, 1) != 1) return 2;
              return byte == 'x' ? 0 : 3;
            }),
            0);
}

// Nothing ends where it is lost, and the end tells of it: of what was lost long before, too.
TEST(StandardStreams, OutputThatIsLostIsAnErrorAtItsEnd) {
  EXPECT_EQ(status_of([] {
              const int full = open("/dev/full", O_WRONLY);
              if (full < 0 || dup2(full, 1) != 1) return 1;
              print_output("{}\n", std::string(1 << 20, 'x'));
              try {
                finish_output();
              } catch (const Error& e) {
                const std::string what = e.what();
                return what == "cannot write to standard output: No space left on device" ? 0 : 2;
              }
              return 3;
            }),
            0);
}

TEST(StandardStreams, OutputThatGetsThereIsNone) {
  EXPECT_EQ(status_of([] {
              int ends[2];
              if (pipe(ends) != 0 || dup2(ends[1], 1) != 1) return 1;
              print_output("{} of {}\n", 1, 2);
              finish_output();
              char text[8];
              if (read(ends[0], text, sizeof text) != 7) return 2;
              return std::string_view(text, 7) == "1 of 2\n" ? 0 : 3;
            }),
            0);
}

TEST(StandardStreams, ANoteThatCannotBeWrittenEndsNothing) {
  EXPECT_EQ(status_of([] {
              const int full = open("/dev/full", O_WRONLY);
              if (full < 0 || dup2(full, 2) != 2) return 1;
              print_note("{} of {}\n", 1, 2);
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace gf
