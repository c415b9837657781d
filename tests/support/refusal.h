// SPDX-License-Identifier: Apache-2.0
// What a piece of code throws, for tests of bad input: its status and what its message says.
#pragma once
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "base/error.h"

namespace gf {

// Runs `body`, which has to throw an Error of this status whose message and hint contain all `parts`.
template <class Body>
void expect_error(Exit status, std::initializer_list<std::string> parts, Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    const std::string said = std::string(e.what()) + " | " + e.hint();
    EXPECT_EQ(e.status(), status) << said;
    for (const std::string& part : parts)
      EXPECT_NE(said.find(part), std::string::npos) << part << " is not in: " << said;
    return;
  }
  ADD_FAILURE() << "nothing was thrown";
}

template <class Body>
void expect_refused(std::initializer_list<std::string> parts, Body&& body) {
  expect_error(Exit::bad_input, parts, body);
}

}  // namespace gf
