// SPDX-License-Identifier: Apache-2.0
// The head product with cross-entropy. It goes over chunks of positions, so that all logits never exist at once,
// and makes each logit once: when recording, the forward pass also makes the gradients, while it has the logits.
// They are final then, so the loss must be what the backward pass is seeded with, and with 1: whatever it is to
// be divided by belongs into `scale`.
#pragma once
#include "autodiff/tape.h"

namespace gf {

struct HeadLossOptions {
  double scale = 1;  // usually 1 / (targets of the whole optimizer step)
  // The gradient, not the value, also pulls each position's largest logit (the first of equals) towards zero:
  // by pull * scale * that logit. Published: 1e-4.
  double pull = 0;
  // A target of -1 (kNoTarget) takes no part: its loss and gradients are zero, and its logits are never made.
  bool masked = false;
};

struct HeadLoss {
  Var loss;           // scale * (sum of the cross-entropies), shape 1
  Tensor losses_BT;   // f64: each position's cross-entropy in nats, 0 where there is no target
  Tensor correct_BT;  // i32: 1 where the largest logit (the first of equals) is the target's, else 0
};

// loss = scale * sum_m (log sum_v exp(l_mv) - l_m,target(m)),  l = x W^T in x's type, its exponentials taken below
// the largest logit, the sum over positions in double and in order.  x: (..., C), w: (V, C), targets: i32, one a
// row of x, each in [0, V). A logit that is NaN, or +infinity, makes the loss NaN. Gradients of logits under 2^-100 are
// taken as zero.
HeadLoss head_loss(const Var& x_BTC, const Var& w_VC, const Tensor& targets_BT, const HeadLossOptions& = {});

}  // namespace gf
