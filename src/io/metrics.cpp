// SPDX-License-Identifier: Apache-2.0
#include "io/metrics.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace gf {
namespace {

using nlohmann::json;

constexpr int64_t kLongestLine = int64_t{1} << 16;  // a step takes some 200 bytes; bounds what a foreign file can cost

[[noreturn]] void fail_with_errno(const std::string& what, const std::filesystem::path& path) {
  const int error = errno;
  fail(cat("cannot ", what, " ", path.string(), ": ", std::strerror(error)),
       error == ENOSPC || error == EDQUOT ? "free some space, then run the same command again" : "");
}

// One field of a step's object. Each returns what is wrong, or nothing.
std::string get(const json& object, const char* key, int64_t& value) {
  const auto field = object.find(key);
  if (field == object.end()) return cat("has no \"", key, "\"");
  if (!field->is_number_integer() || (field->is_number_unsigned() && field->get<uint64_t>() > INT64_MAX) ||
      field->get<int64_t>() < 0)
    return cat("has no count under \"", key, "\" but ", field->dump(-1, ' ', true, json::error_handler_t::replace));
  value = field->get<int64_t>();
  return {};
}

std::string get(const json& object, const char* key, double& value) {
  const auto field = object.find(key);
  if (field == object.end()) return cat("has no \"", key, "\"");
  if (!field->is_number())
    return cat("has no number under \"", key, "\" but ", field->dump(-1, ' ', true, json::error_handler_t::replace));
  value = field->get<double>();
  return {};
}

template <class T>
std::string get(const json& object, const char* key, std::optional<T>& value) {
  return object.contains(key) ? get(object, key, value.emplace()) : std::string();
}

std::string get(const json& object, const char* key, std::string& value) {
  const auto field = object.find(key);
  if (field == object.end()) return {};
  if (!field->is_string() || field->get_ref<const std::string&>().empty())
    return cat("has no text under \"", key, "\"");
  value = field->get<std::string>();
  return {};
}

// What a skipped step may lack.
std::string get_or_nan(const json& object, const char* key, const StepMetrics& m, double& value) {
  const auto field = object.find(key);
  if (m.skipped.empty() || field == object.end() || !field->is_null()) return get(object, key, value);
  value = std::nan("");
  return {};
}

std::string parse_step(const char* begin, const char* end, StepMetrics& m) {
  const json object = json::parse(begin, end, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return object.is_discarded() ? "is not JSON" : "is not a JSON object";
  std::string problem;
  const auto read = [&](const char* key, auto& value) {
    if (problem.empty()) problem = get(object, key, value);
  };
  read("step", m.step), read("tokens", m.tokens), read("skipped", m.skipped);
  read("targets", m.targets);
  for (auto [key, value] : {std::pair("loss", &m.loss), std::pair("grad_norm", &m.grad_norm)})
    if (problem.empty()) problem = get_or_nan(object, key, m, *value);
  read("lr", m.lr), read("step_s", m.step_s), read("tokens_per_s", m.tokens_per_s);
  read("val_loss", m.val_loss), read("val_acc", m.val_acc);
  return problem;
}

// fmt writes the shortest digits that read back as the same double.
std::string to_line(const StepMetrics& m) {
  const auto real = [&](const char* key, double value) {
    if (!std::isfinite(value) && !m.skipped.empty()) return fmt::format(", \"{}\": null", key);
    if (!std::isfinite(value)) fail(fmt::format("{} of step {} is {}: metrics take finite values", key, m.step, value));
    return fmt::format(", \"{}\": {}", key, value);
  };
  std::string line = fmt::format("{{\"step\": {}, \"tokens\": {}", m.step, m.tokens);
  if (m.targets) line += fmt::format(", \"targets\": {}", *m.targets);
  line += real("loss", m.loss) + real("grad_norm", m.grad_norm) + real("lr", m.lr);
  line += real("step_s", m.step_s) + real("tokens_per_s", m.tokens_per_s);
  if (m.val_loss) line += real("val_loss", *m.val_loss);
  if (m.val_acc) line += real("val_acc", *m.val_acc);
  if (!m.skipped.empty()) line += fmt::format(", \"skipped\": {}", json(m.skipped).dump());
  return line + "}\n";
}

}  // namespace

MetricsReader::MetricsReader(std::filesystem::path path) : path_(std::move(path)), buffer_(kLongestLine) {
  std::error_code error;
  if (!std::filesystem::exists(path_, error)) refuse(cat("there is no ", path_.string()));
  if (!std::filesystem::is_regular_file(path_, error)) refuse(cat(path_.string(), " is not a file"));
  in_.open(path_, std::ios::binary);
  if (!in_) refuse(cat("cannot read ", path_.string(), ": ", std::strerror(errno)));
}

std::optional<StepMetrics> MetricsReader::next() {
  in_.getline(buffer_.data(), kLongestLine);
  const int64_t count = in_.gcount();
  if (in_.bad()) fail_with_errno("read", path_);
  if (count == 0) return {};
  ++line_;
  StepMetrics m;
  const bool whole = !in_.eof();  // or the last line, and torn: without its end
  const bool too_long = whole && in_.fail();
  std::string problem = too_long ? cat("is longer than ", kLongestLine, " bytes")
                                 : parse_step(buffer_.data(), buffer_.data() + count - whole, m);
  if (!problem.empty() && !whole) return {};
  if (problem.empty() && m.step <= last_step_) problem = cat("has step ", m.step, " after step ", last_step_);
  if (!problem.empty())
    refuse(cat(path_.string(), ":", line_, " ", problem), "delete that line, or move the file away");
  last_step_ = m.step;
  bytes_read_ += count;
  return m;
}

std::vector<StepMetrics> read_metrics(const std::filesystem::path& path) {
  MetricsReader reader(path);
  std::vector<StepMetrics> steps;
  while (const auto m = reader.next()) steps.push_back(*m);
  return steps;
}

MetricsWriter::MetricsWriter(std::filesystem::path path, int64_t first_step)
    : path_(std::move(path)), next_step_(first_step) {
  // Steps rise, so what must go is the end of the file: cutting it off leaves all before it untouched, whenever
  // the process might die.
  int64_t keep = 0;
  if (std::filesystem::exists(path_)) {
    MetricsReader reader(path_);
    for (auto m = reader.next(); m && m->step < first_step; m = reader.next()) keep = reader.bytes_read();
  }
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) fail_with_errno("open", path_);
  try {
    if (::ftruncate(file_, keep) != 0) fail_with_errno("shorten", path_);
    char last = '\n';
    if (keep > 0 && ::pread(file_, &last, 1, keep - 1) != 1) fail_with_errno("read", path_);
    if (last != '\n') write_all("\n");  // a line that was torn just before its end
  } catch (...) {
    ::close(file_);
    throw;
  }
}

MetricsWriter::~MetricsWriter() {
  ::close(file_);
}

void MetricsWriter::append(const StepMetrics& m) {
  GF_CHECK(m.step >= next_step_, "metrics of step ", m.step, " after those of step ", next_step_ - 1);
  write_all(to_line(m));
  next_step_ = m.step + 1;
}

void MetricsWriter::sync() {
  if (::fsync(file_) != 0) fail_with_errno("sync", path_);
}

void MetricsWriter::write_all(const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t count = ::write(file_, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno("write", path_);
    done += static_cast<size_t>(count);
  }
}

}  // namespace gf
