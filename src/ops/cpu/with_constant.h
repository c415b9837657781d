// SPDX-License-Identifier: Apache-2.0
// A small count as a constant, so that loops over it are unrolled and what they sum stays in registers.
#pragma once

#include <type_traits>
#include <utility>

namespace gf::cpu {

// Calls body with the std::integral_constant that n is: from smallest to largest.
template <int smallest, int largest, class Body>
void with_constant(int n, Body&& body) {
  if (n == largest)
    body(std::integral_constant<int, largest>{});
  else if constexpr (largest > smallest)
    with_constant<smallest, largest - 1>(n, std::forward<Body>(body));
}

}  // namespace gf::cpu
