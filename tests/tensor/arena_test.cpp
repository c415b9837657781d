// SPDX-License-Identifier: Apache-2.0
#include "tensor/arena.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include "base/out_of_memory.h"
#include "base/random.h"
#include "support/expect_error.h"

namespace gf {
namespace {

constexpr size_t kBlock = 256;  // what the arena rounds to
constexpr int64_t kFloats = kBlock / sizeof(float);

Tensor blocks(Arena& arena, int64_t n) {
  return arena.empty({n * kFloats}, DType::f32);
}

// Something like a pass: tensors of hashed sizes, some of which die on the way. -> the addresses.
std::vector<const std::byte*> pass(Arena& arena) {
  const Random random(3, "arena");
  std::vector<Tensor> live;
  std::vector<const std::byte*> addresses;
  for (uint64_t i = 0; i < 300; ++i) {
    live.push_back(arena.empty({static_cast<int64_t>(random.bits(i) % 300000)}, DType::f32));
    addresses.push_back(live.back().raw());
    if (random.bits(1000 + i) % 3) live.erase(live.begin() + static_cast<int64_t>(random.bits(2000 + i) % live.size()));
  }
  return addresses;
}

TEST(Arena, CountsWhatIsInUse) {
  Arena arena(kCpu);
  EXPECT_EQ(arena.bytes_in_use(), 0u);
  EXPECT_EQ(arena.reserved_bytes(), 0u);
  {
    const Tensor a = blocks(arena, 1);
    EXPECT_EQ(arena.bytes_in_use(), kBlock);
    {
      const Tensor b = arena.empty({1}, DType::f64);
      EXPECT_EQ(arena.bytes_in_use(), 2 * kBlock) << "rounded up";
    }
    EXPECT_EQ(arena.bytes_in_use(), kBlock);
  }
  EXPECT_EQ(arena.bytes_in_use(), 0u);
  EXPECT_EQ(arena.peak_bytes(), 2 * kBlock);
  arena.reset_peak();
  EXPECT_EQ(arena.peak_bytes(), 0u);
  EXPECT_GE(arena.reserved_bytes(), 2 * kBlock);
}

// What helps is not for it to say: it does not know what the memory is for.
TEST(Arena, NamesWhatItCannotGet) {
  try {
    const Tensor endless = Tensor::empty({int64_t{1} << 50}, DType::f32, kCpu);
    FAIL() << "4 PiB";
  } catch (const OutOfMemory& e) {
    EXPECT_STREQ(e.what(), "cannot get 4294967296 MiB of memory");
    EXPECT_EQ(e.hint(), "");
  }
}

TEST(Arena, TensorsAreAlignedAndApart) {
  Arena arena(kCpu);
  std::vector<Tensor> tensors;
  for (int64_t n = 0; n < 50; ++n) tensors.push_back(arena.empty({n * 13}, DType::f32));
  for (const Tensor& t : tensors) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(t.raw()) % kBlock, 0u);
    for (const Tensor& other : tensors) {
      EXPECT_TRUE(t.raw() >= other.raw() || t.raw() + t.bytes() <= other.raw());
    }
  }
}

TEST(Arena, ReusesWhatIsGivenBack) {
  Arena arena(kCpu);
  const Tensor first = blocks(arena, 8);
  Tensor a = blocks(arena, 10);
  const std::byte* const where = a.raw();
  a = {};
  const size_t reserved = arena.reserved_bytes();
  EXPECT_EQ(blocks(arena, 10).raw(), where);
  EXPECT_EQ(arena.reserved_bytes(), reserved);
}

TEST(Arena, TakesTheSmallestGapThatFits) {
  Arena arena(kCpu);
  const Tensor first = blocks(arena, 16);  // all of the first, small region
  Tensor wide = blocks(arena, 10), wall1 = blocks(arena, 1), narrow = blocks(arena, 5), wall2 = blocks(arena, 1);
  const std::byte *const at_wide = wide.raw(), *const at_narrow = narrow.raw();
  wide = narrow = {};
  const Tensor five = blocks(arena, 5), six = blocks(arena, 6);
  EXPECT_EQ(five.raw(), at_narrow);
  EXPECT_EQ(six.raw(), at_wide);
  EXPECT_EQ(blocks(arena, 4).raw(), at_wide + 6 * kBlock) << "the rest of a gap is a gap";
}

