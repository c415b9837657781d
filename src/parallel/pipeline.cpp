// SPDX-License-Identifier: Apache-2.0
#include "parallel/pipeline.h"

#include <algorithm>

#include "parallel/traced_work.h"

namespace gf {
namespace {

Trace::What pass_of(const Compute& c) {
  return {.name = std::string(name_of(c.pass)), .numbers = {{"microbatch", c.microbatch}, {"piece", c.piece}}};
}

Trace::What transfer_of(const Transfer& t, const Tensor& tensor) {
  return {.name = t.send ? kSend : kReceive,
          .bytes = static_cast<double>(tensor.bytes()),
          .numbers = {{"pipeline_rank", t.peer}, {"microbatch", t.pass.microbatch}, {"piece", t.pass.piece}}};
}

}  // namespace

// The step's own hooks, and messages on their way, which make progress when somebody looks.
class Pipeline::StepHooks final : public ParameterHooks {
 public:
  StepHooks(Pipeline& pipeline, ParameterHooks& inner) : pipeline_(pipeline), inner_(inner) {}
  void before_use(const LayerRange& r) override { inner_.before_use(r); }
  void after_use(const LayerRange& r) override { inner_.after_use(r); }
  void before_gradients(const LayerRange& r) override { inner_.before_gradients(r); }
  void gradients_done(const LayerRange& r) override { inner_.gradients_done(r); }
  void look() override {
    pipeline_.look();
    inner_.look();
  }
  bool may_come_at_once(int64_t microbatch) const override { return inner_.may_come_at_once(microbatch); }

