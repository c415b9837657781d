// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/index_section.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "base/error.h"
#include "base/text.h"
#include "io/checkpoint/tensor_source.h"

namespace gf {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in memory");

constexpr size_t kNumber = 8;  // bytes
constexpr DType kTypes[] = {DType::f32, DType::f64, DType::i32};

template <class T>
void put(std::string& out, T value) {
  static_assert(std::is_same_v<T, int64_t> || std::is_same_v<T, uint64_t>);
  out.append(reinterpret_cast<const char*>(&value), kNumber);
}

void put_count(std::string& out, size_t count) {
  put(out, static_cast<uint64_t>(count));
}

void put_text(std::string& out, std::string_view text) {
  put_count(out, text.size());
  out += text;
}

class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : rest_(bytes) {}
  bool at_end() const { return rest_.empty(); }

  uint64_t bits() {
    uint64_t value;
    std::memcpy(&value, take(kNumber).data(), kNumber);
    return value;
  }
  int64_t number() { return static_cast<int64_t>(bits()); }
  // Of things that take at least so many bytes each.
  size_t count(size_t least) {
    const uint64_t n = bits();
    if (n > rest_.size() / least) fail(cat("it counts ", n, " entries in ", rest_.size(), " bytes"));
    return static_cast<size_t>(n);
  }
  std::string_view text() { return take(count(1)); }

 private:
  std::string_view take(size_t bytes) {
    if (rest_.size() < bytes) fail("it ends too early");
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return taken;
  }
  std::string_view rest_;
};

DType dtype_called(std::string_view name) {
  for (const DType dtype : kTypes)
    if (name == name_of(dtype)) return dtype;
  fail("an element type called " + shortened(name));
}

Shape read_shape(Cursor& in) {
  std::vector<int64_t> dims(in.count(kNumber));
  if (dims.empty() || dims.size() > Shape::kMaxRank) fail(cat("a tensor of ", dims.size(), " dimensions"));
  int64_t elements = 8;  // bytes of the largest element type: no product below may overflow
  for (int64_t& d : dims) {
    d = in.number();
    if (d <= 0 || __builtin_mul_overflow(elements, d, &elements)) fail(cat("a dimension of ", d));
  }
  return Shape(dims);
}

int64_t bytes_of(const IndexedTensor& tensor, const Block& b) {
  return (b.end - b.begin) * static_cast<int64_t>(size_of(tensor.dtype));
}

void check_block(const IndexedTensor& tensor, const Block& b, const std::vector<CheckpointIndex::Part>& parts) {
  if (b.end <= b.begin || b.end > tensor.shape.numel() || b.end - b.begin > kLargestBlock)
    fail(cat(shortened(tensor.name), " has a piece from ", b.begin, " to ", b.end, " of ", tensor.shape.numel(),
             " elements"));
  if (b.part < 0 || b.part >= static_cast<int64_t>(parts.size()))
    fail(cat(shortened(tensor.name), " has a piece in part ", b.part, " of ", parts.size()));
  const int64_t bytes = bytes_of(tensor, b);
  const int64_t room = parts[static_cast<size_t>(b.part)].bytes;
  if (b.offset < 0 || bytes > room || b.offset > room - bytes)
    fail(cat(shortened(tensor.name), " has ", bytes, " bytes at ", b.offset, " in a part of ", room));
}

IndexedTensor read_tensor(Cursor& in, const std::vector<CheckpointIndex::Part>& parts) {
  const std::string_view name = in.text();
  if (!is_tensor_name(parameter_name(name)))
    fail(cat("a tensor called ", cited(name), ", which is no name of at most ", kLongestTensorName,
             " bytes without control characters"));
  IndexedTensor tensor{std::string(name), dtype_called(in.text()), read_shape(in), {}};
  int64_t at = 0;
  const size_t blocks = in.count(4 * kNumber);
  for (size_t i = 0; i < blocks; ++i) {
    const int64_t end = in.number(), part = in.number(), offset = in.number();
    tensor.blocks.push_back({at, end, part, offset, in.bits()});
    check_block(tensor, tensor.blocks.back(), parts);
    at = end;
  }
  if (at != tensor.shape.numel())
    fail(cat("the pieces of ", shortened(tensor.name), " end at ", at, " of ", tensor.shape.numel(), " elements"));
  return tensor;
}

