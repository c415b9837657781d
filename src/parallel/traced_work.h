// SPDX-License-Identifier: Apache-2.0
// Communication as a trace sees it: from when it was begun until this rank knows that it is done, and when the rank
// stood still for it. Where no trace is taken, the work is what it was.
#pragma once
#include "base/trace.h"
#include "parallel/communicator.h"

namespace gf {

// Names of transfers from which follows whose other transfers belong to them (TracedRun). Those with any other name are
// among data ranks.
inline constexpr const char *kSend = "send", *kReceive = "receive", *kReduceBetweenStages = "reduce between stages";

// Ends the transfer with the work. Without a transfer, the work itself.
std::unique_ptr<Work> traced(std::unique_ptr<Work>, std::shared_ptr<Trace::Transfer>);

// Brings the work to its end; shown where that was not there yet. `what` is the name of the span, or gives all of it.
template <class GetWhat>
requires std::is_invocable_v<GetWhat>
void wait_for(Work& work, GetWhat&& what) {
  if (work.poll()) return;
  const TraceSpan span(Trace::Kind::wait, what);
  work.wait();
}
void wait_for(Work&, const char* what);

}  // namespace gf
