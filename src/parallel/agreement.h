// SPDX-License-Identifier: Apache-2.0
// What all ranks do or fail together.
#pragma once
#include <functional>
#include <string>

#include "parallel/communicator.h"

namespace gf {

// An error that every rank throws because one of them failed; that one's has its text, and is to be told.
class AgreedError : public Error {
 public:
  AgreedError(const Error& e, bool mine) : Error(e), mine_(mine) {}
  bool mine() const { return mine_; }

 private:
  bool mine_;
};

// Runs `body` on every rank. Where one fails, all throw an AgreedError of the lowest such rank's status. On one rank
// its own error just passes.
void all_or_none(Communicator&, const std::function<void()>& body);

// Refuses, on all ranks, where one of them has another text than the first: `what` says what differs.
void check_same_everywhere(Communicator&, const std::string& what, const std::string& text);

double largest(Communicator&, double own);  // of all ranks' numbers

}  // namespace gf
