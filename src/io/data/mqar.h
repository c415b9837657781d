// SPDX-License-Identifier: Apache-2.0
// The task MQAR, multi-query associative recall (Arora et al., 2023, "Zoology"), as a data set with a loss mask: an
// example is some pairs of a key and its value, then each key once more, its value after it. Those later values are
// what is marked; all that is left over is token 0.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace gf {

struct MqarOptions {
  int64_t vocab_size = 8192;  // keys are of its lower half, values of its upper half
  int64_t length = 64;        // tokens of an example
  int64_t pairs = 4;
  int64_t examples = 0;
  uint64_t seed = 0;
  std::string out{};     // prefix of the data set
  bool windows = false;  // one more token 0 after each example: validation goes in steps of ctx_len + 1 tokens
};

void check(const MqarOptions&);

// Example `number` of a seed: its `length` tokens, and 1 for those that count. Pairs come in the order drawn, without
// any key or value twice. A key comes again `2 g` tokens after the last pair, the gaps g being drawn one after another
// without repetition in proportion to (g + 1)^(0.01 - 1), as published: most keys soon, some late.
void make_mqar_example(const MqarOptions&, int64_t number, std::span<int32_t> tokens, std::span<uint8_t> marks);

// All examples, each a document. `advance` is told of each.
void write_mqar(const MqarOptions&, const std::function<void(int64_t)>& advance);

}  // namespace gf
