// SPDX-License-Identifier: Apache-2.0
// Token shift: each position mixed with the one before it, by a fixed factor a channel. The position before the
// first of a sequence is zero, unless it is given: then rows go on from others that came before, and there is no
// backward pass.
#pragma once
#include "autodiff/tape.h"

namespace gf {

enum class ShiftMix : uint8_t {
  toward_previous,  // x_t + (x_{t-1} - x_t) mix: Finch's time_maa
  toward_current,   // x_{t-1} + (x_t - x_{t-1}) mix: Eagle's time_mix
};

// One output for each mix, all in one pass.  x: (B, T, C), mixes: C values each, before: (B, C) -> (B, T, C) each
std::vector<Var> token_shift(const Var& x_BTC, std::span<const Var> mixes, ShiftMix kind = ShiftMix::toward_previous,
                             const Tensor& before_BC = {});

}  // namespace gf
