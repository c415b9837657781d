// SPDX-License-Identifier: Apache-2.0
// What a model keeps of the tokens it has read, so that it can read on: of one sequence. Of fixed size are the rows
// that token shifts look back to and the states of recurrences, in float32 whatever the weights are. With each position
// grow the keys and values of attention, and of GOLD layers the compressed key and the token: all that theirs are made
// from.
#pragma once
#include <map>
#include <string>

#include "autodiff/tape.h"
#include "tensor/growing_rows.h"

namespace gf {

class Past {
 public:
  struct Options {
    bool expanded = true;      // GOLD layers keep their keys and values; else they make them anew each time
    DType cache = DType::f32;  // or bf16: of compressed keys, and of keys and values
  };
  explicit Past(Options options) : options_(options) {}
  Past(Past&&) = default;
  Past& operator=(Past&&) = default;
  Past copy() const;  // reads on by itself

  const Options& options() const { return options_; }
  int64_t size() const { return size_; }  // tokens read
  void read_on(int64_t tokens) { size_ += tokens; }

  // Rows that layers are given end with the last token read: the position of the first of so many.
  int64_t first_of(int64_t rows) const { return size_ - rows; }
  // Where rows were left out before those that layers are given now, what mixers keep of the row before is not that of
  // these. Then each mixer that looks back to it takes the first of its rows for that, and gives one row fewer than it
  // was given.
  bool first_looked_back_to() const { return first_looked_back_to_; }
  void look_back_to_first(bool on) { first_looked_back_to_ = on; }

  // Whoever keeps something has a name for it.
  // The row that came before the first of x, zeros at the beginning; the last of x is kept in its place.
  // x: (1, T, C) -> (1, C), a tensor of the pass: one of its own would be got from the system, and given back, a layer.
  Tensor row_before(const std::string& name, const Var& x_BTC);
  Tensor& state(const std::string& name, const Shape&, DType);  // zeros at the beginning, changed in place
  GrowingRows& growing(const std::string& name, int64_t width) { return growing(name, width, options_.cache); }
  GrowingRows& growing(const std::string& name, int64_t width, DType kept);

  size_t fixed_bytes() const;
  size_t growing_bytes() const;
  // All of it, by name: for files.
  const std::map<std::string, Tensor>& fixed() const { return fixed_; }
  const std::map<std::string, GrowingRows>& all_growing() const { return growing_; }

 private:
  Options options_;
  int64_t size_ = 0;
  bool first_looked_back_to_ = false;
  std::map<std::string, Tensor> fixed_;
  std::map<std::string, GrowingRows> growing_;
};

}  // namespace gf
