// SPDX-License-Identifier: Apache-2.0
// Whose words a message is, as its reader knows ranks: by the launcher's number and the node, and by the stage as soon
// as that is known. Any thread may ask.
#pragma once
#include <atomic>
#include <string>

namespace gf {

class RankOrigin {
 public:
  RankOrigin(int rank, int size, std::string node);
  const std::string& node() const { return node_; }
  void set_stage(int stage, int stages);
  std::string text() const;  // "rank 3 of 8, node gpu-017, stage 1 of 2"; one stage alone is not told of

 private:
  const int rank_, size_;
  const std::string node_;
  std::atomic<int> stage_ = 0, stages_ = 1;
};

}  // namespace gf
