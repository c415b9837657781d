// SPDX-License-Identifier: Apache-2.0
#include "tools/ranks_main.h"

#include "base/standard_streams.h"
#include "parallel/agreement.h"
#include "tools/command_line.h"

namespace gf {

int run_on_ranks(const std::string& program, const World& world, const std::function<int()>& body) {
  const auto say = [&](const Error& e) {
    print_error(program, e);
    if (world.size() > 1) print_note("  ({})\n", world.origin().text());
  };
  try {
    return body();
  } catch (const AgreedError& e) {
    if (e.mine()) say(e);
    return static_cast<int>(e.status());
  } catch (const Error& e) {
    if (world.size() == 1) throw;
    say(e);
    world.end_all(static_cast<int>(e.status()));
  } catch (const std::exception& e) {
    if (world.size() == 1) throw;
    say(Error(e.what(), "", Exit::failed, Where::here()));
    world.end_all(static_cast<int>(Exit::failed));
  }
}

}  // namespace gf
