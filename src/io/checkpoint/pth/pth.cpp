// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/pth/pth.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "base/human.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

constexpr const char* kBroken = "the file is damaged or cut off; fetch it again";
constexpr int64_t kLongestPickle = int64_t{16} << 20;
// Tensors may share storages, and a dimension with stride 0 repeats its elements: a small file could ask for any
// amount. No model shares that much.
constexpr int64_t kMostRepeats = 16, kAlwaysAllowed = int64_t{1} << 20;

std::optional<FloatFormat> format_of(std::string_view type) {
  if (type == "FloatStorage") return FloatFormat::f32;
  if (type == "BFloat16Storage") return FloatFormat::bf16;
  if (type == "HalfStorage") return FloatFormat::f16;
  return {};
}

std::string text_at(const File& file, int64_t begin, int64_t end) {
  std::string text(static_cast<size_t>(end - begin), '\0');
  file.read_at(std::as_writable_bytes(std::span(text)), begin);
  return text;
}

// The folder that all entries lie in, with its slash: that of the pickle.
std::string top_folder(const std::string& file, const std::map<std::string, ZipEntry>& entries) {
  std::string top;
  for (const auto& [name, entry] : entries) {
    const size_t slash = name.find('/');
    if (slash == std::string::npos || name.substr(slash) != "/data.pkl") continue;
    if (!top.empty()) refuse(cat(file, " has more than one data.pkl: ", top, "data.pkl and ", name));
    top = name.substr(0, slash + 1);
  }
  if (top.empty())
    refuse(cat(file, " is a zip file without a data.pkl in its folder, not one of torch.save"),
           "a file from torch.save(model.state_dict(), FILE)");
  return top;
}

// Of a tensor's elements, as they follow one another in row-major order: where each is in the storage.
class Walk {
 public:
  Walk(const TorchTensor& t, int64_t at) : t_(t), index_(t.sizes.size()), offset_(t.offset) {
    for (size_t i = index_.size(); i-- > 0; at /= t.sizes[i]) {
      index_[i] = at % t.sizes[i];
      offset_ += index_[i] * t.strides[i];
    }
  }
  int64_t offset() const { return offset_; }
  void next() {
    for (size_t i = index_.size(); i-- > 0;) {
      offset_ += t_.strides[i];
      if (++index_[i] < t_.sizes[i]) return;
      offset_ -= t_.sizes[i] * t_.strides[i];
      index_[i] = 0;
    }
  }

 private:
  const TorchTensor& t_;
  std::vector<int64_t> index_;
  int64_t offset_;
};

bool in_one_piece(const TorchTensor& t) {
  int64_t stride = 1;
  for (size_t i = t.sizes.size(); i-- > 0; stride *= t.sizes[i])
    if (t.sizes[i] > 1 && t.strides[i] != stride) return false;
  return true;
}

}  // namespace

PthReader::PthReader(const fs::path& path) : file_(File::open(path)) {
  const std::string first = text_at(file_, 0, std::min<int64_t>(file_.size(), 4));
  if (first.starts_with("PK"))
    open_zip();
  else if (first.starts_with('\x80'))
    open_legacy();
  else
    refuse(cat(path.string(), " is no file of torch.save: it begins neither as a zip file nor as a pickle"),
           "a file from torch.save(model.state_dict(), FILE), or one of .safetensors with that ending");
  check_total();
  make_entries();
}

void PthReader::open_zip() {
  const std::string file = file_.path().string();
  const std::map<std::string, ZipEntry> entries = read_zip_directory(file_);
  const std::string top = top_folder(file, entries);
  const auto content = [&](const std::string& name, int64_t limit) {
    const ZipEntry& entry = entries.at(top + name);
    if (entry.end - entry.begin > limit)
      refuse(cat(file, ": ", top, name, " has ", entry.end - entry.begin, " bytes; at most ", limit, " are read"));
    check_zip_entry(file_, top + name, entry);
    return text_at(file_, entry.begin, entry.end);
  };
  if (entries.contains(top + "byteorder"))
    if (const std::string order = content("byteorder", 16); order != "little")
      refuse(cat(file, " has values in ", order == "big" ? "big-endian" : "an unknown", " order of bytes"),
             "load it in Python on this machine, and save it again");
  state_ = read_torch_state(file, content("data.pkl", kLongestPickle));
  for (const TorchStorage& storage : state_.storages) {
    const auto found = entries.find(cat(top, "data/", storage.key));
    if (found == entries.end()) refuse(cat(file, " has no ", top, "data/", storage.key, ", a storage"), kBroken);
    const int64_t element = torch_element_bytes(storage.type), bytes = found->second.end - found->second.begin;
    if (bytes / element != storage.elements || bytes % element != 0)
      refuse(cat(file, ": ", found->first, " has ", bytes, " bytes, and its pickle says ", storage.elements,
                 " elements of ", element, " bytes"),
             kBroken);
    places_.push_back({found->first, found->second});
  }
}

