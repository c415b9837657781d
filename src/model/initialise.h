// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>

#include "model/parameter.h"

namespace gf {

// Told what each parameter begins with, in float32 on the CPU.
using TakeFresh = std::function<void(const Parameter&, const Tensor& numbers)>;
// Fresh values for all parameters, from their specs. Where values are float32 on the CPU they are made in their place,
// and `take` is called on any thread; else in memory of their own, a few parameters at a time, and `take` is called on
// this one, to put them where they belong: without it they become the values.
void initialise(const ParameterStore&, uint64_t seed, const TakeFresh& take = {});
// For measuring alone: small numbers of both signs, norms near 1. Nothing overflows and nothing is zero, and it does
// not take as long as orthogonal matrices.
void initialise_roughly(const ParameterStore&);

}  // namespace gf
