// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "model/layer.h"

namespace gf {

LayerContext LayerContext::inside(std::string_view name) const {
  return {store_, cat(prefix_, name, "."), layer, config, rotary};
}

const Parameter& LayerContext::add(std::string_view name, Shape shape, Role role, Init init) const {
  return store_.add(cat(prefix_, name), {shape, role, std::move(init)});
}

const Parameter& LayerContext::linear(std::string_view name, int64_t out, int64_t in, double gain) const {
  return add(cat(name, ".weight"), {out, in}, Role::matrix, gain == 0 ? Init::constant(0) : Init::orthogonal(gain));
}

const Parameter& LayerContext::lora_in(std::string_view name, Shape shape) const {
  return add(name, shape, Role::lora, Init::constant(0));
}

const Parameter& LayerContext::lora_out(std::string_view name, Shape shape) const {
  return add(name, shape, Role::lora, Init::uniform(0.01));
}

double LayerContext::r0() const {
  return config.n_layer > 1 ? static_cast<double>(layer) / static_cast<double>(config.n_layer - 1) : 0;
}

double LayerContext::r1() const {
  return 1 - static_cast<double>(layer) / static_cast<double>(config.n_layer);
}

const Parameter& LayerContext::mix(std::string_view name, double power, double lift, ShiftMix kind) const {
  const auto C = static_cast<double>(config.n_embd);
  return add(name, {1, 1, config.n_embd}, Role::mix,
             Init::values([C, power = power * r1(), lift = lift * r0(), kind](int64_t i) {
               const double current = std::pow(static_cast<double>(i) / C, power) + lift;
               return kind == ShiftMix::toward_current ? current : 1 - current;
             }));
}

double ln_x_start(const LayerContext& c) {
  return std::pow(static_cast<double>(1 + c.layer) / static_cast<double>(c.config.n_layer), 0.7);
}

const Parameter& LayerContext::decay(Shape shape) const {
  const double last = static_cast<double>(config.dim_att - 1), power = 0.7 + 1.3 * r0();
  return add("time_decay", shape, Role::decay, Init::values([last, power](int64_t n) {
               return -6 + 5 * std::pow(static_cast<double>(n) / last, power);
             }));
}

const Parameter& LayerContext::bonus() const {
  const double last = static_cast<double>(config.dim_att - 1);
  return add("time_faaaa", {config.num_heads(), config.head_size}, Role::bonus,
             Init::values([last, r0 = r0()](int64_t n) {
               return r0 * (1 - static_cast<double>(n) / last) + static_cast<double>((n + 1) % 3 - 1) * 0.1;
             }));
}

Norm::Norm(const LayerContext& context, std::string_view name, int64_t width, double weight_value)
    : weight(context.add(cat(name, ".weight"), {width}, Role::vector, Init::constant(weight_value))),
      bias(context.add(cat(name, ".bias"), {width}, Role::vector, Init::constant(0))) {}

std::unique_ptr<RotaryTable> make_rotary_table(const ModelConfig& config) {
  if (config.rope)
    return std::make_unique<RotaryTable>(
        rope_speeds(config.head_size, config.rope->base, config.rope->rescale, config.rope->rebase));
  if (config.brope)
    return std::make_unique<RotaryTable>(binary_rope_speeds(config.head_size, config.ctx_len, config.brope->rescale));
  return nullptr;
}

}  // namespace gf
