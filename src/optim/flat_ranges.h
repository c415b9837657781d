// SPDX-License-Identifier: Apache-2.0
// Ranges of a rank's flat buffers, mostly one a parameter, and what an optimizer does with all of them: the sum of the
// squares of each, in a fixed order that depends on its length alone, and AdamW. A GPU goes through all of them at one
// launch, by a table that is made once.
#pragma once
#include <vector>

#include "model/parameter.h"
#include "optim/adamw.h"
#include "optim/groups.h"
#include "tensor/pinned_memory.h"
#include "tensor/side_stream.h"

namespace gf {

class FlatRanges {
 public:
  struct Range {
    FlatRange flat;
    int64_t state = 0;    // where its moments begin, and its masters
    Group group = {};     // how it takes part in the update
    double lr_scale = 1;  // of its own, over the group's
  };
  FlatRanges(std::vector<Range>, Device);
  bool empty() const { return ranges_.empty(); }

  // Of all numbers in the flat buffer; two steps, so that a GPU can be told more before it is waited for.
  void begin_squares(const Tensor& flat);
  std::vector<double> take_squares();
  // `all`: of the whole buffers, with the rate and the decay that the groups scale. Where `rounded` are the values, p
  // are their masters, which lie as the moments do; else p are the values.
  void adamw(const AdamWArgs& all) const;

 private:
  void make_table();
  std::vector<Range> ranges_;
  Device device_;
  Tensor squares_;  // on the CPU, where arrived_ has passed
  // On a GPU; see flat_ranges_kernels.h.
  PinnedMemory pinned_;
  StreamEvent arrived_;
  int64_t num_pieces_ = 0;
  Tensor pieces_, first_, rates_, sums_;
};

}  // namespace gf
