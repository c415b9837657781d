// SPDX-License-Identifier: Apache-2.0
#include "base/human.h"

#include <fmt/format.h>

#include <cmath>

namespace gf {
namespace {

// Three digits. The limits are where rounding would add a fourth.
std::string three_digits(double value) {
  const double size = std::abs(value);
  return fmt::format("{:.{}f}", value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

}  // namespace

std::string human_count(double count) {
  if (!std::isfinite(count)) return "-";
  if (std::abs(count) < 1000 && count == std::trunc(count)) return fmt::format("{:.0f}", count);
  constexpr const char* kUnits[] = {"", "k", "M", "B", "T"};
  size_t unit = 0;
  while (std::abs(count) >= 999.5 && unit + 1 < std::size(kUnits)) count /= 1000, ++unit;
  return three_digits(count) + kUnits[unit];
}

std::string human_bytes(double bytes) {
  if (!std::isfinite(bytes)) return "-";
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (std::abs(bytes) >= 999.5 && unit + 1 < std::size(kUnits)) bytes /= 1000, ++unit;
  return (unit == 0 ? fmt::format("{:.0f}", bytes) : three_digits(bytes)) + " " + kUnits[unit];
}

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-";
  if (seconds < 9.995) return fmt::format("{:.2f}s", seconds);
  if (seconds < 59.5) return fmt::format("{:.0f}s", seconds);
  // Rounded to the smaller of the two units shown before it is split, so that no 60 comes out.
  const auto two_units = [](double count, double per_unit, const char* big, const char* small) {
    const double whole = std::floor(count / per_unit);
    return fmt::format("{:.0f}{}{:02.0f}{}", whole, big, count - whole * per_unit, small);
  };
  if (seconds < 3599.5) return two_units(std::round(seconds), 60, "m", "s");
  if (seconds < 24 * 3600 - 30) return two_units(std::round(seconds / 60), 60, "h", "m");
  return two_units(std::round(seconds / 3600), 24, "d", "h");
}

std::string counted(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : noun.ends_with("ch") ? "es" : "s");
}

}  // namespace gf
