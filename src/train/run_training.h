// SPDX-License-Identifier: Apache-2.0
// A training run from its configuration to its exit status, with all that a person sees of it.
#pragma once
#include <exception>
#include <functional>
#include <memory>

#include "base/error.h"
#include "parallel/communicator.h"
#include "parallel/hang_watch.h"
#include "parallel/rank_origin.h"
#include "train/config.h"

namespace gf {

// On all of the ranks; this one's origin, which hears of its stage, has the name of the machine that it is on; the
// watch may be null. `dry`: ends before anything is made, with all said that is known by then. An AgreedError leaves
// all ranks alike; after any other error the rest must be ended. `tell` hears of an error of the steps before what
// they have begun is waited for, which may never come to its end; it is thrown all the same.
Exit run_training(
    const Config&, std::unique_ptr<Communicator> ranks, RankOrigin&, HangWatch*, bool dry = false,
    const std::function<void(const std::exception&)>& tell = [](const std::exception&) {});

}  // namespace gf
