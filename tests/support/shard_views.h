// SPDX-License-Identifier: Apache-2.0
// What ranks save and read, by name and whole: the float32 tensors that their views are pieces of.
#pragma once
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "tensor/arithmetic.h"
#include "tensor/shard_view.h"

namespace gf {

using NamedTensors = std::map<std::string, std::vector<float>>;

inline Tensor tensor_at(const ShardView& v) {
  return {{v.data, [](std::byte*) {}}, {v.end - v.begin}, v.dtype, v.device};
}

// What no view has stays NaN.
inline void take(NamedTensors& all, const std::vector<ShardView>& views) {
  for (const ShardView& v : views) {
    auto& values = all[v.name];
    values.resize(v.shape.numel(), std::numeric_limits<float>::quiet_NaN());
    const Tensor here = on(kCpu, tensor_at(v));
    std::memcpy(values.data() + v.begin, here.data<float>(), here.bytes());
  }
}

inline void put(const NamedTensors& all, const std::vector<ShardView>& views) {
  for (const ShardView& v : views) {
    const Tensor here = Tensor::empty({v.end - v.begin}, DType::f32, kCpu);
    std::memcpy(here.data<float>(), all.at(v.name).data() + v.begin, here.bytes());
    copy(here, tensor_at(v));
  }
}

}  // namespace gf
