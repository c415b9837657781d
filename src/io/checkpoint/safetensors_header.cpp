// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/text.h"

namespace gf {
namespace {

constexpr const char* kBroken = "the file is damaged, cut off or no .safetensors file; fetch it again";
constexpr size_t kMostDimensions = 64;

// Bytes of an element, 0 for a type that this program has not heard of.
int64_t element_bytes(std::string_view dtype) {
  for (const auto& name : {"F64", "I64", "U64"})
    if (dtype == name) return 8;
  for (const auto& name : {"F32", "I32", "U32"})
    if (dtype == name) return 4;
  for (const auto& name : {"F16", "BF16", "I16", "U16"})
    if (dtype == name) return 2;
  for (const auto& name : {"BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2"})
    if (dtype == name) return 1;
  return 0;
}

// Takes the header event by event, so that no tree is built from a file that lies: two levels of objects, lists of
// counts inside, and nothing twice.
class HeaderEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderEvents(const std::string& file) : file_(file) {}
  SafetensorsHeader header;

  bool start_object(size_t) override {
    if (depth_ == 2 || list_) wrong("an object in an unexpected place");
    ++depth_;
    if (depth_ != 2) return true;
    fields_.clear();
    in_metadata_ = name_ == "__metadata__";
    if (!in_metadata_) header.entries.push_back({name_, "", {}, -1, -1});
    return true;
  }
  bool end_object() override {
    if (depth_ == 2 && !in_metadata_)
      for (const char* field : {"dtype", "shape", "data_offsets"})
        if (!fields_.contains(field)) wrong(cat("no ", field));
    --depth_;
    return true;
  }
  bool key(std::string& key) override {
    if (depth_ == 1) {
      name_ = key;
      if (!is_tensor_name(key))
        wrong(cat("a name that is empty, has control characters or more than ", kLongestTensorName, " bytes"));
      if (!names_.insert(key).second) wrong("the same name twice");
      return true;
    }
    field_ = key;
    if (!fields_.insert(key).second) wrong(cited(key) + " twice");
    if (!in_metadata_ && key != "dtype" && key != "shape" && key != "data_offsets")
      wrong("an unknown field " + shortened(key));
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ != 2 || in_metadata_ || list_ || field_ == "dtype") wrong("a list in an unexpected place");
    list_ = true;
    numbers_.clear();
    return true;
  }
  bool end_array() override {
    list_ = false;
    if (field_ == "shape") {
      header.entries.back().shape = numbers_;
      return true;
    }
    if (numbers_.size() != 2) wrong(cat(numbers_.size(), " data_offsets instead of 2"));
    header.entries.back().begin = numbers_[0];
    header.entries.back().end = numbers_[1];
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (!list_) wrong("a number in an unexpected place");
    if (value > INT64_MAX || numbers_.size() == kMostDimensions) wrong("an impossible " + shortened(field_));
    numbers_.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool string(std::string& value) override {
    if (depth_ == 2 && in_metadata_) {
      header.metadata[field_] = value;
    } else if (depth_ == 2 && field_ == "dtype") {
      header.entries.back().dtype = value;
    } else {
      wrong("text in an unexpected place");
    }
    return true;
  }
  bool null() override { wrong("null in an unexpected place"); }
  bool boolean(bool) override { wrong("true or false in an unexpected place"); }
  bool number_integer(number_integer_t value) override { wrong(cat("a negative number, ", value)); }
  bool number_float(number_float_t, const std::string& text) override {
    wrong("no whole number that fits: " + shortened(text));
  }
  bool binary(binary_t&) override { wrong("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    refuse(cat(file_, ": its header is no JSON, at byte ", 8 + position, ": ", parser_message(e.what())), kBroken);
  }

 private:
  [[noreturn]] void wrong(const std::string& what) const {
    refuse(cat(file_, ": its header is wrong: ", what, name_.empty() ? "" : cat(" (at ", cited(name_), ")")), kBroken);
  }
  std::string file_, name_, field_;
  std::set<std::string> names_, fields_;
  std::vector<int64_t> numbers_;
  int depth_ = 0;
  bool in_metadata_ = false, list_ = false;
};

void check_entry(const std::string& file, const SafetensorsEntry& e, int64_t at, int64_t data_bytes) {
  if (e.begin != at || e.end < e.begin || e.end > data_bytes)
    refuse(cat(file, ": ", shortened(e.name), " lies at bytes ", e.begin, " to ", e.end,
               "; the tensor before it ends at ", at, " and the file has ", data_bytes, " bytes of values"),
           "the file is cut off or was written wrongly; take a whole copy");
  const int64_t element = element_bytes(e.dtype);
  if (element == 0) return;
  int64_t bytes = element;
  bool overflow = false;
  for (const int64_t d : e.shape) overflow |= __builtin_mul_overflow(bytes, d, &bytes);
  // A product that passes the range and is then multiplied by zero is a lie as well.
  if (overflow || bytes != e.end - e.begin) {
    std::string shape;
    for (const int64_t d : e.shape) shape += cat(shape.empty() ? "" : "x", d);
    refuse(cat(file, ": ", shortened(e.name), " is ", shape.empty() ? "scalar" : shape, " of ", e.dtype, " and has ",
               e.end - e.begin, " bytes"),
           kBroken);
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(const std::string& file, std::string_view json, int64_t data_bytes) {
  if (!json.starts_with('{')) refuse(cat(file, " is no .safetensors file: its header does not begin with {"), kBroken);
  HeaderEvents events(file);
  nlohmann::json::sax_parse(json, &events);
  SafetensorsHeader header = std::move(events.header);
  std::ranges::sort(header.entries, [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  int64_t at = 0;
  for (const SafetensorsEntry& e : header.entries) {
    check_entry(file, e, at, data_bytes);
    at = e.end;
  }
  if (at != data_bytes)
    refuse(cat(file, ": its tensors end at byte ", at, " of ", data_bytes, " bytes of values"), kBroken);
  return header;
}

}  // namespace gf
