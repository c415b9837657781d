// SPDX-License-Identifier: Apache-2.0
// gf report: the curves and numbers of some runs as one HTML page.
#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "io/partial_file.h"
#include "io/run_folder.h"
#include "tools/command_line.h"
#include "train/report.h"

namespace gf {

namespace po = boost::program_options;

int run_report(const Arguments& arguments) {
  CommandLine line{.usage = "gf report RUN... [--out FILE]"};
  line.options.add_options()("out", po::value<std::string>()->value_name("FILE"),
                             "the page to write (default: RUN/report.html for one run, report.html for several)");
  line.positional.add_options()("run", po::value<std::vector<std::string>>()->required(), "a run folder");
  line.order.add("run", -1);
  const auto values = parse(line, arguments);
  if (values.empty()) return 0;

  std::vector<RunHistory> runs;
  for (const auto& folder : values["run"].as<std::vector<std::string>>()) {
    runs.push_back(load_run(folder));
    if (!runs.back().trace_note.empty()) std::fprintf(stderr, "gf report: %s\n", runs.back().trace_note.c_str());
  }
  std::filesystem::path out = RunPaths(runs.size() == 1 ? runs[0].folder : "").report();
  const bool named = values.count("out") > 0;
  if (named) out = values["out"].as<std::string>();
  // So that nothing but an earlier report is ever replaced.
  if (out.extension() != ".html") refuse(out.string() + " is no name of a page", out.string() + ".html");
  write_file_atomically(out, report_page(runs), Exit::bad_input, named ? File::Links::follow : File::Links::refuse);
  std::puts(out.c_str());
  return 0;
}

}  // namespace gf
