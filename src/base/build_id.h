// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

namespace gf {

// Tells builds of the running program apart: the linker's build id where there is one, else the size of its file.
std::string build_id();

}  // namespace gf
