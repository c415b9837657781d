// SPDX-License-Identifier: Apache-2.0
// The last bytes of checkpoint.h5: the index that we read, in a form of our own (docs/formats.md), so that no file from
// outside is ever parsed by HDF5, whose reader does not survive hostile ones.
#pragma once
#include <string>
#include <string_view>

#include "io/checkpoint/checkpoint_index.h"

namespace gf {

std::string encode_index(const CheckpointIndex&);

// Nothing in it is trusted: a count is compared with the bytes that are left before memory is asked for, and pieces
// with tensors, parts and each other. Throws an Error that says what is wrong, without the name of the file.
CheckpointIndex decode_index(std::string_view);

}  // namespace gf
