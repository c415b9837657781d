// SPDX-License-Identifier: Apache-2.0
#include "optim/flat_ranges.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "optim/flat_ranges_kernels.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

// Of 32-bit words, as far as tensors know.
template <class T>
Tensor table_on(Device device, const std::vector<T>& rows) {
  static_assert(sizeof(T) % sizeof(int32_t) == 0);
  const Tensor here =
      Tensor::empty({std::ssize(rows) * static_cast<int64_t>(sizeof(T) / sizeof(int32_t))}, DType::i32, kCpu);
  if (!rows.empty()) std::memcpy(here.raw(), rows.data(), here.bytes());
  return on(device, here);
}

template <class T>
const T* rows_of(const Tensor& table) {
  return reinterpret_cast<const T*>(table.raw());
}

}  // namespace

FlatRanges::FlatRanges(std::vector<Range> ranges, Device device) : ranges_(std::move(ranges)), device_(device) {
  if (device_.kind == Device::Kind::cuda && !empty())
    make_table();
  else
    squares_ = Tensor::zeros({std::ssize(ranges_)}, DType::f64, kCpu);
}

void FlatRanges::make_table() {
  std::vector<FlatPiece> pieces;
  std::vector<int64_t> first{0};
  std::vector<FlatRate> rates;
  for (const Range& r : ranges_) {
    for (int64_t at = 0; at < r.flat.size(); at += kFlatPiece)
      pieces.push_back({r.flat.begin + at, r.state + at, static_cast<int32_t>(std::min(kFlatPiece, r.flat.size() - at)),
                        static_cast<int32_t>(rates.size())});
    first.push_back(std::ssize(pieces));
    rates.push_back({r.group.lr_scale, r.lr_scale, r.group.decays ? 1.0 : 0.0});
  }
  num_pieces_ = std::ssize(pieces);
  pieces_ = table_on(device_, pieces), first_ = table_on(device_, first), rates_ = table_on(device_, rates);
  sums_ = Tensor::empty({std::ssize(ranges_) + num_pieces_}, DType::f64, device_);
  squares_ = pinned_.empty({std::ssize(ranges_)}, DType::f64);
}

void FlatRanges::begin_squares(const Tensor& flat) {
  const auto count = std::ssize(ranges_);
  if (count == 0) return;
  on_device(
      device_,
      [&] {
        for (int64_t i = 0; i < count; ++i) {
          const FlatRange& r = ranges_[static_cast<size_t>(i)].flat;
          squares_.data<double>()[i] = sum_of_squares(flat.range(r.begin, r.end));
        }
      },
      [&](auto stream) {
        double* const sums = sums_.data<double>();
        cuda::flat_squares({count, num_pieces_, rows_of<FlatPiece>(pieces_), rows_of<int64_t>(first_),
                            flat.data<float>(), sums + count, sums},
                           stream);
        cuda::copy(sums_.raw(), squares_.raw(), squares_.bytes(), stream);
      });
  arrived_ = StreamEvent::of_current(device_);
}

std::vector<double> FlatRanges::take_squares() {
  arrived_.wait();
  return {squares_.data<double>(), squares_.data<double>() + squares_.numel()};
}

void FlatRanges::adamw(const AdamWArgs& all) const {
  on_device(
      device_,
      [&] {
        for (const Range& r : ranges_) {
          AdamWArgs one = all;
          one.n = r.flat.size();
          one.p += all.rounded ? r.state : r.flat.begin;
          one.g += r.flat.begin, one.m += r.state, one.v += r.state;
          if (all.rounded) one.rounded += r.flat.begin;
          one.lr = all.lr * r.group.lr_scale * r.lr_scale;
          one.decay = r.group.decays ? all.decay : 0;
          cpu::adamw(one);
        }
      },
      [&](auto stream) {
        cuda::flat_adamw({num_pieces_, rows_of<FlatPiece>(pieces_), rows_of<FlatRate>(rates_), all}, stream);
      });
}

}  // namespace gf
