// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator_mpi.h"

#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <thread>

#include "base/text.h"

namespace gf {
namespace {

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  fail(cat(call, ": ", std::string(text.data(), length)), "the launcher's own messages may say more");
}

MPI_Datatype type_of(const Tensor& t) {
  switch (t.dtype()) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::i32:
      return MPI_INT32_T;
    case DType::bf16:  // only moved: sums are ours
      return MPI_UINT16_T;
    default:
      fail(cat("a message of ", t.dtype()));
  }
}

int count_of(int64_t n) {
  GF_CHECK(n <= INT_MAX, "a message of ", n, " numbers; MPI counts to ", INT_MAX);
  return static_cast<int>(n);
}

class MpiWork final : public Work {
 public:
  MpiWork(std::vector<Tensor> tensors, HangWatch* watch, std::string what)
      : tensors_(std::move(tensors)), watch_(watch), what_(std::move(what)) {}
  // What all ranks take part in cannot be cancelled, and MPI reads and writes the tensors until its end. Only an error
  // of this rank alone, which ends the job, leaves such work, and its memory, behind.
  ~MpiWork() override {
    if (request_ == MPI_REQUEST_NULL) return;
    GF_CHECK(std::uncaught_exceptions() > 0, what_, " was given up");
    new std::vector<Tensor>(std::move(tensors_));  // NOLINT(bugprone-unused-raii): not to be freed
  }
  MPI_Request* request() { return &request_; }

  bool poll() override {
    int done = 0;
    check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done) tensors_.clear();
    return done != 0;
  }

  // Ranks may be more than cores: one that waits soon makes room for those that work.
  void wait() override {
    constexpr int kSpins = 200;
    for (int i = 0; i < kSpins; ++i)
      if (poll()) return;
    const HangWatch::Doing doing(watch_, what_);
    while (!poll()) sched_yield();
  }

 private:
  MPI_Request request_ = MPI_REQUEST_NULL;
  std::vector<Tensor> tensors_;  // stay until the end
  HangWatch* watch_;
  std::string what_;
};

using Nodes = std::shared_ptr<const std::vector<std::string>>;  // of each rank of the world; null: not known yet

std::vector<int> numbers_in_world(MPI_Comm comm, int size) {
  std::vector<int> own(static_cast<size_t>(size)), world(own.size());
  std::iota(own.begin(), own.end(), 0);
  MPI_Group group = MPI_GROUP_NULL, all = MPI_GROUP_NULL;
  check(MPI_Comm_group(comm, &group), "MPI_Comm_group");
  check(MPI_Comm_group(MPI_COMM_WORLD, &all), "MPI_Comm_group");
  check(MPI_Group_translate_ranks(group, size, own.data(), all, world.data()), "MPI_Group_translate_ranks");
  MPI_Group_free(&group);
  MPI_Group_free(&all);
  return world;
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm comm, HangWatch* watch, Nodes nodes) : comm_(comm), watch_(watch), nodes_(std::move(nodes)) {
    check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
    members_ = numbers_in_world(comm_, size_);
    group_ = names();
  }
  ~MpiCommunicator() override {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized) MPI_Comm_free(&comm_);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Work> all_gather(Tensor shard, Tensor whole) override {
    GF_CHECK(whole.numel() == shard.numel() * size_ && whole.dtype() == shard.dtype(), "a shard of ", shard.shape(),
             " of ", whole.shape());
    const bool in_place = shard.raw() == whole.raw() + static_cast<size_t>(rank_) * shard.bytes();
    auto work = begin_among({shard, whole}, "an all-gather");
    const int n = count_of(shard.numel());
    check(MPI_Iallgather(in_place ? MPI_IN_PLACE : shard.raw(), n, type_of(shard), whole.raw(), n, type_of(whole),
                         comm_, work->request()),
          "MPI_Iallgather");
    return work;
  }

  std::unique_ptr<Work> all_to_all(Tensor from, Tensor to) override {
    GF_CHECK(from.numel() == to.numel() && from.numel() % size_ == 0 && from.dtype() == to.dtype(), from.shape(),
             " to ", to.shape());
    auto work = begin_among({from, to}, "an all-to-all");
    const int n = count_of(from.numel() / size_);
    check(MPI_Ialltoall(from.raw(), n, type_of(from), to.raw(), n, type_of(to), comm_, work->request()),
          "MPI_Ialltoall");
    return work;
  }

  std::vector<std::unique_ptr<Work>> exchange(std::span<const Message> messages) override {
    std::vector<std::unique_ptr<Work>> works(messages.size());
    for (const bool sends : {false, true}) {  // receives first: what arrives finds its place
      for (size_t i = 0; i < messages.size(); ++i) {
        const Message& m = messages[i];
        if (m.send != sends) continue;
        GF_CHECK(0 <= m.peer && m.peer < size_ && m.peer != rank_, "a message from rank ", rank_, " to rank ", m.peer,
                 " of ", size_);
        works[i] = start(m);
      }
    }
    return works;
  }

  void barrier() override {
    const auto work = begin_among({}, "a barrier");
    check(MPI_Ibarrier(comm_, work->request()), "MPI_Ibarrier");
    work->wait();
  }

  std::unique_ptr<Communicator> split(int color, int key) override {
    const HangWatch::Doing doing(watch_, cat("parting ", group_));
    MPI_Comm part = MPI_COMM_NULL;
    check(MPI_Comm_split(comm_, color, key, &part), "MPI_Comm_split");
    return std::make_unique<MpiCommunicator>(part, watch_, nodes_);
  }

 private:
  std::unique_ptr<Work> start(const Message& m) {
    constexpr int kTag = 0;
    auto work = begin({m.tensor}, cat("a message ", m.send ? "to " : "from ", name(m.peer)));
    const int n = count_of(m.tensor.numel());
    if (m.send)
      check(MPI_Isend(m.tensor.raw(), n, type_of(m.tensor), m.peer, kTag, comm_, work->request()), "MPI_Isend");
    else
      check(MPI_Irecv(m.tensor.raw(), n, type_of(m.tensor), m.peer, kTag, comm_, work->request()), "MPI_Irecv");
    return work;
  }
  std::unique_ptr<MpiWork> begin(std::vector<Tensor> tensors, const std::string& what) const {
    return std::make_unique<MpiWork>(std::move(tensors), watch_, cat("waiting for ", what));
  }
  std::unique_ptr<MpiWork> begin_among(std::vector<Tensor> tensors, const char* what) const {
    return begin(std::move(tensors), cat(what, " among ", group_));
  }
  // For a person, who knows ranks by the launcher's numbers.
  std::string name(int member) const {
    const int rank = members_[static_cast<size_t>(member)];
    return cat("rank ", rank, nodes_ ? " on " + (*nodes_)[static_cast<size_t>(rank)] : "");
  }
  std::string names() const {
    constexpr int kReadable = 4;
    if (nodes_ && size_ == std::ssize(*nodes_)) return cat("all ", size_, " ranks");
    std::vector<std::string> some;
    for (int i = 0; i < std::min(size_, kReadable); ++i) some.push_back(name(i));
    return joined(some) + (size_ > kReadable ? cat(" and ", size_ - kReadable, " more") : "");
  }
  MPI_Comm comm_;
  HangWatch* watch_;
  Nodes nodes_;
  int rank_ = 0, size_ = 0;
  std::vector<int> members_;  // their numbers in the world
  std::string group_;         // all of them, for a person
};

