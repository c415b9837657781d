// SPDX-License-Identifier: Apache-2.0
// gf-dist-train: trains a model, on one rank or many.
#include <cstdio>

#include "tools/command_line.h"

int main(int, char**) {
  return gf::run_main("gf-dist-train", [] { return 0; });
}
