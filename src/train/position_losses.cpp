// SPDX-License-Identifier: Apache-2.0
#include "train/position_losses.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "io/files.h"
#include "io/text/json_object.h"
#include "train/page_text.h"

namespace gf {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostParts = 100'000;
constexpr size_t kLongestLine = size_t{1} << 23;      // bytes; one of that many parts has some five million
constexpr int64_t kLongestFile = int64_t{1} << 28;    // some fifty of them
constexpr int64_t kLongestWindow = int64_t{1} << 53;  // double has all its positions
constexpr double kLargestLoss = 1e100;                // logits of float32 make none beyond 1e39

int64_t length_in(const Json& json, int64_t least, int64_t most) {
  if (!json.is_number_integer()) fail("no whole number");
  const auto length = json.get<int64_t>();
  if (length < least || length > most) fail("parts that do not follow one another");
  return length;
}

double loss_in(const Json& json) {
  const auto loss = json.get<double>();
  if (!(std::fabs(loss) < kLargestLoss)) fail("no loss");
  return loss;
}

PositionLosses parse(const std::string& line) {
  if (line.size() > kLongestLine) fail("a long line");  // of which the tree takes many times the memory
  const Json json = Json::parse(line, [](int depth, Json::parse_event_t, const Json&) {
    if (depth > kDeepestJson) fail("deep lists");
    return true;
  });
  PositionLosses p{length_in(json.at("ctx_len"), 1, kLongestWindow), json.at("rescale"), json.at("rebase"), {}};
  int64_t begin = 0;
  for (const Json& part : json.at("by_position")) {
    const int64_t end = length_in(part.at("end"), begin + 1, p.ctx_len);
    if (p.parts.size() == kMostParts) fail("too many parts");
    const Json& loss = part.at("loss");
    p.parts.push_back({end, loss.is_null() ? std::nullopt : std::optional(loss_in(loss))});
    begin = end;
  }
  if (p.parts.empty()) fail("no parts");
  return p;
}

// Where the drawing is, and what it shows.
class Frame {
 public:
  Frame(std::span<const PositionCurve> curves, std::span<const int64_t> trained) {
    for (const PositionCurve& c : curves) {
      for (const auto& [x, loss] : points(*c.losses)) add(x, loss);
      last_ = std::max(last_, static_cast<double>(c.losses->ctx_len));
    }
    for (const int64_t t : trained) last_ = std::max(last_, static_cast<double>(t));
    if (first_ >= last_) first_ = last_ / 2;
    if (empty()) return;
    // Of the size of what it is added to: the ends are apart, whatever the losses are.
    const double size = std::max({std::fabs(low_), std::fabs(high_), 1.0});
    const double room = high_ > low_ ? std::max(0.05 * (high_ - low_), 1e-6 * size) : 0.1 * size;
    low_ -= room, high_ += room;
  }

  // The middle of each part that has a loss.
  static std::vector<std::pair<double, double>> points(const PositionLosses& p) {
    std::vector<std::pair<double, double>> all;
    int64_t begin = 0;
    for (const auto& part : p.parts) {
      if (part.loss) all.emplace_back(static_cast<double>(begin + part.end + 1) / 2, *part.loss);
      begin = part.end;
    }
    return all;
  }

  bool empty() const { return !(low_ <= high_); }
  double x(double position) const {
    return kLeft + (kRight - kLeft) * std::log(position / first_) / std::log(last_ / first_);
  }
  double y(double loss) const { return kBottom - (kBottom - kTop) * (loss - low_) / (high_ - low_); }

