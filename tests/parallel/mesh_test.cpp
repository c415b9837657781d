// SPDX-License-Identifier: Apache-2.0
#include "parallel/mesh.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace gf {
namespace {

// One rank of a world that only says who it is and how it is split.
class Seen final : public Communicator {
 public:
  Seen(int rank, int size) : rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::unique_ptr<Work> all_gather(Tensor, Tensor) override { fail("not asked for"); }
  std::unique_ptr<Work> all_to_all(Tensor, Tensor) override { fail("not asked for"); }
  std::vector<std::unique_ptr<Work>> exchange(std::span<const Message>) override { fail("not asked for"); }
  void barrier() override {}
  std::unique_ptr<Communicator> split(int color, int key) override {
    splits.emplace_back(color, key);
    return std::make_unique<Seen>(key, size_);
  }
  std::vector<std::pair<int, int>> splits;

 private:
  int rank_, size_;
};

TEST(Mesh, OfOneRank) {
  const Mesh mesh = make_mesh(make_self_communicator(), 1, 1);
  EXPECT_EQ(mesh.pipe->size(), 1);
  EXPECT_EQ(mesh.data->size(), 1);
  EXPECT_EQ(mesh.world->size(), 1);
}

TEST(Mesh, DataRanksAreNeighbours) {
  for (int rank = 0; rank < 12; ++rank) {
    auto world = std::make_unique<Seen>(rank, 12);
    const Seen& seen = *world;
    const Mesh mesh = make_mesh(std::move(world), 3, 4);
    // (color, key) of the pipeline through this rank, then of its replicas.
    EXPECT_EQ(seen.splits, (std::vector<std::pair<int, int>>{{rank % 4, rank / 4}, {rank / 4, rank % 4}}));
    EXPECT_EQ(mesh.pipe->rank(), rank / 4);
    EXPECT_EQ(mesh.data->rank(), rank % 4);
  }
}

TEST(Mesh, RefusesAnotherNumberOfRanks) {
  for (const auto& shape : {std::pair(2, 1), {1, 3}, {0, 1}, {-1, -1}, {1 << 16, 1 << 16}})
    expect_error(Exit::bad_input,
                 {cat("pipeline ", shape.first), cat("data ", shape.second), "the 1 rank that there is"},
                 [&] { make_mesh(make_self_communicator(), shape.first, shape.second); });
}

}  // namespace
}  // namespace gf
