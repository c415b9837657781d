// SPDX-License-Identifier: Apache-2.0
#include "tools/ranks_main.h"

#include <optional>
#include <utility>

#include "base/standard_streams.h"
#include "parallel/agreement.h"
#include "tools/command_line.h"
#include "train/config.h"

namespace gf {
namespace {

Error error_of(const std::exception& e) {
  const auto* const error = dynamic_cast<const Error*>(&e);
  return error ? *error : Error(e.what(), "", Exit::failed, Where::here());
}

}  // namespace

int run_on_ranks(const std::string& program, const std::function<int(const OnRanks&)>& body) {
  World world;
  std::optional<HangWatch> watch;
  if (world.size() > 1)
    watch.emplace(static_cast<double>(ParallelConfig().hang_seconds), [&](const std::string& what) {
      print_note("{}: {}, {}\n", program, world.origin().text(), what);
      world.end_all(static_cast<int>(Exit::failed));
    });
  HangWatch* const watched = watch ? &*watch : nullptr;
  bool told = world.size() == 1;  // by main()
  const std::function<void(const std::exception&)> tell = [&](const std::exception& e) {
    if (std::exchange(told, true)) return;
    if (const auto* const agreed = dynamic_cast<const AgreedError*>(&e); agreed && !agreed->mine()) return;
    print_error(program, error_of(e));
    print_note("  ({})\n", world.origin().text());
  };
  int status = 0;
  try {
    status = body({world, watched, tell});
  } catch (const std::exception& e) {
    if (world.size() == 1) throw;
    tell(e);
    status = static_cast<int>(error_of(e).status());
    if (!dynamic_cast<const AgreedError*>(&e)) world.end_all(status);
  }
  // Here, and not when the world goes: the watch still needs it.
  // With twice the patience: who keeps the others waiting is to end the job, alone. Where another rank leaves in the
  // middle of MPI_Finalize at the same moment, mpirun itself may hang.
  if (watch) watch->set_limit(2 * watch->limit());
  const HangWatch::Doing ending(watched, "ending MPI, which waits for all ranks");
  world.end();
  return status;
}

}  // namespace gf
