// SPDX-License-Identifier: Apache-2.0
// Named parameters and where they live: a stage's parameters lie in two flat buffers, values and gradients, in the
// order of declaration; those that a run does not train, in a third one, of values alone. A parameter carries its own
// rules; nothing is decided from its name here.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "autodiff/tape.h"

namespace gf {

// What a parameter is for: learning-rate scale and weight decay follow from it (optim/groups.h).
enum class Role : uint8_t {
  matrix,  // products' weights, embedding, head
  vector,  // norms' weights and biases
  mix,     // time_maa_*, time_mix_*: token-shift factors
  lora,    // *_w1, *_w2
  decay,   // time_decay
  bonus,   // time_faaaa
};

// How a parameter starts. Each value is a function of seed, name and index; an orthogonal matrix of seed, name and
// shape.
struct Init {
  enum class Kind : uint8_t { constant, uniform, orthogonal, values } kind = Kind::constant;
  double scale = 0;  // the constant; the bound of U(-scale, scale); the gain
  std::function<double(int64_t)> at = {};

  static Init constant(double value) { return {Kind::constant, value, {}}; }
  static Init uniform(double bound) { return {Kind::uniform, bound, {}}; }
  static Init orthogonal(double gain) { return {Kind::orthogonal, gain, {}}; }
  static Init values(std::function<double(int64_t)> at) { return {Kind::values, 0, std::move(at)}; }
};

struct ParameterSpec {
  Shape shape;
  Role role;
  Init init;
};

// What a run makes of a parameter (train/parameter_groups.h).
struct Tuning {
  bool frozen = false;  // no gradient, no optimizer state, no part in the norm
  double lr_scale = 1;  // of the learning rate, besides the published scale
};
using TuningRule = std::function<Tuning(std::string_view name)>;

class Parameter {
 public:
  const std::string& name() const { return name_; }  // as published: "blocks.3.att.key.weight"
  const ParameterSpec& spec() const { return spec_; }
  const Shape& shape() const { return spec_.shape; }
  bool frozen() const { return tuning_.frozen; }
  double lr_scale() const { return tuning_.lr_scale; }
  int64_t begin() const { return begin_; }  // in the flat buffers, or in that of the frozen ones
  int64_t end() const { return begin_ + spec_.shape.numel(); }
  const Tensor& value() const { return value_; }
  // From the CPU, in float32, or float64 where the value is that; a bf16 value becomes them rounded. Nothing is to be
  // done where they are the value itself.
  void set(const Tensor& numbers) const;
  const Tensor& grad() const { return grad_; }  // empty where it is frozen, or the store has no gradients
  // The parameter as a leaf of a tape.
  Var on(Tape& tape) const { return tape.parameter(value_, tape.recording() ? grad_ : Tensor()); }

 private:
  friend class ParameterStore;
  Parameter(std::string name, ParameterSpec spec, Tuning tuning, int64_t begin)
      : name_(std::move(name)), spec_(std::move(spec)), tuning_(tuning), begin_(begin) {}
  std::string name_;
  ParameterSpec spec_;
  Tuning tuning_;
  int64_t begin_;
  Tensor value_, grad_;
};

// A part of a flat buffer.
struct FlatRange {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const FlatRange&) const = default;
};

// Where a layer's parameters lie: those that are trained, and those that are frozen.
struct LayerRange {
  FlatRange trained, frozen;
  int64_t size() const { return trained.size() + frozen.size(); }
};

class ParameterStore {
 public:
  // Each parameter begins on a cache line. The padding between two stays zero: it adds nothing to a norm, and an
  // optimizer leaves it where it is.
  static constexpr int64_t kAlign = 16;
  // A layer's parameters begin and end at multiples of `layer_multiple`, so that they can be dealt out to ranks in
  // equal parts.
  explicit ParameterStore(int64_t layer_multiple = kAlign, TuningRule rule = {})
      : layer_multiple_(layer_multiple), rule_(std::move(rule)) {}

  // The parameter of that name; a second layer that shares it gets the same one.
  const Parameter& add(std::string name, ParameterSpec);
  void pad_layer();  // between two layers
  enum class Gradients : uint8_t { none, zeroed };
  // Once, after the last add. Gradients of bf16 values are float32; what these are rounded from, an optimizer keeps.
  void allocate(Device, DType, Gradients);
  bool allocated() const { return allocated_; }
  // For reading on alone: matrices become bf16, and the flat buffers go.
  void narrow();

  const std::vector<std::unique_ptr<Parameter>>& all() const { return all_; }
  const Parameter* find(std::string_view name) const;
  std::vector<std::string> names() const;               // in this order
  int64_t count() const;                                // of numbers, without padding
  int64_t trained_count() const;                        // of those that are not frozen
  int64_t flat_size() const { return size_; }           // of values() and grads()
  int64_t frozen_size() const { return frozen_size_; }  // of frozen_values()
  // How often add() was asked for a parameter that is trained.
  int64_t trained_uses() const { return trained_uses_; }
  const Tensor& values() const { return values_; }  // empty once narrow
  const Tensor& grads() const { return grads_; }
  const Tensor& frozen_values() const { return frozen_values_; }

 private:
  std::vector<std::unique_ptr<Parameter>> all_;
  std::unordered_map<std::string_view, const Parameter*> by_name_;
  int64_t layer_multiple_;
  TuningRule rule_;
  int64_t size_ = 0, frozen_size_ = 0, trained_uses_ = 0;
  bool allocated_ = false;
  Tensor values_, grads_, frozen_values_;
};

}  // namespace gf
