// SPDX-License-Identifier: Apache-2.0
#include "base/process_memory.h"

#include <gtest/gtest.h>

#include <limits>

#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

namespace fs = std::filesystem;

// A tree with what the system tells of control groups.
class ControlGroups : public testing::Test {
 protected:
  static constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();

  void put(const std::string& file, const std::string& text) const {
    fs::create_directories((folder_ / file).parent_path());
    write_file(folder_ / file, text + "\n");
  }
  void process_is_in(const std::string& lines) const { put("proc/self/cgroup", lines); }
  // Of version 2, with files that nobody needs; the rest of memory.stat is as a kernel has it.
  void group(const std::string& path, const std::string& limit, int used, int inactive) const {
    const std::string at = "sys/fs/cgroup" + path + "/";
    put(at + "memory.max", limit);
    put(at + "memory.current", std::to_string(used));
    put(at + "memory.stat",
        "anon 5\nfile 7\ninactive_anon 3\nactive_file 2\ninactive_file " + std::to_string(inactive) + "\nslab 9");
  }
  size_t left() const { return left_in_control_groups(folder_.path()); }

  TempFolder folder_;
};

TEST_F(ControlGroups, WithoutALimitLeaveAllThereIs) {
  EXPECT_EQ(left(), kUnlimited) << "no groups at all";
  process_is_in("0::/job");
  EXPECT_EQ(left(), kUnlimited) << "no files of it";
  group("/job", "max", 900, 0);
  EXPECT_EQ(left(), kUnlimited);
}

// As after `gf data tokenize`: pages of its files fill the job's memory until somebody needs it.
TEST_F(ControlGroups, FilesInMemoryAreGivenBack) {
  process_is_in("0::/job");
  group("/job", "1000", 900, 700);
  EXPECT_EQ(left(), 800u);
  group("/job", "1000", 900, 0);
  EXPECT_EQ(left(), 100u);
  group("/job", "1000", 1200, 150);  // beyond a limit that was lowered
  EXPECT_EQ(left(), 0u);
  group("/job", "1000", 900, 950);  // read at two moments
  EXPECT_EQ(left(), 1000u);
  fs::remove(folder_ / "sys/fs/cgroup/job/memory.stat");
  EXPECT_EQ(left(), 100u);
}

TEST_F(ControlGroups, EachGroupAroundCountsWithItsOwnFiles) {
  process_is_in("0::/slurm/job_7/step_0");
  group("/slurm/job_7/step_0", "max", 300, 0);
  group("/slurm/job_7", "1000", 900, 400);
  group("/slurm", "4000", 3900, 250);
  EXPECT_EQ(left(), 350u) << "of the outermost";
  group("/slurm", "4000", 3900, 3000);
  EXPECT_EQ(left(), 500u) << "of the job";
  group("/slurm/job_7/step_0", "310", 300, 0);
  EXPECT_EQ(left(), 10u) << "of the step";
}

// A container may be told the path that its group has outside.
TEST_F(ControlGroups, OfAContainerAreAtTheMount) {
  process_is_in("0::/kubepods/pod1/box");
  group("", "1000", 900, 700);
  EXPECT_EQ(left(), 800u);
}

TEST_F(ControlGroups, OfVersion1HaveTheirOwnNames) {
  process_is_in("5:cpu,cpuacct:/job\n4:memory:/job/step\n0::/job");
  const auto group1 = [&](const std::string& path, int limit, int used, const std::string& stat) {
    const std::string at = "sys/fs/cgroup/memory" + path + "/";
    put(at + "memory.limit_in_bytes", std::to_string(limit));
    put(at + "memory.usage_in_bytes", std::to_string(used));
    put(at + "memory.stat", stat);
  };
  group1("/job", 1000, 900, "inactive_file 1\ntotal_inactive_file 700");
  group1("/job/step", 800, 100, "inactive_file 50\ntotal_inactive_file 50");
  EXPECT_EQ(left(), 750u) << "of the step: 50 are given back";
  group1("/job", 1000, 900, "inactive_file 600\ntotal_inactive_file 600");
  EXPECT_EQ(left(), 700u) << "of the job: 600 are given back";
}

TEST(AvailableMemory, HintsNameALimitOnAddressSpace) {
  EXPECT_EQ((AvailableMemory{7, 0}.hint(1000, "less")), "less");
  EXPECT_EQ((AvailableMemory{7, 2048}.hint(1000, "less")), "a higher limit on address space (ulimit -v 3), or less");
  EXPECT_EQ((AvailableMemory{0, 2048}.hint(1024, "less")), "a higher limit on address space (ulimit -v 4)")
      << "less is no help";
}

TEST(AvailableMemory, TellsWhereALimitWent) {
  EXPECT_EQ((AvailableMemory{7, 0}.text()), "there are 7 B");
  EXPECT_EQ((AvailableMemory{7, 2048}.text()), "there are 7 B");
  EXPECT_EQ((AvailableMemory{0, 0}.text()), "there are 0 B");
  const std::string text = AvailableMemory{0, 3'000'000}.text();
  EXPECT_TRUE(text.starts_with("there are 0 B: of the ")) << text;
  EXPECT_TRUE(text.ends_with("the program, its libraries and its threads need 3.00 MB")) << text;
  EXPECT_EQ((AvailableMemory{0, 2048}.limit_for(1024)), 4u);
}

TEST(AvailableMemory, IsSharedByProcesses) {
  const auto one = static_cast<double>(available_memory().bytes),
             ten = static_cast<double>(available_memory(0, 10).bytes);
  EXPECT_GT(one, 0);
  EXPECT_NEAR(ten / one, 0.1, 0.05);  // other programs take and give back meanwhile
}

}  // namespace
}  // namespace gf
