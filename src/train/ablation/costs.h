// SPDX-License-Identifier: Apache-2.0
// What a model costs, from its configuration alone: for comparing variants, and for making them equal.
#pragma once
#include "train/ablation/ablation.h"

namespace gf {

int64_t parameters_of(const ModelConfig&);
// A token's share of a forward and a backward pass over ctx_len of them, as the ops count their operations.
double training_flops(const ModelConfig&);
// What each further token adds to the state from which text is generated: keys and values of each attention layer in
// bf16; for GOLD layers together one compressed key in bf16 and the token's number, in as many bytes as that takes.
// Recurrent layers add nothing.
double cache_bytes(const ModelConfig&);

// Whether dim_ffn changes what the model costs; where all channel mixers have a width of their own, it does not.
bool can_be_matched(const ModelConfig&);
// The dim_ffn, a multiple of 32, with which the model comes nearest to `like` in parameters or operations. Refuses
// where no layer reads dim_ffn, unless they are equal already, and where none would do.
int64_t matching_width(const ModelConfig&, const PlannedVariant& like, Ablation::Match);

}  // namespace gf
