// SPDX-License-Identifier: Apache-2.0
// What a model loses at each place of a window: the lines that gf eval --by-position prints, kept as positions.jsonl in
// a run folder, and their plot for the report. Long contexts show in it: where a model was not trained its loss rises.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gf {

struct PositionLosses {
  struct Part {
    int64_t end;                 // it has the positions from the part before it to here
    std::optional<double> loss;  // finite; nothing where no token there counts
  };
  int64_t ctx_len = 0;  // of the windows
  double rescale = 1, rebase = 1;
  std::vector<Part> parts;
};

// One a line; blank lines are passed over. Refuses, with its number, a line that is anything else.
std::vector<PositionLosses> read_positions(const std::filesystem::path&);

struct PositionCurve {
  std::string name;
  size_t colour = 0, dashes = 0;  // of the report's
  const PositionLosses* losses = nullptr;
};

// Losses over positions, along a logarithmic axis, and a table of their means over the parts; `trained` are the lengths
// at which a line is drawn. HTML that needs no script; empty for no curves.
std::string position_plot(std::span<const PositionCurve>, std::span<const int64_t> trained);

}  // namespace gf
