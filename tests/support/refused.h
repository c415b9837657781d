// SPDX-License-Identifier: Apache-2.0
// Bad input, tested: a call must refuse, as the user's error, with a message and hint that contain given pieces.
#pragma once
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "base/error.h"

namespace gf {

template <class Call>
void expect_refused(Call&& call, std::initializer_list<const char*> pieces) {
  try {
    call();
  } catch (const Error& e) {
    const std::string message = std::string(e.what()) + " [try: " + e.hint() + "]";
    EXPECT_EQ(e.status(), Exit::bad_input) << message;
    for (const char* piece : pieces) EXPECT_NE(message.find(piece), std::string::npos) << piece << " in: " << message;
    return;
  }
  ADD_FAILURE() << "was not refused";
}

}  // namespace gf
