// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace gf {

// Runs body, which must throw an Error of this status whose message has all of these pieces in it.
inline void expect_error(Exit status, const std::vector<std::string>& pieces, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.status()), static_cast<int>(status)) << e.what();
    for (const std::string& piece : pieces)
      EXPECT_NE(std::string(e.what()).find(piece), std::string::npos) << "\"" << piece << "\" is not in: " << e.what();
    return;
  }
  ADD_FAILURE() << "no error; expected one with \"" << (pieces.empty() ? "" : pieces[0]) << "\"";
}

}  // namespace gf