void PthReader::open_legacy() {
  const std::string file = file_.path().string();
  const int64_t size = file_.size();
  LegacyTorchState legacy = read_legacy_torch_state(file, text_at(file_, 0, std::min(size, kLongestPickle)));
  state_ = std::move(legacy.state);
  places_.resize(state_.storages.size());
  int64_t at = legacy.end;
  for (const size_t number : legacy.order) {
    const TorchStorage& storage = state_.storages[number];
    const int64_t element = torch_element_bytes(storage.type);
    int64_t elements = 0;
    if (size - at < 8 || storage.elements > (size - at - 8) / element)
      refuse(cat(file, ": storage ", storage.key, " has ", storage.elements, " elements of ", element,
                 " bytes from byte ", at, ", and the file has ", size, " bytes"),
             kBroken);
    file_.read_at(std::as_writable_bytes(std::span(&elements, 1)), at);
    if (elements != storage.elements)
      refuse(cat(file, ": storage ", storage.key, " has ", elements, " elements, and ", storage.elements,
                 " in the pickle"),
             kBroken);
    places_[number] = {storage.key, {at + 8, at + 8 + elements * element, 0}};
    at = places_[number].bytes.end;
  }
  if (at != size) refuse(cat(file, ": its storages end at byte ", at, " of ", size), kBroken);
}

void PthReader::check_total() const {
  const int64_t limit = kAlwaysAllowed + kMostRepeats * file_.size();
  int64_t total = 0;
  for (const auto& [name, t] : state_.tensors) {
    int64_t bytes = 0;
    if (__builtin_mul_overflow(t.elements, torch_element_bytes(state_.storages[t.storage].type), &bytes) ||
        __builtin_add_overflow(total, bytes, &total) || total > limit)
      refuse(cat(label(), " has ", human_bytes(static_cast<double>(file_.size())), " and its tensors, with ", name,
                 ", more than ", human_bytes(static_cast<double>(limit))),
             "tensors that do not repeat their elements: .contiguous() before torch.save");
  }
}

void PthReader::make_entries() {
  std::vector<Entry> entries;
  std::map<std::string, std::string> unreadable = state_.others;
  for (const auto& [name, t] : state_.tensors) {
    const std::string& type = state_.storages[t.storage].type;
    std::string reason = obstacle_of(name, t.sizes);
    if (!format_of(type)) reason = "is of " + type + "; FloatStorage, BFloat16Storage and HalfStorage can be read";
    if (reason.empty())
      entries.push_back({std::string(kModelPrefix) + name, DType::f32, Shape(t.sizes)});
    else
      unreadable[name] = reason;
  }
  set_entries(std::move(entries), std::move(unreadable));
}

void PthReader::check_storage(size_t number) const {
  const Place& place = places_[number];
  if (!place.checked) check_zip_entry(file_, place.name, place.bytes);
  place.checked = true;
}

void PthReader::verify() const {
  for (size_t i = 0; i < places_.size(); ++i) check_storage(i);
}

void PthReader::fill(std::span<const ShardView> views) const {
  for (const ShardView& view : views) {
    if (view.begin == view.end) continue;
    const TorchTensor& t = state_.tensors.at(std::string(parameter_name(view.name)));
    const FloatFormat format = *format_of(state_.storages[t.storage].type);
    const std::span<float> out(reinterpret_cast<float*>(view.data), static_cast<size_t>(view.end - view.begin));
    check_storage(t.storage);
    if (in_one_piece(t))
      read_floats(file_, places_[t.storage].bytes.begin + (t.offset + view.begin) * bytes_of(format), format, out);
    else
      gather(t, format, view.begin, out);
  }
}

// Reads the part of the storage that these elements lie in, and takes them from there.
void PthReader::gather(const TorchTensor& t, FloatFormat format, int64_t begin, std::span<float> out) const {
  const int64_t row = t.elements / t.sizes[0], step = t.strides[0], rest = t.last - (t.sizes[0] - 1) * step;
  const int64_t first_row = begin / row, last_row = (begin + static_cast<int64_t>(out.size()) - 1) / row;
  const int64_t first = t.offset + first_row * step, last = rest + last_row * step;
  std::vector<float> window(static_cast<size_t>(last - first + 1));
  read_floats(file_, places_[t.storage].bytes.begin + first * bytes_of(format), format, window);
  Walk walk(t, begin);
  for (float& value : out) {
    value = window[static_cast<size_t>(walk.offset() - first)];
    walk.next();
  }
}

}  // namespace gf