  std::string axes() const {
    std::string out;
    constexpr int kSteps = 6;
    const double least = (high_ - low_) / kSteps, power = std::pow(10, std::floor(std::log10(least)));
    const double step = power * (least > 5 * power ? 10 : least > 2 * power ? 5 : least > power ? 2 : 1);
    const int digits = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
    for (int i = 0; i <= kSteps; ++i) {
      const double v = (std::ceil(low_ / step) + i) * step;
      if (v > high_) break;
      out += fmt::format(
          "<path class=\"grid\" d=\"M{},{:.1f}H{}\"/><text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
          kLeft, y(v), kRight, kLeft - 8, y(v) + 4,
          digits > 0 ? fmt::format("{:.{}f}", v, digits) : fmt::format("{:.6g}", v));
    }
    out += fmt::format("<path class=\"axis\" d=\"M{},{}H{}\"/>\n", kLeft, kBottom, kRight);
    for (int power_of_2 = static_cast<int>(std::ceil(std::log2(first_))); std::exp2(power_of_2) <= last_ * 1.001;
         ++power_of_2) {
      const double v = std::exp2(power_of_2);
      out += fmt::format(
          "<path class=\"axis\" d=\"M{:.1f},{}v4\"/><text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.0f}</text>\n",
          x(v), kBottom, x(v), kBottom + 17, v);
    }
    return out + fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">position</text>\n", (kLeft + kRight) / 2,
                             kBottom + 34);
  }
  // The length that a model was trained with.
  std::string mark(int64_t length) const {
    if (static_cast<double>(length) < first_) return "";
    const double at = x(static_cast<double>(length));
    return fmt::format(
        "<path class=\"cursor\" d=\"M{:.1f},{}V{}\"/><text x=\"{:.1f}\" y=\"{}\" text-anchor=\"end\">trained</text>\n",
        at, kTop, kBottom, at - 5, kTop + 10);
  }

  static constexpr int kLeft = 54, kRight = 946, kTop = 8, kBottom = 330;

 private:
  void add(double x, double loss) {
    first_ = std::min(first_, x), low_ = std::min(low_, loss), high_ = std::max(high_, loss);
  }
  double first_ = std::numeric_limits<double>::infinity(), last_ = 0;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -low_;
};

std::string drawn(const PositionCurve& c, const Frame& frame) {
  constexpr const char* kDashes[] = {"", "7 3", "2 3", "9 3 2 3"};
  std::string path, spots;
  const auto points = Frame::points(*c.losses);
  for (const auto& [at, loss] : points) {
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "M" : "L", frame.x(at), frame.y(loss));
    if (points.size() <= 64)
      spots +=
          fmt::format("<circle class=\"point\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"><title>{}: {:.4f}</title></circle>",
                      frame.x(at), frame.y(loss), escaped(c.name), loss);
  }
  return fmt::format(
      "<g style=\"--color: var(--run-{})\"><path class=\"smooth\" stroke-dasharray=\"{}\" d=\"{}\"/>{}</g>\n",
      c.colour % 8, kDashes[c.dashes % 4], path, spots);
}

std::string row(const PositionCurve& c) {
  const auto points = Frame::points(*c.losses);
  const auto text = [](double loss) { return fmt::format("<td>{:.4f}</td>", loss); };
  const auto least = std::ranges::min_element(points, {}, [](const auto& p) { return p.second; });
  return fmt::format("<tr><th><i class=\"swatch\" style=\"--color: var(--run-{})\"></i>{}</th><td>{}</td>",
                     c.colour % 8, escaped(c.name), c.losses->parts.size()) +
         (points.empty() ? std::string("<td></td><td></td><td></td>")
                         : text(points.front().second) + text(least->second) + text(points.back().second)) +
         "</tr>\n";
}

}  // namespace

std::vector<PositionLosses> read_positions(const std::filesystem::path& path) {
  std::istringstream in(read_small_file(path, kLongestFile, "move the file away"));
  std::vector<PositionLosses> all;
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      all.push_back(parse(line));
    } catch (const std::exception&) {
      refuse(cat(path.string(), ":", number, " is no line of gf eval --by-position"),
             "delete that line, or move the file away");
    }
  }
  return all;
}

std::string position_plot(std::span<const PositionCurve> curves, std::span<const int64_t> trained) {
  const Frame frame(curves, trained);
  if (curves.empty() || frame.empty()) return "";
  std::string svg, rows;
  for (const int64_t length : trained) svg += frame.mark(length);
  for (const PositionCurve& c : curves) svg += drawn(c, frame), rows += row(c);
  return fmt::format(
             "<figure class=\"wide\"><svg viewBox=\"0 0 960 370\" role=\"img\" aria-label=\"Loss over positions\">\n"
             "{}{}</svg></figure>\n",
             frame.axes(), svg) +
         "<div class=\"table\"><table>\n<thead><tr><th>Windows</th><th>Parts</th><th>First part</th><th>Least</th>"
         "<th>Last part</th></tr></thead>\n<tbody>\n" +
         rows + "</tbody></table></div>\n";
}

}  // namespace gf
