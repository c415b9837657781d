// SPDX-License-Identifier: Apache-2.0
// --rope.rescale and --rope.rebase of the commands that ask a trained model: another position encoding than it was
// trained with, for texts longer than its ctx_len.
#pragma once
#include <boost/program_options.hpp>

#include "model/config.h"

namespace gf {

class PositionChange {
 public:
  void add_to(boost::program_options::options_description&);
  // Which were given. Refuses what is no position encoding of any model, before one is opened.
  void take(const boost::program_options::variables_map&);
  // Refuses a model that was trained without such an encoding.
  void apply(ModelConfig&) const;

 private:
  double rescale_ = 1, rebase_ = 1;
  bool changes_rescale_ = false, changes_rebase_ = false;
};

}  // namespace gf
