// SPDX-License-Identifier: Apache-2.0
// gf report: the curves and numbers of some runs as one HTML page.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "tools/command_line.h"
#include "train/report.h"

namespace gf {
namespace {

namespace po = boost::program_options;

// Beside, then renamed: a browser never sees half a page.
void write_page(const std::filesystem::path& path, const std::string& page) {
  const std::filesystem::path beside = path.string() + ".new";
  std::ofstream out(beside, std::ios::binary);
  if (!out) refuse(cat("cannot write ", beside.string(), ": ", std::strerror(errno)), "--out FILE in another folder");
  out << page << std::flush;
  std::error_code error;
  if (!out) error.assign(errno, std::generic_category());
  if (!error) std::filesystem::rename(beside, path, error);
  if (!error) return;
  std::error_code ignored;
  std::filesystem::remove(beside, ignored);
  fail(cat("cannot write ", path.string(), ": ", error.message()));
}

}  // namespace

int run_report(const Arguments& arguments) {
  CommandLine line{.usage = "gf report RUN... [--out FILE]"};
  line.options.add_options()("out", po::value<std::string>()->value_name("FILE"),
                             "the page to write (default: RUN/report.html for one run, report.html for several)");
  line.positional.add_options()("run", po::value<std::vector<std::string>>()->required(), "run folders");
  line.order.add("run", -1);
  const auto values = parse(line, arguments);
  if (values.empty()) return 0;

  std::vector<RunHistory> runs;
  for (const auto& folder : values["run"].as<std::vector<std::string>>()) runs.push_back(load_run(folder));
  std::filesystem::path out = (runs.size() == 1 ? runs[0].folder : std::filesystem::path()) / "report.html";
  if (values.count("out")) out = values["out"].as<std::string>();
  write_page(out, report_page(runs));
  std::puts(out.c_str());
  return 0;
}

}  // namespace gf
