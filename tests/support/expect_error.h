// SPDX-License-Identifier: Apache-2.0
// What a piece of code throws, for tests of bad input: its status, and what its message and hint say.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace gf {

// Runs `body`, which must throw an Error of this status whose message and hint contain all `pieces`.
inline void expect_error(Exit status, const std::vector<std::string>& pieces, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    const std::string said = std::string(e.what()) + " [try: " + e.hint() + "]";
    EXPECT_EQ(static_cast<int>(e.status()), static_cast<int>(status)) << said;
    for (const std::string& piece : pieces)
      EXPECT_NE(said.find(piece), std::string::npos) << "\"" << piece << "\" is not in: " << said;
    return;
  }
  ADD_FAILURE() << "no error; expected one with \"" << (pieces.empty() ? "" : pieces[0]) << "\"";
}

// The same for wrong input.
inline void expect_refused(const std::vector<std::string>& pieces, const std::function<void()>& body) {
  expect_error(Exit::bad_input, pieces, body);
}

}  // namespace gf
