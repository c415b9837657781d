// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/pth/torch_state.h"

#include <algorithm>
#include <set>

#include "base/text.h"
#include "io/checkpoint/pth/unpickler.h"

namespace gf {
namespace {

constexpr std::string_view kTensor = "torch._utils._rebuild_tensor_v2", kParameter = "torch._utils._rebuild_parameter",
                           kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kIsStorage = "a storage", kIsTensor = "a tensor";
constexpr size_t kMostDimensions = 64, kLongestText = 200;
constexpr int64_t kLegacyProtocol = 1001;
constexpr std::string_view kLegacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

struct ElementType {
  std::string_view name;
  int64_t bytes;
};
constexpr ElementType kTypes[] = {{"DoubleStorage", 8},   {"FloatStorage", 4},        {"HalfStorage", 2},
                                  {"BFloat16Storage", 2}, {"LongStorage", 8},         {"IntStorage", 4},
                                  {"ShortStorage", 2},    {"CharStorage", 1},         {"ByteStorage", 1},
                                  {"BoolStorage", 1},     {"ComplexFloatStorage", 8}, {"ComplexDoubleStorage", 16}};

// "FloatStorage" for torch.FloatStorage and torch.cuda.FloatStorage; empty for what is no storage.
std::string_view storage_type(std::string_view global) {
  for (const std::string_view prefix : {"torch.cuda.", "torch."})
    if (global.starts_with(prefix)) {
      const auto* found = std::ranges::find(kTypes, global.substr(prefix.size()), &ElementType::name);
      if (found != std::end(kTypes)) return found->name;
    }
  return {};
}

class TorchUnpickler final : public Unpickler {
 public:
  using Unpickler::Unpickler;
  TorchState state(const Value& top) const;  // of the dictionary that was saved
  size_t storage_named(std::string_view key) const;
  int64_t integer(const Value&, const char* what) const;
  std::string_view text(const Value&, const char* what) const;

 private:
  Value call(std::string_view function, std::span<const Value> arguments) override;
  Value persistent(const Value& id) override;
  bool knows(std::string_view global) const override;
  Value rebuild_tensor(std::span<const Value>);
  bool empty_dict(const Value& v) const { return v.kind == Kind::dict && items(v).empty(); }
  void check(TorchTensor&) const;
  std::vector<int64_t> integers(const Value&, const char* what) const;

