// SPDX-License-Identifier: Apache-2.0
// The published models and what else can be configured, small: for tests of what reads a text token by token.
#pragma once
#include <ostream>

#include "support/small_model.h"

namespace gf {

struct ModelVariant {
  const char* name;
  const char *tmix, *tmix2;
  void (*change)(ModelConfig&) = [](ModelConfig&) {};

  ModelConfig config() const {
    ModelConfig c = small_config(tmix, "x060", tmix2);
    change(c);
    c.resolve();
    c.check();
    return c;
  }
};

inline void PrintTo(const ModelVariant& variant, std::ostream* out) {
  *out << variant.name;
}

inline constexpr ModelVariant kModelVariants[] = {
    {"finch", "x060", ""},
    {"finch_b", "x060b", ""},
    {"eagle", "x052", "", [](ModelConfig& c) { c.cmix = "x052"; }},
    {"finch_c2", "x060c2", ""},
    {"finch_c2_no_v2", "x060c2", "", [](ModelConfig& c) { c.use_v2 = false; }},
    {"finch_c2_no_one_minus_w", "x060c2", "", [](ModelConfig& c) { c.use_one_minus_w = false; }},
    {"gptalpha", "gptalpha", "", [](ModelConfig& c) { c.rope.emplace(); }},
    {"gptalpha_alibi", "gptalpha", "", [](ModelConfig& c) { c.alibi.emplace(); }},
    {"gptalpha_brope", "gptalpha", "", [](ModelConfig& c) { c.brope.emplace(); }},
    {"llama", "llama", "", [](ModelConfig& c) { c.rope.emplace(), c.cmix = "llama"; }},
    {"goldfinch", "x060c2", "gold"},
    {"goldfinch_rope", "x060c2", "gold", [](ModelConfig& c) { c.rope.emplace(); }},
    {"goldfinch_rope_slower", "x060c2", "gold", [](ModelConfig& c) { c.rope = {.rescale = 4, .rebase = 3}; }},
    {"goldfinch_brope", "x060c2", "gold", [](ModelConfig& c) { c.brope = {.rescale = 2}; }},
    {"goldfinch_no_one_minus_w", "x060c2", "gold", [](ModelConfig& c) { c.use_one_minus_w = false; }},
    {"goldfinch_two_gold", "x060c2", "gold", [](ModelConfig& c) { c.n_layer = 6; }},
    {"goldfinch_llama", "x060c2", "gold", [](ModelConfig& c) { c.cmix2 = "llama"; }},
    {"goldfinch_parallel", "x060c2", "gold", [](ModelConfig& c) { c.parallel = true; }},
    {"goldfinch_parallel_llama", "x060c2", "gold", [](ModelConfig& c) { c.parallel = true, c.cmix2 = "llama"; }},
    {"finch_gold", "x060", "gold"},
    {"finch_c2_gptalpha", "x060c2", "gptalpha"},
};

}  // namespace gf