// No byte of a part is of two pieces, as none is that a save has made: together the tensors have no more bytes than the
// files, and a small checkpoint cannot ask for any amount.
void check_places(const std::vector<IndexedTensor>& tensors) {
  struct Place {
    const IndexedTensor* tensor;
    const Block* block;
  };
  std::vector<Place> places;
  for (const IndexedTensor& t : tensors)
    for (const Block& b : t.blocks) places.push_back({&t, &b});
  std::ranges::sort(places, {}, [](const Place& p) { return std::tuple(p.block->part, p.block->offset); });
  for (size_t i = 1; i < places.size(); ++i) {
    const auto& [a, first] = places[i - 1];
    const auto& [b, second] = places[i];
    const int64_t end = first->offset + bytes_of(*a, *first);
    if (first->part == second->part && second->offset < end)
      fail(cat("in part ", first->part, " ", shortened(a->name), " has the bytes ", first->offset, " to ", end, " and ",
               shortened(b->name), " the bytes ", second->offset, " to ", second->offset + bytes_of(*b, *second)));
  }
}

}  // namespace

std::string encode_index(const CheckpointIndex& index) {
  const Attributes& a = index.attributes;
  std::string out;
  for (const std::string* text : {&a.program, &a.config, &a.data}) put_text(out, *text);
  for (const int64_t number : {a.step, a.updates, a.samples, a.tokens}) put(out, number);
  put_count(out, index.parts.size());
  for (const auto& [bytes, rest_xxh3] : index.parts) put(out, bytes), put(out, rest_xxh3);
  put_count(out, index.tensors.size());
  for (const IndexedTensor& t : index.tensors) {
    put_text(out, t.name);
    put_text(out, name_of(t.dtype));
    put_count(out, t.shape.dims().size());
    for (const int64_t d : t.shape.dims()) put(out, d);
    put_count(out, t.blocks.size());
    for (const Block& b : t.blocks) put(out, b.end), put(out, b.part), put(out, b.offset), put(out, b.xxh3);
  }
  return out;
}

CheckpointIndex decode_index(std::string_view bytes) {
  Cursor in(bytes);
  CheckpointIndex index;
  Attributes& a = index.attributes;
  for (std::string* text : {&a.program, &a.config, &a.data}) *text = in.text();
  for (int64_t* number : {&a.step, &a.updates, &a.samples, &a.tokens}) *number = in.number();
  if (a.step < 0 || a.updates < 0 || a.updates > a.step || a.samples < 0 || a.tokens < 0)
    fail(cat("it counts ", a.step, " steps, ", a.updates, " updates, ", a.samples, " samples and ", a.tokens,
             " tokens"));
  int64_t all_bytes = 0;
  const size_t parts = in.count(2 * kNumber);
  for (size_t i = 0; i < parts; ++i) {
    const int64_t size = in.number();
    if (size < 0 || __builtin_add_overflow(all_bytes, size, &all_bytes)) fail(cat("a part of ", size, " bytes"));
    index.parts.push_back({size, in.bits()});
  }
  const size_t tensors = in.count(4 * kNumber);
  for (size_t i = 0; i < tensors; ++i) {
    IndexedTensor tensor = read_tensor(in, index.parts);
    if (i > 0 && tensor.name <= index.tensors.back().name)
      fail(cat("a tensor called ", cited(tensor.name), " out of order"));
    index.tensors.push_back(std::move(tensor));
  }
  if (!in.at_end()) fail("it goes on after its last tensor");
  check_places(index.tensors);
  return index;
}

}  // namespace gf
