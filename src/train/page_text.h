// SPDX-License-Identifier: Apache-2.0
// Text for a page: what comes from a run goes in as text, never as markup.
#pragma once
#include <string>
#include <string_view>

namespace gf {

std::string escaped(std::string_view text);      // for HTML, in attributes too
std::string json_text(const std::string& text);  // quoted, for JSON inside a script element

}  // namespace gf
