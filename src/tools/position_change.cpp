// SPDX-License-Identifier: Apache-2.0
#include "tools/position_change.h"

#include <cmath>

#include "base/error.h"

namespace gf {
namespace {

constexpr const char *kRescale = "rope.rescale", *kRebase = "rope.rebase";

}  // namespace

void PositionChange::add_to(boost::program_options::options_description& options) {
  namespace po = boost::program_options;
  options.add_options()(kRescale, po::value(&rescale_)->value_name("X"),
                        "divide positions by this, instead of what the model was trained with: for longer contexts");
  options.add_options()(kRebase, po::value(&rebase_)->value_name("X"),
                        "multiply the base of the position encoding, likewise");
}

void PositionChange::take(const boost::program_options::variables_map& values) {
  changes_rescale_ = values.count(kRescale) > 0;
  changes_rebase_ = values.count(kRebase) > 0;
  const auto check = [](const char* option, bool given, double x) {
    if (given && (!(x > 0) || !std::isfinite(x)))
      refuse(cat("--", option, " is ", x, " and must be above 0"),
             cat("without --", option, ", the model is as trained"));
  };
  check(kRescale, changes_rescale_, rescale_);
  check(kRebase, changes_rebase_, rebase_);
}

void PositionChange::apply(ModelConfig& model) const {
  if (!changes_rescale_ && !changes_rebase_) return;
  if (!model.rope && (changes_rebase_ || !model.brope)) {
    const bool both = changes_rescale_ && changes_rebase_ && !model.brope;
    const std::string wrong =
        both ? cat("--", kRescale, " and --", kRebase) : cat("--", changes_rebase_ ? kRebase : kRescale);
    refuse(cat(wrong, both ? " are" : " is", " given, and the model was trained ",
               model.brope ? "with model.brope, which has no base" : "without model.rope"),
           cat("without ", wrong));
  }
  if (model.brope) model.brope->rescale = rescale_;
  if (model.rope && changes_rescale_) model.rope->rescale = rescale_;
  if (model.rope && changes_rebase_) model.rope->rebase = rebase_;
}

}  // namespace gf
