// SPDX-License-Identifier: Apache-2.0
#include "io/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "io/text/json_object.h"

namespace gf {
namespace {

using Kind = JsonValue::Kind;

constexpr int64_t kLongestLine = int64_t{1} << 16;  // a step takes some 200 bytes; bounds what a foreign file can cost
constexpr int64_t kMostCounted = int64_t{1} << 62;  // one more is a count still

// What stands under the keys of a step's object; of several under one key the last counts.
class Fields final : public JsonObjectReader {
 public:
  void key(const std::string& name) override { key_ = name; }
  void value(JsonValue v) override { values_[key_] = std::move(v); }
  const JsonValue* find(const char* key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? nullptr : &found->second;
  }

 private:
  std::string key_;
  std::map<std::string, JsonValue> values_;
};

// One field of a step's object. Each returns what is wrong, or nothing.
std::string get(const Fields& fields, const char* key, int64_t& value) {
  const JsonValue* const field = fields.find(key);
  if (!field) return cat("has no \"", key, "\"");
  if (field->kind != Kind::integer || field->integer < 0 || field->integer > kMostCounted)
    return cat("has no count under \"", key, "\" but ", shown(*field));
  value = field->integer;
  return {};
}

std::string get(const Fields& fields, const char* key, double& value) {
  const JsonValue* const field = fields.find(key);
  if (!field) return cat("has no \"", key, "\"");
  if (!field->is_number()) return cat("has no number under \"", key, "\" but ", shown(*field));
  value = field->real;
  return {};
}

template <class T>
std::string get(const Fields& fields, const char* key, std::optional<T>& value) {
  return fields.find(key) ? get(fields, key, value.emplace()) : std::string();
}

std::string get(const Fields& fields, const char* key, std::string& value) {
  const JsonValue* const field = fields.find(key);
  if (!field) return {};
  if (field->kind != Kind::text || field->text.empty()) return cat("has no text under \"", key, "\"");
  value = field->text;
  return {};
}

// What a skipped step may lack.
std::string get_or_nan(const Fields& fields, const char* key, const StepMetrics& m, double& value) {
  const JsonValue* const field = fields.find(key);
  if (m.skipped.empty() || !field || field->kind != Kind::null) return get(fields, key, value);
  value = std::nan("");
  return {};
}

std::string parse_step(std::string_view line, StepMetrics& m) {
  Fields fields;
  try {
    read_json_object(line, fields);
  } catch (const Error& e) {
    return cat("is no step: ", e.what());
  }
  std::string problem;
  const auto read = [&](const char* key, auto& value) {
    if (problem.empty()) problem = get(fields, key, value);
  };
  read("step", m.step), read("tokens", m.tokens), read("skipped", m.skipped);
  read("targets", m.targets);
  for (auto [key, value] : {std::pair("loss", &m.loss), std::pair("grad_norm", &m.grad_norm)})
    if (problem.empty()) problem = get_or_nan(fields, key, m, *value);
  read("lr", m.lr), read("step_s", m.step_s), read("tokens_per_s", m.tokens_per_s);
  for (auto [key, value] : {std::pair("val_loss", &m.val_loss), std::pair("val_acc", &m.val_acc)}) {
    const JsonValue* const field = fields.find(key);
    const bool lacks = !m.skipped.empty() && field && field->kind == Kind::null;
    if (!lacks) read(key, *value);
  }
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
  if (!m.skipped.empty()) line += fmt::format(", \"skipped\": {}", nlohmann::json(m.skipped).dump());
  return line + "}\n";
}

// The file at the end of its last step before `first_step`. Steps rise, so what must go is the end of the file: cutting
// it off leaves all before it untouched, whenever the process might die.
File open_before(const std::filesystem::path& path, int64_t first_step) {
  refuse_link(path);
  int64_t keep = 0;
  if (std::filesystem::exists(path)) {
    MetricsReader reader(path);
    for (auto m = reader.next(); m && m->step < first_step; m = reader.next()) keep = reader.bytes_read();
  }
  File file = File::append_to(path);
  file.shorten(keep);
  char last = '\n';
  if (keep > 0) file.read_at(std::as_writable_bytes(std::span(&last, 1)), keep - 1);
  if (last != '\n') file.write(std::as_bytes(std::span("\n", 1)));  // a line that was torn just before its end
  return file;
}

}  // namespace

MetricsReader::MetricsReader(const std::filesystem::path& path) : file_(File::open(path)), buffer_(kLongestLine) {}

// With its end; without one it is torn, or as long as the buffer. Empty: the end of the file.
std::string_view MetricsReader::next_line() {
  while (true) {
    const std::string_view have(buffer_.data() + begin_, end_ - begin_);
    size_t length = have.find('\n') + 1;  // 0: none yet
    if (length == 0 && have.size() < buffer_.size()) {
      std::copy(have.begin(), have.end(), buffer_.begin());
      begin_ = 0, end_ = have.size();
      const size_t more = file_.read(std::as_writable_bytes(std::span(buffer_).subspan(end_)));
      end_ += more;
      if (more > 0) continue;
    }
    if (length == 0) length = end_ - begin_;
    begin_ += length;
    return {buffer_.data() + begin_ - length, length};
  }
}

std::optional<StepMetrics> MetricsReader::next() {
  const std::string_view line = next_line();
  if (line.empty()) return {};
  ++line_;
  StepMetrics m;
  const bool whole = line.ends_with('\n'), too_long = !whole && line.size() == buffer_.size();
  std::string problem =
      too_long ? cat("is longer than ", kLongestLine, " bytes") : parse_step(line.substr(0, line.size() - whole), m);
  if (!problem.empty() && !whole && !too_long) return {};  // the last line, and torn
  if (problem.empty() && m.step <= last_step_) problem = cat("has step ", m.step, " after step ", last_step_);
  if (!problem.empty())
    refuse(cat(file_.path().string(), ":", line_, " ", problem), "delete that line, or move the file away");
  last_step_ = m.step;
  bytes_read_ += static_cast<int64_t>(line.size());
  return m;
}

std::vector<StepMetrics> read_metrics(const std::filesystem::path& path) {
  MetricsReader reader(path);
  std::vector<StepMetrics> steps;
  while (const auto m = reader.next()) steps.push_back(*m);
  return steps;
}

MetricsWriter::MetricsWriter(const std::filesystem::path& path, int64_t first_step)
    : file_(open_before(path, first_step)), next_step_(first_step) {}

void MetricsWriter::append(const StepMetrics& m) {
  GF_CHECK(m.step >= next_step_, "metrics of step ", m.step, " after those of step ", next_step_ - 1);
  const std::string line = to_line(m);
  file_.write(std::as_bytes(std::span(line)));
  next_step_ = m.step + 1;
}

void MetricsWriter::sync() {
  file_.sync();
}

}  // namespace gf
