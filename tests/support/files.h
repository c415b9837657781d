// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

namespace gf {

std::string read_file(const std::filesystem::path&);
void write_file(const std::filesystem::path&, std::string_view bytes);

}  // namespace gf