 private:
  Pipeline& pipeline_;
  ParameterHooks& inner_;
};

Pipeline::Pipeline(std::vector<Stage*> pieces, Communicator& pipe, const ScheduleEntry& schedule, Cuts cuts,
                   HangWatch* watch)
    : pieces_(std::move(pieces)),
      pipe_(pipe),
      schedule_(schedule),
      cuts_(std::move(cuts)),
      watch_(watch),
      arriving_memory_(pieces_[0]->device()) {
  for (const auto* all : {&cuts_.forward, &cuts_.backward})
    GF_CHECK(static_cast<int>(all->size()) == num_stages() + 1, all->size(), " cuts around ", num_stages(), " stages");
}

Pipeline::Pipeline(Stage& stage, Communicator& self, const ScheduleEntry& schedule)
    : Pipeline({&stage}, self, schedule, {{{}, {}}, {{}, {}}}) {}

void Pipeline::run_passes(std::span<const Batch> microbatches, ParameterHooks& hooks) {
  auto found = programs_.find(microbatches.size());
  if (found == programs_.end()) {
    auto all = lower(schedule_, pipe_.size(), static_cast<int>(microbatches.size()), static_cast<int>(pieces_.size()));
    found = programs_.emplace(microbatches.size(), std::move(all[pipe_.rank()])).first;
  }
  hooks.begin_step(static_cast<int64_t>(microbatches.size()));
  StepHooks step(*this, hooks);
  const auto batch_size = static_cast<int64_t>(microbatches[0].samples_B.size());
  for (const Step& s : found->second) {
    if (!s.exchange.empty())
      begin(s.exchange, batch_size);
    else
      compute(s.compute, microbatches, step);
  }
  wait_until_sent();
}

double Pipeline::take_loss() {
  double loss = 0;
  for (Stage* stage : pieces_) loss += stage->take_loss();
  return loss;
}

void Pipeline::begin(const std::vector<Transfer>& transfers, int64_t batch_size) {
  std::vector<Communicator::Message> messages;
  struct Going {
    Arriving* into;  // where the message's work goes; null: it leaves
    std::shared_ptr<Trace::Transfer> transfer;
  };
  std::vector<Going> going;
  for (const Transfer& t : transfers) {
    if ((t.send ? given_by(t.pass) : taken_by(t.pass)).fields == 0) continue;  // nothing is trained below
    Boundary boundary;
    Arriving* arriving = nullptr;
    if (t.send) {
      const auto given = given_.extract(key(t.pass));
      GF_CHECK(!given.empty(), "nothing to send of the ", name_of(t.pass));
      boundary = given.mapped();
    } else {
      BoundaryShape shape = taken_by(t.pass);
      shape.B = batch_size;
      arriving = &arriving_[key(t.pass)];
      boundary = arriving->boundary = shape.empty(arriving_memory_);
    }
    for (const Tensor& tensor : tensors_of(boundary)) {
      messages.push_back({tensor, t.peer, t.send});
      going.push_back({arriving, Trace::begin_transfer([&] { return transfer_of(t, tensor); })});
    }
  }
  if (messages.empty()) return;
  auto works = pipe_.exchange(messages);
  for (size_t i = 0; i < works.size(); ++i) {
    auto& [into, transfer] = going[i];
    (into ? into->works : leaving_).push_back(traced(std::move(works[i]), std::move(transfer)));
  }
}

void Pipeline::look() {
  if (watch_) watch_->touch();
  std::erase_if(leaving_, [](const auto& work) { return work->poll(); });
  for (auto& [pass, arriving] : arriving_) std::erase_if(arriving.works, [](const auto& work) { return work->poll(); });
}

Boundary Pipeline::take(const Compute& c) {
  // The first stage's forward pass, the last one's backward pass, and those below all that is trained.
  if (taken_by(c).fields == 0) return {};
  const auto found = arriving_.extract(key(c));
  GF_CHECK(!found.empty(), "nothing arrives for the ", name_of(c));
  for (const auto& work : found.mapped().works)
    wait_for(*work, [&] {
      const Source source = source_of(c, pipe_.rank(), pipe_.size(), static_cast<int>(pieces_.size()));
      return Trace::What{
          .name = cat("wait for ", c.is_forward() ? "activations" : "gradients", " from pipeline rank ", source.rank),
          .numbers = {{"microbatch", c.microbatch}, {"piece", c.piece}}};
    });
  return found.mapped().boundary;
}

void Pipeline::wait_until_sent() {
  for (const auto& work : leaving_) wait_for(*work, "wait until all is sent");
  leaving_.clear();
}

void Pipeline::give(const Compute& c, Boundary boundary) {
  const int stage = stage_of(c.piece), next = stage + (c.is_forward() ? 1 : -1);
  if (next < 0 || next >= num_stages() || given_by(c).fields == 0) return;
  if (pipe_.size() > 1)
    given_[key(c)] = std::move(boundary);
  else  // the next stage is on this rank too
    arriving_[{c.is_forward(), next, c.microbatch}].boundary = std::move(boundary);
}

void Pipeline::compute(const Compute& c, std::span<const Batch> microbatches, ParameterHooks& hooks) {
  const HangWatch::Doing doing(watch_, name_of(c));
  Stage& stage = *pieces_[c.piece];
  const Boundary in = c.pass == Compute::Pass::backward_weight ? Boundary() : take(c);
  const TraceSpan span(Trace::Kind::pass, [&] { return pass_of(c); });
  if (!c.is_forward() && !stage.goes_back()) return;
  switch (c.pass) {
    case Compute::Pass::forward:
      if (stage.is_held_up()) wait_until_sent();
      return give(c, stage.forward(c.microbatch, microbatches[c.microbatch], in, &hooks));
    case Compute::Pass::backward:
      return give(c, stage.backward(c.microbatch, in, WeightGradients::now));
    case Compute::Pass::backward_input:
      return give(c, stage.backward(c.microbatch, in, WeightGradients::later));
    case Compute::Pass::backward_weight:
      return stage.backward_weights(c.microbatch);
  }
}

bool Pipeline::reads_tokens() const {
  return std::any_of(pieces_.begin(), pieces_.end(), [](Stage* piece) { return piece->layers().reads_tokens(); });
}

bool Pipeline::has_head() const {
  return std::any_of(pieces_.begin(), pieces_.end(), [](Stage* piece) { return piece->layers().head() != nullptr; });
}

void Pipeline::set_loss_scale(double scale) {
  for (Stage* stage : pieces_) stage->set_loss_scale(scale);
}

Stage::Sums Pipeline::evaluate(int64_t count, const std::function<Batch(int64_t)>& batch, ParameterHooks& hooks,
                               const LayerStack::Observer& observer, Stage::Sums sums) {
  Arena arena(pieces_[0]->device());
  for (int64_t i = 0; i < count; ++i) {
    const HangWatch::Doing doing(watch_, cat("validation batch ", i));
    const Batch b = batch(i);
    const auto batch_size = static_cast<int64_t>(b.samples_B.size());
    for (int piece = 0; piece < static_cast<int>(pieces_.size()); ++piece) {
      const Compute c{Compute::Pass::forward, static_cast<int>(i), piece};
      const Source source = source_of(c, pipe_.rank(), pipe_.size(), static_cast<int>(pieces_.size()));
      if (source.rank >= 0 && source.rank != pipe_.rank()) begin({{false, source.rank, c}}, batch_size);
      give(c, pieces_[piece]->evaluate(arena, b, take(c), sums, &hooks, observer));
      if (given_.contains(key(c))) begin({{true, (pipe_.rank() + 1) % pipe_.size(), c}}, batch_size);
    }
    look();
  }
  wait_until_sent();
  return sums;
}

}  // namespace gf
