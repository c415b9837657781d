// SPDX-License-Identifier: Apache-2.0
// gf verify golden FILE...: does this build, on this machine, compute what it should?
#include <fmt/format.h>

#include "base/error.h"
#include "parallel/gpu_of_rank.h"
#include "tools/command_line.h"
#include "train/golden.h"

namespace gf {

namespace po = boost::program_options;

namespace {

GoldenOptions options_of(const po::variables_map& values) {
  const auto precision = values["precision"].as<std::string>();
  const bool gpu = values["gpu"].as<bool>();
  if (precision != "32" && precision != "bf16")
    refuse(cat("--precision is ", precision, "; there are 32 and bf16"), "--precision 32");
  if (precision == "bf16" && !gpu) refuse("--precision bf16 needs a GPU", "--gpu, or --precision 32");
  return {values["recompute"].as<bool>(), gpu ? choose_gpu(0) : kCpu, precision == "bf16" ? DType::bf16 : DType::f32};
}

}  // namespace

int run_verify(const Arguments& arguments) {
  CommandLine line{"gf verify golden FILE.json... [--recompute] [--gpu [--precision bf16]]"};
  line.options.add_options()("recompute", po::bool_switch(),
                             "run each block again in the backward pass, as train.grad_cp 1")(
      "gpu", po::bool_switch(), "compute on a GPU")("precision", po::value<std::string>()->default_value("32"),
                                                    "of that: 32, or bf16, where only losses are compared, within 1 %");
  line.positional.add_options()("what", po::value<std::string>()->required())(
      "file", po::value<std::vector<std::string>>()->required());
  line.order.add("what", 1).add("file", -1);
  const auto values = parse(line, arguments);
  if (values.empty()) return 0;
  if (values["what"].as<std::string>() != "golden")
    refuse("there is nothing called \"" + values["what"].as<std::string>() + "\" to verify", "usage: " + line.usage);
  const GoldenOptions options = options_of(values);
  bool ok = true;
  for (const auto& file : values["file"].as<std::vector<std::string>>()) {
    fmt::print("{}\n", file);
    for (const GoldenCheck& c : check_golden(file, options)) {
      ok = ok && c.ok();
      fmt::print("  {:4} {:22} largest relative error {:8.2e}, tolerance {:.0e}  {}\n", c.ok() ? "ok" : "FAIL", c.what,
                 c.error, c.tolerance, c.worst);
    }
  }
  fmt::print("{}\n", ok ? "all golden cases hold" : "some golden cases FAIL");
  return static_cast<int>(ok ? Exit::done : Exit::failed);
}

}  // namespace gf