  std::vector<TorchStorage> storages_;
  std::map<std::string, size_t, std::less<>> numbers_;  // of storages, by key
  std::vector<TorchTensor> tensors_;
};

int64_t TorchUnpickler::integer(const Value& v, const char* what) const {
  if (v.kind != Kind::integer || v.number < 0) wrong(cat("has no ", what, " where one belongs"));
  return v.number;
}

std::string_view TorchUnpickler::text(const Value& v, const char* what) const {
  if (v.kind != Kind::text) wrong(cat("has no ", what, " where one belongs"));
  const bool shown = std::ranges::all_of(v.text, [](unsigned char c) { return c > 32 && c < 127; });
  if (!shown || v.text.empty() || v.text.size() > kLongestText)
    wrong(cat("has a ", what, " of ", v.text.size(), " bytes; 1 to ", kLongestText,
              " of ASCII without spaces can be read"));
  return v.text;
}

std::vector<int64_t> TorchUnpickler::integers(const Value& v, const char* what) const {
  if (v.kind != Kind::tuple || items(v).size() > kMostDimensions) wrong(cat("has a tensor without proper ", what));
  std::vector<int64_t> found;
  for (const Value& item : items(v)) found.push_back(integer(item, what));
  return found;
}

bool TorchUnpickler::knows(std::string_view global) const {
  return global == kTensor || global == kParameter || global == kOrderedDict || !storage_type(global).empty();
}

PickleValue TorchUnpickler::call(std::string_view function, std::span<const Value> arguments) {
  if (function == kTensor) return rebuild_tensor(arguments);
  if (function == kOrderedDict && arguments.empty()) return make_dict();
  // A parameter is a tensor that says whether it is trained.
  const bool parameter = function == kParameter && arguments.size() == 3 && arguments[0].kind == Kind::object &&
                         arguments[0].text == kIsTensor && empty_dict(arguments[2]);
  if (!parameter) wrong(cat("calls ", function, " with other arguments than torch.save does"));
  return arguments[0];
}

// Storage, offset, sizes, strides, whether it is trained, hooks, and lately more, of which tensors with values that
// are not those of the storage make use.
PickleValue TorchUnpickler::rebuild_tensor(std::span<const Value> a) {
  if ((a.size() != 6 && a.size() != 7) || a[0].kind != Kind::object || a[0].text != kIsStorage || !empty_dict(a[5]) ||
      (a.size() == 7 && a[6].kind != Kind::none && !empty_dict(a[6])))
    wrong(cat("calls ", kTensor, " with other arguments than torch.save does"));
  TorchTensor tensor{static_cast<size_t>(a[0].number),
                     integer(a[1], "offset"),
                     integers(a[2], "sizes"),
                     integers(a[3], "strides"),
                     1,
                     0};
  check(tensor);
  tensors_.push_back(std::move(tensor));
  return {Kind::object, static_cast<int64_t>(tensors_.size()) - 1, kIsTensor};
}

void TorchUnpickler::check(TorchTensor& t) const {
  if (t.sizes.size() != t.strides.size())
    wrong(cat("has a tensor of ", t.sizes.size(), " sizes and ", t.strides.size(), " strides"));
  const TorchStorage& storage = storages_[t.storage];
  bool overflow = false;
  t.elements = 1, t.last = t.offset;
  for (size_t i = 0; i < t.sizes.size(); ++i) {
    int64_t reach = 0;
    overflow |= __builtin_mul_overflow(t.elements, t.sizes[i], &t.elements);
    overflow |= __builtin_mul_overflow(std::max<int64_t>(t.sizes[i] - 1, 0), t.strides[i], &reach);
    overflow |= __builtin_add_overflow(t.last, reach, &t.last);
  }
  if (overflow || (t.elements > 0 && t.last >= storage.elements))
    wrong(cat("has a tensor of sizes (", joined(t.sizes), "), strides (", joined(t.strides), ") from element ",
              t.offset, " on, and its storage ", storage.key, " has ", storage.elements, " elements"));
}

// ("storage", type, key, device, elements), and in files before torch 1.6 what part of another storage it is.
PickleValue TorchUnpickler::persistent(const Value& id) {
  if (id.kind != Kind::tuple) wrong(cat("refers to a storage by ", name_of(id.kind)));
  const std::span<const Value> a = items(id);
  const bool known = (a.size() == 5 || (a.size() == 6 && a[5].kind == Kind::none)) && a[0].kind == Kind::text &&
                     a[0].text == "storage" && a[1].kind == Kind::global && !storage_type(a[1].text).empty();
  if (!known) wrong("refers to what lies outside it in another way than torch.save does");
  text(a[3], "device");
  const TorchStorage storage{std::string(text(a[2], "key of a storage")), std::string(storage_type(a[1].text)),
                             integer(a[4], "number of elements")};
  const auto [found, is_new] = numbers_.try_emplace(storage.key, storages_.size());
  if (is_new) storages_.push_back(storage);
  const TorchStorage& before = storages_[found->second];
  if (before.type != storage.type || before.elements != storage.elements)
    wrong(cat("says that storage ", storage.key, " is a ", before.type, " of ", before.elements, " and a ",
              storage.type, " of ", storage.elements));
  return {Kind::object, static_cast<int64_t>(found->second), kIsStorage};
}

size_t TorchUnpickler::storage_named(std::string_view key) const {
  const auto found = numbers_.find(key);
  if (found == numbers_.end()) wrong("lists a storage that no tensor has");
  return found->second;
}

TorchState TorchUnpickler::state(const Value& top) const {
  if (top.kind != Kind::dict) wrong(cat("is of ", name_of(top.kind), ", not of a dict of tensors"));
  TorchState state;
  const std::span<const Value> all = items(top);
  for (size_t i = 0; i < all.size(); i += 2) {
    const Value& value = all[i + 1];
    const std::string name(text(all[i], "name"));
    const bool is_tensor = value.kind == Kind::object && value.text == kIsTensor;
    const bool is_new =
        is_tensor
            ? state.tensors.try_emplace(name, tensors_[static_cast<size_t>(value.number)]).second
            : state.others.try_emplace(name, cat("is ", value.kind == Kind::object ? kIsStorage : name_of(value.kind)))
                  .second;
    if (!is_new || (state.tensors.contains(name) && state.others.contains(name))) wrong("has the same name twice");
  }
  if (state.tensors.empty()) {
    std::vector<std::string> found;
    for (const auto& [name, what] : state.others)
      if (found.size() < 8) found.push_back(cat(name, " (", what.substr(3), ")"));
    wrong(cat("is of a dict without tensors: ", found.empty() ? "it is empty" : joined(found)));
  }
  state.storages = storages_;
  return state;
}

}  // namespace

int64_t torch_element_bytes(std::string_view type) {
  return std::ranges::find(kTypes, type, &ElementType::name)->bytes;
}

TorchState read_torch_state(const std::string& file, std::string_view pickle) {
  TorchUnpickler unpickler(file, pickle);
  const PickleValue top = unpickler.next();
  if (unpickler.position() != pickle.size()) unpickler.wrong("ends before its file does");
  return unpickler.state(top);
}

LegacyTorchState read_legacy_torch_state(const std::string& file, std::string_view beginning) {
  using Kind = PickleValue::Kind;
  TorchUnpickler unpickler(file, beginning);
  if (const PickleValue magic = unpickler.next(); magic.kind != Kind::long_integer || magic.text != kLegacyMagic)
    unpickler.wrong("is not how a file of torch.save begins");
  if (const auto protocol = unpickler.next(); protocol.kind != Kind::integer || protocol.number != kLegacyProtocol)
    unpickler.wrong(cat("has protocol ", protocol.number, " of torch.save; ", kLegacyProtocol, " can be read"));
  const PickleValue system = unpickler.next();
  if (system.kind != Kind::dict) unpickler.wrong("does not say what system it is from");
  const std::span<const PickleValue> facts = unpickler.items(system);
  for (size_t i = 0; i < facts.size(); i += 2)
    if (facts[i].text == "little_endian" && facts[i + 1].number != 1) unpickler.wrong("is from a big-endian system");
  const PickleValue top = unpickler.next();
  const PickleValue keys = unpickler.next();
  if (keys.kind != Kind::list) unpickler.wrong("does not list its storages");
  LegacyTorchState legacy{unpickler.state(top), {}, static_cast<int64_t>(unpickler.position())};
  for (const PickleValue& key : unpickler.items(keys))
    legacy.order.push_back(unpickler.storage_named(unpickler.text(key, "key of a storage")));
  if (std::set(legacy.order.begin(), legacy.order.end()).size() != legacy.state.storages.size() ||
      legacy.order.size() != legacy.state.storages.size())
    unpickler.wrong("does not list each storage once");
  return legacy;
}

}  // namespace gf
