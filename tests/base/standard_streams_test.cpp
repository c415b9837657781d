// SPDX-License-Identifier: Apache-2.0
#include "base/standard_streams.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace gf {
namespace {

// In a process of its own, whose descriptors these may be.
int status_of(int (*body)()) {
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
