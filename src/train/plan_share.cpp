// SPDX-License-Identifier: Apache-2.0
// What of a plan its memory follows from: each rank's share, and whether a validation comes after a save.
#include <algorithm>

#include "train/build.h"

namespace gf {

RankShare Plan::share_of(int rank) const {
  const int64_t last = last_validation();
  const int64_t windows = last > first_step ? (validation_windows + data_ranks - 1) / data_ranks : 0;
  return {rank / data_ranks, data_ranks,   rank % data_ranks, partition,
          sharding,          microbatches, windows,           windows > 0 && first_save() < last};
}

// Of a step that does both the validation comes first.
int64_t Plan::first_save() const {
  const TrainConfig& t = config.train;
  if (t.save_every_minutes > 0) return first_step;  // nobody knows
  int64_t first = last_step + 1;
  if (t.save_every_steps > 0) first = std::min(first, (first_step / t.save_every_steps + 1) * t.save_every_steps);
  if (t.epoch_save > 0 && t.epoch_save <= last_step * t.global_batch() / kSamplesPerEpoch) {
    const int64_t samples = t.epoch_save * kSamplesPerEpoch, batch = t.global_batch();
    const int64_t end = (first_step * batch / samples + 1) * samples;
    first = std::min(first, (end + batch - 1) / batch);
  }
  return first;
}

int64_t Plan::last_validation() const {
  const TrainConfig& t = config.train;
  if (!validation) return first_step;
  if (last_step == schedule.steps()) return last_step;
  // With a number of epochs beside the interval fewer steps validate: those are not told apart.
  if (t.val_check_interval) return last_step / *t.val_check_interval * *t.val_check_interval;
  const int64_t batch = t.global_batch(), epochs = last_step * batch / kSamplesPerEpoch;
  if (t.check_val_every_n_epoch <= 0 || epochs < t.check_val_every_n_epoch) return first_step;
  const int64_t end = epochs / t.check_val_every_n_epoch * t.check_val_every_n_epoch * kSamplesPerEpoch;
  return (end + batch - 1) / batch;
}

}  // namespace gf