TEST(Arena, JoinsNeighboursInAnyOrder) {
  for (const std::array<int, 3>& order : {std::array{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}) {
    Arena arena(kCpu);
    const Tensor first = blocks(arena, 16);  // all of the first, small region
    Tensor three[] = {blocks(arena, 3), blocks(arena, 4), blocks(arena, 5)};
    const Tensor wall = blocks(arena, 1);
    const std::byte* const begin = three[0].raw();
    for (const int i : order) three[i] = {};
    EXPECT_EQ(blocks(arena, 12).raw(), begin);
  }
}

// Two tensors of 20 MiB leave a gap that takes one of 40, whatever the arena got from the system at a time; the first
// memory of an arena is a region of its own.
TEST(Arena, GrowsAtItsEnd) {
  for (const Device device : {kCpu, kMeta}) {
    Arena arena(device);
    const Tensor first = blocks(arena, 1);
    const size_t before = arena.reserved_bytes();
    {
      const Tensor a = arena.empty({20 << 18}, DType::f32), b = arena.empty({20 << 18}, DType::f32);
      if (device == kCpu) a.data<float>()[a.numel() - 1] = b.data<float>()[b.numel() - 1] = 1;
    }
    const size_t reserved = arena.reserved_bytes();
    EXPECT_EQ(reserved, before + (40 << 20));
    Tensor big = arena.empty({40 << 18}, DType::f32);
    EXPECT_EQ(arena.reserved_bytes(), reserved);
    const Tensor more = arena.empty({1 << 18}, DType::f32);
    EXPECT_EQ(arena.reserved_bytes(), reserved + (2 << 20)) << "a large page";
    big = {};
    const Tensor larger = arena.empty({45 << 18}, DType::f32);  // its gap is cut off by what came behind it
    EXPECT_EQ(arena.reserved_bytes(), reserved + (2 << 20) + (44 << 20));
  }
}

// On a GPU each region is by itself: what two tensors of 20 MiB left takes no third of 40.
TEST(Arena, GrowsByRegionsAsOnAGpu) {
  Arena arena(kMetaGpu);
  const Tensor first = blocks(arena, 1);
  const size_t before = arena.reserved_bytes();
  { const Tensor a = arena.empty({20 << 18}, DType::f32), b = arena.empty({20 << 18}, DType::f32); }
  EXPECT_EQ(arena.reserved_bytes(), before + (64 << 20));
  const Tensor big = arena.empty({40 << 18}, DType::f32);
  EXPECT_EQ(arena.reserved_bytes(), before + (128 << 20));
}

#if !defined(GF_SANITIZED)  // which cannot live with such a limit
// `ulimit -v`: no address space to grow in, but memory. Then an arena takes the regions that one on a GPU is foretold.
TEST(Arena, GrowsByRegionsWhereThereIsNoAddressSpace) {
  const auto in_little_space = [] {
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = rlim_t{8} << 30;
    setrlimit(RLIMIT_AS, &limit);
    Arena arena(kCpu), foretold(kMetaGpu);
    const Tensor a = blocks(arena, 1), of_gpu = blocks(foretold, 1);
    const size_t before = arena.reserved_bytes();
    {
      const Tensor b = arena.empty({20 << 18}, DType::f32), c = foretold.empty({20 << 18}, DType::f32);
      b.data<float>()[b.numel() - 1] = 1;
      if (arena.reserved_bytes() != before + (32 << 20)) return false;
    }
    pass(arena), pass(foretold);
    return arena.reserved_bytes() > before + (32 << 20) && foretold.reserved_bytes() == arena.reserved_bytes();
  };
  EXPECT_EXIT(std::exit(in_little_space() ? 0 : 1), testing::ExitedWithCode(0), "");
}
#endif

TEST(Arena, TheSamePassGetsTheSameAddresses) {
  Arena arena(kCpu);
  pass(arena);
  pass(arena);
  const size_t reserved = arena.reserved_bytes();
  const auto third = pass(arena);
  EXPECT_EQ(pass(arena), third);
  EXPECT_EQ(arena.reserved_bytes(), reserved) << "no memory is got from the device any more";
}

TEST(Arena, MetaTellsWhatTheRealOneNeeds) {
  Arena real(kCpu), meta(kMeta);
  pass(real);
  pass(meta);
  EXPECT_EQ(meta.peak_bytes(), real.peak_bytes());
  EXPECT_EQ(meta.reserved_bytes(), real.reserved_bytes());
  EXPECT_GT(meta.peak_bytes(), size_t{1} << 20);
  const Tensor a = blocks(real, 3), b = blocks(meta, 3);
  EXPECT_EQ(meta.bytes_in_use(), real.bytes_in_use());
  EXPECT_EQ(b.device(), kMeta);
}

TEST(Arena, TensorsOutliveIt) {
  Tensor t;
  {
    Arena arena(kCpu);
    t = blocks(arena, 2);
  }
  for (int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = static_cast<float>(i);
  EXPECT_EQ(t.data<float>()[t.numel() - 1], static_cast<float>(t.numel() - 1));
}

TEST(Arena, FailureLeavesItUsable) {
  Arena arena(kCpu);
  const Tensor before = blocks(arena, 1);
  expect_error(Exit::failed, {"MiB"}, [&] { arena.empty({int64_t{1} << 50}, DType::f32); });
  EXPECT_EQ(arena.bytes_in_use(), kBlock);
  EXPECT_TRUE(blocks(arena, 1));
}

#if defined(__SANITIZE_ADDRESS__)
TEST(Arena, TheSanitizerSeesFreedMemory) {
  Arena arena(kCpu);
  const Tensor first = blocks(arena, 16);  // all of the first, small region
  Tensor t = arena.empty({5}, DType::f32);
  const std::byte* const where = t.raw();
  EXPECT_FALSE(__asan_address_is_poisoned(where));
  EXPECT_FALSE(__asan_address_is_poisoned(where + 19));
  EXPECT_TRUE(__asan_address_is_poisoned(where + 20)) << "behind the last element";
  t = {};
  EXPECT_TRUE(__asan_address_is_poisoned(where));
  t = arena.empty({5}, DType::f32);
  ASSERT_EQ(t.raw(), where);
  EXPECT_FALSE(__asan_address_is_poisoned(where));
}
#endif

}  // namespace
}  // namespace gf
