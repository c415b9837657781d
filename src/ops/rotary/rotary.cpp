// SPDX-License-Identifier: Apache-2.0
#include "ops/rotary/rotary.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "base/parallel_for.h"
#include "ops/rotary/kernels.h"
#include "tensor/arithmetic.h"

namespace gf {
namespace {

// Of the positions from `first` on, one a row of `to`.
void make_angles(const std::vector<double>& speeds, int64_t first, const Tensor& to) {
  if (to.device().kind == Device::Kind::meta) return;
  const bool is_here = to.device() == kCpu;
  const Tensor here = is_here ? to : Tensor::empty(to.shape(), to.dtype(), kCpu);
  with_float(to.dtype(), [&]<class Real>(Type<Real>) {
    // Short runs: where a token is decoded, all threads share the 256 positions of a block.
    parallel_ranges(here.size(0), 16, [&](int64_t begin, int64_t end) {
      Real* out = here.data<Real>() + begin * 2 * std::ssize(speeds);
      for (int64_t t = first + begin; t < first + end; ++t) {
        for (const double speed : speeds) {
          const double angle = static_cast<double>(t) * speed;
          *out++ = static_cast<Real>(std::cos(angle));
          *out++ = static_cast<Real>(std::sin(angle));
        }
      }
    });
  });
  if (!is_here) copy(here, to);
}

void turn(const Tensor& x, int64_t num_heads, const Tensor& angles, bool back, const Tensor& y) {
  with_real(x.dtype(), [&]<class Real>(Type<Real>) {
    const RotaryArgs<Real> args{.B = x.size(0),
                                .T = x.size(1),
                                .H = num_heads,
                                .N = x.size(2) / num_heads,
                                .back = back,
                                .angles = angles.data<Inner<Real>>(),
                                .x = x.data<Real>(),
                                .y = y.data<Real>()};
    on_device(
        x.device(), args, [](const auto& p) { cpu::rotary(p); },
        [](const auto& p, auto stream) { cuda::rotary(p, stream); });
  });
}

void check_head_size(const char* what, int64_t head_size) {
  GF_CHECK(head_size > 0 && head_size % 2 == 0, what, ": head size ", head_size, " is not made of pairs");
}

}  // namespace

std::vector<double> rope_speeds(int64_t head_size, double base, double rescale, double rebase) {
  check_head_size("rope", head_size);
  GF_CHECK(base * rebase > 0 && rescale > 0, "rope: base ", base, ", rebase ", rebase, ", rescale ", rescale);
  std::vector<double> speeds;
  for (int64_t i = 0; i < head_size / 2; ++i)
    speeds.push_back(std::pow(base * rebase, -2.0 * static_cast<double>(i) / static_cast<double>(head_size)) / rescale);
  return speeds;
}

std::vector<double> binary_rope_speeds(int64_t head_size, int64_t ctx_len, double rescale) {
  check_head_size("brope", head_size);
  GF_CHECK(ctx_len > 0 && rescale > 0, "brope: ctx_len ", ctx_len, ", rescale ", rescale);
  const int64_t turning = std::bit_width(static_cast<uint64_t>(ctx_len)) - 1;  // floor(log2 ctx_len)
  std::vector<double> speeds;
  for (int64_t i = 0; i < head_size / 2; ++i)
    speeds.push_back(i < turning ? std::numbers::pi * std::exp2(static_cast<double>(-i)) / rescale : 0);
  return speeds;
}

RotaryTable::RotaryTable(std::vector<double> speeds) : speeds_(std::move(speeds)) {
  GF_CHECK(!speeds_.empty(), "a rotary table without speeds");
}

Tensor RotaryTable::angles(int64_t begin, int64_t end, DType dtype, Arena& arena) const {
  if (begin == 0 || end <= kKept) return kept(end, dtype, arena.device()).slice(begin, end);
  Tensor made = arena.empty({end - begin, head_size() / 2, 2}, dtype);
  make_angles(speeds_, begin, made);
  return made;
}

Tensor RotaryTable::kept(int64_t T, DType dtype, Device device) const {
  const std::lock_guard lock(guard_);
  int64_t longest = 0;
  for (const Tensor& t : kept_) {
    if (t.dtype() != dtype || !(t.device() == device)) continue;
    if (t.size(0) >= T) return t;
    longest = std::max(longest, t.size(0));
  }
  // Twice as many: texts that are read whole, each longer than the last, ask for a longer table now and then only.
  const int64_t rows = std::max({T, kKept, 2 * longest});
  const Tensor t = Tensor::empty({rows, head_size() / 2, 2}, dtype, device);
  make_angles(speeds_, 0, t);
  return kept_.emplace_back(t);
}

Var rotary(const Var& x, int64_t num_heads, const RotaryTable& table, int64_t first) {
  GF_CHECK(x.shape().rank() == 3 && x.size(2) == num_heads * table.head_size(), "rotary: ", num_heads,
           " heads of size ", table.head_size(), " in ", x.shape());
  Tape& tape = x.tape();
  const Tensor angles = table.angles(first, first + x.size(1), inner(x.value().dtype()), tape.arena());
  Tensor y = tape.empty(x.shape(), x.value().dtype());
  turn(x.value(), num_heads, angles, false, y);
  return tape.record("rotary", {x}, std::move(y), [angles, num_heads, &tape](std::span<Tensor> grad, Grads& grads) {
    const Tensor dy = std::move(grad[0]);
    Tensor dx = dy.sole_owner() ? dy : tape.empty(dy.shape(), dy.dtype());
    turn(dy, num_heads, angles, true, dx);
    grads.add(0, std::move(dx));
  });
}

}  // namespace gf
