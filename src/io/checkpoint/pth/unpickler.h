// SPDX-License-Identifier: Apache-2.0
// Reads Python pickles as data. Of the pickle machine's instructions it knows those that a dictionary of tensors is
// made of; any other is refused by its name. Nothing is executed: a call to a function only reaches call() with the
// function's name, and so does a reference to what lies outside, persistent(). Whatever the bytes are, memory and time
// are bounded by their number, and no value contains itself.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace gf {

struct PickleValue {
  enum class Kind : uint8_t { none, boolean, integer, long_integer, real, text, global, tuple, list, dict, object };
  Kind kind = Kind::none;
  int64_t number = 0;          // boolean, integer; of tuple, list and dict: where its items are; of object: the maker's
  std::string_view text = {};  // of text; the bytes of a long_integer; the name of a global; what kind of object
};

class Unpickler {
 public:
  using Value = PickleValue;
  using Kind = PickleValue::Kind;
  // The bytes must outlive all values; `file` is what messages call them.
  Unpickler(std::string file, std::string_view bytes) : file_(std::move(file)), bytes_(bytes) {}
  virtual ~Unpickler() = default;
  Unpickler(const Unpickler&) = delete;
  Unpickler& operator=(const Unpickler&) = delete;

  Value next();                            // the pickle from the current position on, which is then behind it
  size_t position() const { return at_; }  // in the bytes
  std::span<const Value> items(const Value& container) const;  // of a dict: key, value, key, value, ...

  [[noreturn]] void wrong(const std::string& what, Where where = Where::here()) const;

 protected:
  Value make_dict() { return make(Kind::dict, {}); }

 private:
  // What a pickle asks for besides data. Whoever implements these gives a value for what he knows, and refuses the
  // rest.
  virtual Value call(std::string_view function, std::span<const Value> arguments) = 0;
  virtual Value persistent(const Value& id) = 0;
  virtual bool knows(std::string_view global) const = 0;

  struct Container {
    std::vector<Value> items;
    bool part_of_another = false;
  };
  bool execute(unsigned op);  // false: the pickle ends
  bool push_literal(unsigned op);
  bool use_memo(unsigned op);
  bool push_container(unsigned op);
  bool fill_container(unsigned op);
  std::string_view take(uint64_t count);
  uint64_t number(size_t bytes);
  std::string_view line();
  void push(Value);
  Value pop();
  std::vector<Value> pop_to_mark();
  Value make(Kind, std::vector<Value> items);
  void put_into(const Value& container, std::span<const Value> items);
  void remember(uint64_t key);
  Value global(std::string_view module, std::string_view name);
  void build();

  const std::string file_;
  const std::string_view bytes_;
  size_t at_ = 0, instruction_ = 0;
  int64_t instructions_ = 0;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;
  std::map<uint64_t, Value> memo_;
  std::vector<Container> containers_;
  std::deque<std::string> globals_;  // their names do not lie in the bytes in one piece
};

const char* name_of(PickleValue::Kind);  // "a dict"

}  // namespace gf
