// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint/checkpoint_writer.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/parallel_for.h"
#include "base/text.h"
#include "io/checkpoint/checkpoint_folder.h"
#include "io/checkpoint/checkpoint_part.h"
#include "io/files.h"
#include "parallel/agreement.h"

namespace gf {

namespace fs = std::filesystem;

namespace {

// A name becomes a path in HDF5 files.
void check_names(std::span<const ShardView> views) {
  for (const ShardView& v : views) {
    const bool path = !v.name.starts_with('/') && !v.name.ends_with('/') && v.name.find("//") == std::string::npos &&
                      cat("/", v.name, "/").find("/./") == std::string::npos;
    GF_CHECK(path && is_tensor_name(parameter_name(v.name)), "a tensor named ", cited(v.name));
    GF_CHECK(v.shape.rank() > 0 && v.shape.numel() > 0, v.name, " is ", v.shape, " and has no elements to save");
    GF_CHECK(0 <= v.begin && v.begin <= v.end && v.end <= v.shape.numel(), v.name, ": ", v.begin, " to ", v.end, " of ",
             v.shape);
  }
}

// Training's threads wait for each other, so that a core taken from one stops all: this thread writes in the time that
// they leave, which may be none. Where the system does not allow that, it does without.
void yield_cores() {
  const sched_param none{};
  (void)::sched_setscheduler(::gettid(), SCHED_IDLE, &none);
}

// Other than the CPU, where any of them is.
Device device_of(std::span<const ShardView> views) {
  const auto elsewhere = std::ranges::find_if(views, [](const ShardView& v) { return v.device != kCpu; });
  return elsewhere == views.end() ? kCpu : elsewhere->device;
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path folder, Communicator& world, int keep, HangWatch* watch)
    : folder_(std::move(folder)), world_(world), keep_(keep), watch_(watch) {}

CheckpointWriter::~CheckpointWriter() {
  leave_ = true;
}

void CheckpointWriter::write(const Attributes& attributes, std::span<const ShardView> views) {
  begin(attributes, views, Mode::at_once);
  finish();
}

void CheckpointWriter::write(const Attributes& attributes, const TensorSource& source) {
  GF_CHECK(world_.size() == 1, "a source is saved by one rank, not by ", world_.size());
  std::vector<ShardView> views;
  for (const TensorSource::Entry& e : source.entries())
    views.push_back({e.name, e.dtype, e.shape, 0, e.shape.numel(), nullptr});
  begin_with(attributes, std::move(views), Mode::at_once, {}, &source);
  finish();
}

void CheckpointWriter::begin(const Attributes& attributes, std::span<const ShardView> views, Mode mode,
                             std::function<void()> before_done) {
  begin_with(attributes, {views.begin(), views.end()}, mode, std::move(before_done), nullptr);
}

void CheckpointWriter::begin_with(const Attributes& attributes, std::vector<ShardView> views, Mode mode,
                                  Job before_done, const TensorSource* source) {
  finish();
  const Stopwatch watch;
  attributes_ = attributes, mode_ = mode, before_done_ = std::move(before_done);
  own_bytes_ = 0;
  for (const ShardView& v : views) own_bytes_ += v.bytes();
  const Tensor all_bytes = Tensor::of<double>({1}, {static_cast<double>(own_bytes_)});
  world_.all_reduce(all_bytes, Reduce::sum);
  all_bytes_ = static_cast<int64_t>(all_bytes.data<double>()[0]);
  const bool copies = mode_ == Mode::background || device_of(views) != kCpu;
  together([&] {
    check_names(views);
    if (copies) make_room(views);
    if (world_.rank() != 0) return;
    if (!cleaned_) {
      create_folder_durably(folder_);
      remove_remnants(folder_);
    }
    note(make_way(partial_folder()));
    create_folder(partial_folder());
  });
  cleaned_ = true;
  phase_ = Phase::writing;
  if (copies) copy(views);
  seconds_so_far_ = watch.seconds();
  auto part = std::make_shared<PartWriter>(partial_folder() / part_file_name(world_.rank(), world_.size()),
                                           std::move(views), watch_, source);
  start(
      [part, copied = copied_, begun = false]() mutable {
        if (!begun) copied.wait();
        begun = true;
        return part->proceed();
      },
      Pace::idle);
}

// For a copy, which goes on from save to save.
void CheckpointWriter::make_room(std::span<const ShardView> views) {
  if (copy_ && copy_.bytes() >= static_cast<size_t>(own_bytes_)) return;
  copy_ = {};
  const Shape words{(own_bytes_ + 3) / 4};
  copy_ = device_of(views) == kCpu ? Tensor::empty(words, DType::i32, kCpu) : pinned_.empty(words, DType::i32);
}

// Leaves the views on a copy, which is there when copied_ has passed. A GPU makes it beside what it computes.
void CheckpointWriter::copy(std::vector<ShardView>& views) {
  const SideStream stream(device_of(views));
  stream.follow();
  std::byte* to = copy_.raw();
  for (ShardView& v : views) {
    constexpr int64_t kBlockBytes = int64_t{1} << 20;
    if (v.device == kCpu)
      parallel_ranges(v.bytes(), kBlockBytes, [&](int64_t begin, int64_t end) {
        std::memcpy(to + begin, v.data + begin, static_cast<size_t>(end - begin));
      });
    else
      stream.copy(v.data, to, static_cast<size_t>(v.bytes()));
    v.data = to, v.device = kCpu;
    to += v.bytes();
  }
  copied_ = stream.mark();
}

void CheckpointWriter::start(std::function<bool()> proceed, Pace pace) {
  proceed_ = std::move(proceed);
  since_ = Stopwatch();
  go_on(pace);
}

void CheckpointWriter::go_on(Pace pace) {
  pace_ = pace;
  leave_ = false;
  const auto task = std::make_shared<std::packaged_task<bool()>>([this] {
    const Stopwatch watch;
    const double waited = waited_for_core();
    bool more = true;
    do {
      more = proceed_();
    } while (more && !leave_);
    seconds_so_far_ += watch.seconds() - (waited_for_core() - waited);
    return more;
  });
  work_ = task->get_future();
  if (mode_ == Mode::background) {
    try {
      thread_ = std::jthread([task, pace] {
        if (pace == Pace::idle) yield_cores();
        (*task)();
      });
      return;
    } catch (const std::system_error&) {
      // No thread more is to be had. Training waits here, and the other ranks for this one at their next word.
    }
  }
  (*task)();
}

// A thread may not be allowed to take back that it yields to all others: one that does not goes on in its place.
void CheckpointWriter::hurry() {
  if (pace_ == Pace::idle) leave_ = true;
}

// Of the thread, which is at its end -> whether there is more to do.
bool CheckpointWriter::take_result() {
  if (thread_.joinable()) thread_.join();  // it may still hold on to an error
  try {
    if (work_.get()) return true;
  } catch (...) {
    error_ = std::current_exception();
  }
  proceed_ = nullptr;  // closes the part's file, which may be removed next
  return false;
}

CheckpointWriter::Progress CheckpointWriter::progress() {
  constexpr double kPatience = 300;  // seconds: on busy cores a large state would take an hour
  if (work_.valid()) {
    if (since_.seconds() > kPatience) hurry();
    if (work_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return {.busy = 1};
    if (take_result()) {
      go_on(Pace::full);
      return {.busy = 1};
    }
  }
  return {.failed = error_ ? 1 : 0};
}

void CheckpointWriter::proceed(const Progress& of_all) {
  if (phase_ == Phase::idle) return;
  if (of_all.failed > 0) end_with_error();
  if (of_all.busy > 0) return;
  if (phase_ == Phase::writing) {
    phase_ = Phase::publishing;
    if (world_.rank() == 0)
      start(
          [this] {
            publish();
            return false;
          },
          Pace::full);
    return;
  }
  phase_ = Phase::idle;
  saved_step_ = attributes_.step;
  seconds_ = seconds_so_far_;
}

// A rank that is done waits for the others' words, not for their work, so that the hang watch sees each step of it.
void CheckpointWriter::finish() {
  constexpr auto kPatience = std::chrono::seconds(1);
  while (phase_ != Phase::idle) {
    hurry();
    if (work_.valid()) work_.wait_for(kPatience);
    const Progress own = progress();
    const Tensor all = Tensor::of<int32_t>({2}, {own.busy, own.failed});
    world_.all_reduce(all, Reduce::sum);
    proceed({all.data<int32_t>()[0], all.data<int32_t>()[1]});
  }
}

// Every rank comes here, and each when its own thread is at rest.
void CheckpointWriter::end_with_error() {
  leave_ = true;
  if (work_.valid()) {
    work_.wait();
    take_result();
  }
  proceed_ = nullptr;
  phase_ = Phase::idle;
  const std::exception_ptr error = std::exchange(error_, nullptr);
  together([&] {
    if (error) std::rethrow_exception(error);
  });
}

// Runs one phase on all ranks. Every rank reaches the end of it; where one fails, all throw.
void CheckpointWriter::together(const Job& body) {
  const auto told = [&] {
    try {
      body();
    } catch (const std::exception& e) {
      const auto* const error = dynamic_cast<const Error*>(&e);
      const auto free = free_bytes(folder_);
      fail(cat("the checkpoint of step ", attributes_.step, " was not written: ", e.what(), " (it has ", all_bytes_,
               " bytes", free ? cat(", and the disk had ", *free, " free)") : ")"),
           cat(error && !error->hint().empty() ? error->hint() + "; " : "", "the checkpoints before it are whole"));
    }
  };
  try {
    all_or_none(world_, told);
  } catch (const Error&) {
    if (world_.rank() == 0) {
      try {
        remove_remnants(folder_);
      } catch (const std::exception&) {
        // The next save tries again; what went wrong first is what must be told.
      }
    }
    cleaned_ = false;
    throw;
  }
}

void CheckpointWriter::note(std::string text) {
  if (!text.empty() && noted_.insert(text).second) notes_.push_back(std::move(text));
}

std::vector<std::string> CheckpointWriter::take_notes() {
  return phase_ == Phase::idle ? std::exchange(notes_, {}) : std::vector<std::string>();
}

void CheckpointWriter::publish() {
  const HangWatch::Doing doing(watch_, cat("joining the parts of ", partial_folder().string()));
  const auto sign_of_life = [&] {
    if (watch_) watch_->touch();
  };
  if (before_done_) before_done_();
  const fs::path partial = partial_folder(), final = folder_ / step_folder_name(attributes_.step);
  std::vector<PartFile> parts;
  for (int rank = 0; rank < world_.size(); ++rank) {
    const fs::path path = partial / part_file_name(rank, world_.size());
    const HangWatch::Doing part(watch_, cat("reading ", path.string()));
    parts.push_back(read_part(path));
  }
  write_index(partial / kIndexFile, attributes_, parts);
  sign_of_life();
  read_index(partial / kIndexFile);  // as every load will
  sync_folder(partial);
  sign_of_life();
  // Where a run is repeated from an older state, its step may have been saved before.
  note(make_way(final));
  sign_of_life();
  rename_durably(partial, final);
  File done = File::create(final / kDoneFile);
  done.sync();
  done.close();
  sync_folder(final);
  sign_of_life();
  prune();
}

// A checkpoint that cannot be removed is no reason to end a run: it is tried again after the next one.
void CheckpointWriter::prune() noexcept {
  if (keep_ <= 0) return;
  try {
    std::vector<StepFolder> older = complete_checkpoints(folder_);
    std::erase_if(older, [&](const StepFolder& f) { return f.step >= attributes_.step; });
    for (size_t i = 0; i + static_cast<size_t>(keep_) <= older.size(); ++i) {
      const HangWatch::Doing doing(watch_, cat("removing ", older[i].path.string()));
      if (const std::string reason = remove_step_folder(older[i].path); !reason.empty())
        note(cat(older[i].path.string(), " ", reason,
                 ": it is not removed, though it is older than what is to be kept"));
    }
  } catch (const std::exception&) {}
}

fs::path CheckpointWriter::partial_folder() const {
  return folder_ / (step_folder_name(attributes_.step) + ".partial");
}

}  // namespace gf