const char* variable(const char* name) {
  const char* const value = std::getenv(name);
  return value && *value ? value : nullptr;
}

int number(const char* name) {
  const char* const value = variable(name);
  return value ? std::atoi(value) : 0;
}

// Slurm's own name tells apart nodes that share a machine, as in launch/slurm_cluster.sh.
std::string name_of_node() {
  if (const char* const slurm = variable("SLURMD_NODENAME")) return slurm;
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return host.data();
}

}  // namespace

bool Launch::by_launcher() {
  // Open MPI's and MPICH's own launchers, PMIx, and PMI.
  constexpr const char* kNames[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "MPI_LOCALNRANKS"};
  return std::ranges::any_of(kNames, variable);
}

void Launch::check_alone() {
  const int tasks = number("SLURM_NTASKS");
  if (tasks > 1 && variable("SLURM_STEP_ID") && number("SLURM_STEP_NUM_TASKS") > 1)
    refuse(
        cat("srun started ", number("SLURM_STEP_NUM_TASKS"), " tasks without PMIx, so that each believes to be alone"),
        "srun --mpi=pmix gf-dist-train ...; `srun --mpi=list` shows what this Slurm has");
  if (tasks > 1 && !variable("SLURM_STEP_NUM_TASKS"))
    refuse(cat("SLURM_NTASKS is ", tasks, ", and this is one process that no launcher started"),
           "srun --mpi=pmix gf-dist-train ..., or mpirun -n " + cat(tasks) + " gf-dist-train ...");
}

// mpirun's own word counts most: it may itself have been started by srun, whose words its ranks inherit.
void Launch::check_size(int found) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const int told = number(name);
    if (told == 0) continue;
    if (found > 1 || told == 1) return;
    refuse(cat(name, " is ", told, ", and MPI finds one process: each believes to be alone"),
           "srun --mpi=pmix gf-dist-train ...; or the mpirun of the MPI that this program was built with");
  }
}

World::World() {
  if (Launch::by_launcher()) begin();
  origin_.emplace(rank_, size_, name_of_node());
}

void World::begin() {
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  GF_CHECK(provided >= MPI_THREAD_FUNNELED, "this MPI cannot be used by a program with threads");
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  try {
    Launch::check_size(size_);
  } catch (const Error&) {
    MPI_Finalize();
    throw;
  }
  mpi_ = true;
}

void World::check_complete() const {
  if (!mpi_) Launch::check_alone();
}

World::~World() {
  end();
}

void World::end() {
  if (mpi_) MPI_Finalize();
  mpi_ = false;
}

std::unique_ptr<Communicator> World::communicator(HangWatch* watch) const {
  if (size_ == 1) return make_self_communicator();
  const HangWatch::Doing doing(watch, cat("the first words among ", size_, " ranks"));
  const auto duplicate = [] {
    MPI_Comm copy = MPI_COMM_NULL;
    check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup");
    return copy;
  };
  auto nodes = MpiCommunicator(duplicate(), watch, nullptr).gather_text(origin_->node());
  return std::make_unique<MpiCommunicator>(duplicate(), watch,
                                           std::make_shared<const std::vector<std::string>>(std::move(nodes)));
}

// MPI_Abort is for the thread that uses MPI; another one may only leave, which the launcher answers by ending the
// other ranks. It asks MPI for nothing, which may be at its end by then.
void World::end_all(int status) const {
  if (std::this_thread::get_id() == thread_ && mpi_) MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

}  // namespace gf
