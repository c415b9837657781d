// SPDX-License-Identifier: Apache-2.0
#include "parallel/traced_work.h"

namespace gf {
namespace {

class TracedWork final : public Work {
 public:
  TracedWork(std::unique_ptr<Work> work, std::shared_ptr<Trace::Transfer> transfer)
      : work_(std::move(work)), transfer_(std::move(transfer)) {}
  bool poll() override {
    if (!work_->poll()) return false;
    transfer_->end();
    return true;
  }
  void wait() override {
    work_->wait();
    transfer_->end();
  }

 private:
  std::unique_ptr<Work> work_;
  std::shared_ptr<Trace::Transfer> transfer_;
};

}  // namespace

std::unique_ptr<Work> traced(std::unique_ptr<Work> work, std::shared_ptr<Trace::Transfer> transfer) {
  if (!transfer) return work;
  return std::make_unique<TracedWork>(std::move(work), std::move(transfer));
}

void wait_for(Work& work, const char* what) {
  wait_for(work, [&] { return Trace::What{what}; });
}

}  // namespace gf
