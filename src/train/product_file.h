// SPDX-License-Identifier: Apache-2.0
// train.product_choices: by which algorithms products are fastest on a GPU, as runs before this one have found out, and
// this one leaves to later ones. A run that has found out something is no measure for the bits of another: the next is.
#pragma once
#include <filesystem>

#include "parallel/communicator.h"

namespace gf {

// On this thread, from now on. A file that is not there yet says nothing.
void use_product_file(const std::filesystem::path&);
// Collective: what ranks have found out since the last call goes to the end of the file, by the first of them.
void add_to_product_file(const std::filesystem::path&, Communicator&);

}  // namespace gf
