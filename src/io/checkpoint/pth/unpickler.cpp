// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/pth/unpickler.h"

#include <algorithm>

#include "io/checkpoint/pth/pickle_opcodes.h"

namespace gf {
namespace {

// A model of 10,000 tensors takes some 300,000 instructions and 1.5 MB.
constexpr int64_t kMostInstructions = int64_t{1} << 22;
constexpr size_t kMostOnStack = size_t{1} << 16, kMostMarks = 64, kLongestName = 200;
constexpr unsigned kHighestProtocol = 5;

std::string opcode_name(unsigned op) {
  const auto* found = std::ranges::find(kPickleOpcodes, op, &PickleOpcode::code);
  return found == std::end(kPickleOpcodes) ? cat("no instruction, byte ", op) : found->name;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kLongestName &&
         std::ranges::all_of(text, [](unsigned char c) { return c > 32 && c < 127; });
}

}  // namespace

const char* name_of(PickleValue::Kind kind) {
  using Kind = PickleValue::Kind;
  switch (kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return "a truth value";
    case Kind::integer:
    case Kind::long_integer:
      return "an integer";
    case Kind::real:
      return "a real number";
    case Kind::text:
      return "text";
    case Kind::global:
      return "a function or class";
    case Kind::tuple:
      return "a tuple";
    case Kind::list:
      return "a list";
    case Kind::dict:
      return "a dict";
    case Kind::object:
      return "an object";
  }
  return "unknown";
}

void Unpickler::wrong(const std::string& what, Where where) const {
  throw Error(cat(file_, ": its pickle ", what, " (at byte ", instruction_, ")"),
              "a file from torch.save(model.state_dict(), FILE); nothing in this one was executed", Exit::bad_input,
              where);
}

std::span<const PickleValue> Unpickler::items(const Value& container) const {
  GF_CHECK(container.kind == Kind::tuple || container.kind == Kind::list || container.kind == Kind::dict, "items of ",
           name_of(container.kind));
  return containers_[static_cast<size_t>(container.number)].items;
}

std::string_view Unpickler::take(uint64_t count) {
  if (count > bytes_.size() - at_)
    wrong(cat("ends early: ", count, " bytes are wanted of ", bytes_.size() - at_, "; the file is cut off"));
  const std::string_view taken = bytes_.substr(at_, count);
  at_ += count;
  return taken;
}

uint64_t Unpickler::number(size_t bytes) {
  const std::string_view taken = take(bytes);
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(taken[i]);
  return value;
}

std::string_view Unpickler::line() {
  const size_t end = bytes_.find('\n', at_);
  if (end == std::string_view::npos) wrong("ends within a name");
  const std::string_view found = bytes_.substr(at_, end - at_);
  at_ = end + 1;
  return found;
}

void Unpickler::push(Value value) {
  if (stack_.size() == kMostOnStack) wrong(cat("wants more than ", kMostOnStack, " values on its stack"));
  stack_.push_back(value);
}

PickleValue Unpickler::pop() {
  if (stack_.size() == (marks_.empty() ? 0 : marks_.back())) wrong("takes a value from an empty stack");
  const Value value = stack_.back();
  stack_.pop_back();
  return value;
}

std::vector<PickleValue> Unpickler::pop_to_mark() {
  if (marks_.empty()) wrong("goes back to a MARK that is not there");
  const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
  std::vector<Value> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

// What has become part of another value changes no more: so none can come to contain itself.
void Unpickler::put_into(const Value& container, std::span<const Value> items) {
  for (const Value& item : items)
    if (item.kind == Kind::tuple || item.kind == Kind::list || item.kind == Kind::dict)
      containers_[static_cast<size_t>(item.number)].part_of_another = true;
  Container& to = containers_[static_cast<size_t>(container.number)];
  if (to.part_of_another) wrong(cat("puts something into ", name_of(container.kind), " that is part of another value"));
  to.items.insert(to.items.end(), items.begin(), items.end());
}

PickleValue Unpickler::make(Kind kind, std::vector<Value> items) {
  const Value made{kind, static_cast<int64_t>(containers_.size())};
  containers_.emplace_back();
  put_into(made, items);
  return made;
}

void Unpickler::remember(uint64_t key) {
  const Value value = pop();
  push(value);
  memo_[key] = value;
}

PickleValue Unpickler::global(std::string_view module, std::string_view name) {
  if (!is_name(module) || !is_name(name)) wrong("asks for a function or class without a proper name");
  globals_.push_back(cat(module, ".", name));
  if (!knows(globals_.back())) wrong(cat("asks for ", globals_.back(), ", which a file of tensors does not need"));
  return {Kind::global, 0, globals_.back()};
}

// Sets attributes of an object. state_dict() leaves some on its dictionary (versions of modules), and they say nothing
// of the tensors.
void Unpickler::build() {
  const Value state = pop(), object = pop();
  if (object.kind != Kind::dict || state.kind != Kind::dict)
    wrong(cat("sets attributes of ", name_of(object.kind), " from ", name_of(state.kind)));
  if (state.number == object.number) wrong("makes a dict part of itself");
  push(object);
}

bool Unpickler::push_literal(unsigned op) {
  switch (op) {
    case 'N':
      push({Kind::none});
      return true;
    case 0x88:
      push({Kind::boolean, 1});
      return true;
    case 0x89:
      push({Kind::boolean, 0});
      return true;
    case 'K':
      push({Kind::integer, static_cast<int64_t>(number(1))});
      return true;
    case 'M':
      push({Kind::integer, static_cast<int64_t>(number(2))});
      return true;
    case 'J':
      push({Kind::integer, static_cast<int32_t>(number(4))});
      return true;
    case 'G':
      take(8), push({Kind::real});
      return true;
    case 'X':
      push({Kind::text, 0, take(number(4))});
      return true;
    case 0x8c:
      push({Kind::text, 0, take(number(1))});
      return true;
    case 0x8a: {
      const std::string_view digits = take(number(1));
      uint64_t value = digits.empty() || static_cast<signed char>(digits.back()) >= 0 ? 0 : ~uint64_t{0};
      for (size_t i = digits.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(digits[i]);
      const bool fits = digits.size() <= 8;
      push({fits ? Kind::integer : Kind::long_integer, fits ? static_cast<int64_t>(value) : 0, digits});
      return true;
    }
    default:
      return false;
  }
}

bool Unpickler::use_memo(unsigned op) {
  switch (op) {
    case 'q':
      remember(number(1));
      return true;
    case 'r':
      remember(number(4));
      return true;
    case 0x94:
      remember(memo_.size());
      return true;
    case 'h':
    case 'j': {
      const uint64_t key = number(op == 'h' ? 1 : 4);
      const auto found = memo_.find(key);
      if (found == memo_.end()) wrong(cat("recalls value ", key, ", which it never kept"));
      push(found->second);
      return true;
    }
    default:
      return false;
  }
}

bool Unpickler::push_container(unsigned op) {
  switch (op) {
    case '}':
      push(make(Kind::dict, {}));
      return true;
    case ']':
      push(make(Kind::list, {}));
      return true;
    case ')':
      push(make(Kind::tuple, {}));
      return true;
    case 't':
      push(make(Kind::tuple, pop_to_mark()));
      return true;
    case 0x85:
    case 0x86:
    case 0x87: {
      std::vector<Value> items(op - 0x84);
      for (size_t i = items.size(); i-- > 0;) items[i] = pop();
      push(make(Kind::tuple, std::move(items)));
      return true;
    }
    default:
      return false;
  }
}

bool Unpickler::fill_container(unsigned op) {
  const bool one = op == 's' || op == 'a';
  if (!one && op != 'u' && op != 'e') return false;
  const Kind wanted = op == 's' || op == 'u' ? Kind::dict : Kind::list;
  std::vector<Value> items;
  if (one) {
    items.resize(op == 's' ? 2 : 1);
    for (size_t i = items.size(); i-- > 0;) items[i] = pop();
  } else {
    items = pop_to_mark();
  }
  const Value container = pop();
  if (container.kind != wanted) wrong(cat("puts items into ", name_of(container.kind)));
  if (wanted == Kind::dict && items.size() % 2 != 0) wrong("has a key without a value");
  put_into(container, items);
  push(container);
  return true;
}

bool Unpickler::execute(unsigned op) {
  if (push_literal(op) || use_memo(op) || push_container(op) || fill_container(op)) return true;
  switch (op) {
    case '.':
      return false;
    case 'b':
      build();
      return true;
    case 0x80:
      if (const uint64_t protocol = number(1); protocol > kHighestProtocol) wrong(cat("has protocol ", protocol));
      return true;
    case 0x95:
      if (const uint64_t frame = number(8); frame > bytes_.size() - at_) wrong(cat("has a frame of ", frame, " bytes"));
      return true;
    case '(':
      if (marks_.size() == kMostMarks) wrong(cat("is nested deeper than ", kMostMarks));
      marks_.push_back(stack_.size());
      return true;
    case 'c': {
      const std::string_view module = line();
      push(global(module, line()));
      return true;
    }
    case 0x93: {
      const Value name = pop(), module = pop();
      if (name.kind != Kind::text || module.kind != Kind::text) wrong("asks for a function or class without a name");
      push(global(module.text, name.text));
      return true;
    }
    case 'R': {
      const Value arguments = pop(), function = pop();
      if (function.kind != Kind::global) wrong(cat("calls ", name_of(function.kind)));
      if (arguments.kind != Kind::tuple) wrong(cat("calls ", function.text, " with ", name_of(arguments.kind)));
      push(call(function.text, items(arguments)));
      return true;
    }
    case 'Q':
      push(persistent(pop()));
      return true;
    default:
      wrong(cat("has the instruction ", opcode_name(op), ", which a file of tensors does not need"));
  }
}

PickleValue Unpickler::next() {
  stack_.clear(), marks_.clear(), memo_.clear();
  instruction_ = at_;
  if (at_ == bytes_.size() || bytes_[at_] != '\x80') wrong("does not begin with PROTO");
  do {
    instruction_ = at_;
    if (++instructions_ > kMostInstructions) wrong(cat("has more than ", kMostInstructions, " instructions"));
  } while (execute(static_cast<unsigned char>(take(1)[0])));
  if (stack_.size() != 1 || !marks_.empty()) wrong(cat("ends with ", stack_.size(), " values instead of one"));
  return pop();
}

}  // namespace gf
