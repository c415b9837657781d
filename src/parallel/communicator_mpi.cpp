// SPDX-License-Identifier: Apache-2.0
#include "parallel/communicator_mpi.h"

#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <exception>
#include <thread>

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

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm comm, HangWatch* watch) : comm_(comm), watch_(watch) {
    check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
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
    auto work = begin({shard, whole}, "an all-gather");
    const int n = count_of(shard.numel());
    check(MPI_Iallgather(in_place ? MPI_IN_PLACE : shard.raw(), n, type_of(shard), whole.raw(), n, type_of(whole),
                         comm_, work->request()),
          "MPI_Iallgather");
    return work;
  }

  std::unique_ptr<Work> all_to_all(Tensor from, Tensor to) override {
    GF_CHECK(from.numel() == to.numel() && from.numel() % size_ == 0 && from.dtype() == to.dtype(), from.shape(),
             " to ", to.shape());
    auto work = begin({from, to}, "an all-to-all");
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
    const auto work = begin({}, "a barrier");
    check(MPI_Ibarrier(comm_, work->request()), "MPI_Ibarrier");
    work->wait();
  }

  std::unique_ptr<Communicator> split(int color, int key) override {
    const HangWatch::Doing doing(watch_, cat("parting ", size_, " ranks"));
    MPI_Comm part = MPI_COMM_NULL;
    check(MPI_Comm_split(comm_, color, key, &part), "MPI_Comm_split");
    return std::make_unique<MpiCommunicator>(part, watch_);
  }

 private:
  std::unique_ptr<Work> start(const Message& m) {
    constexpr int kTag = 0;
    auto work = begin({m.tensor}, cat("a message ", m.send ? "to rank " : "from rank ", m.peer));
    const int n = count_of(m.tensor.numel());
    if (m.send)
      check(MPI_Isend(m.tensor.raw(), n, type_of(m.tensor), m.peer, kTag, comm_, work->request()), "MPI_Isend");
    else
      check(MPI_Irecv(m.tensor.raw(), n, type_of(m.tensor), m.peer, kTag, comm_, work->request()), "MPI_Irecv");
    return work;
  }
  std::unique_ptr<MpiWork> begin(std::vector<Tensor> tensors, const std::string& what) const {
    return std::make_unique<MpiWork>(std::move(tensors), watch_, cat("waiting for ", what, " among ", size_, " ranks"));
  }
  MPI_Comm comm_;
  HangWatch* watch_;
  int rank_ = 0, size_ = 0;
};

const char* variable(const char* name) {
  const char* const value = std::getenv(name);
  return value && *value ? value : nullptr;
}

int number(const char* name) {
  const char* const value = variable(name);
  return value ? std::atoi(value) : 0;
}

}  // namespace

Launch Launch::from_environment() {
  // Open MPI's and MPICH's own launchers, PMIx, and PMI.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "MPI_LOCALNRANKS"})
    if (variable(name)) return {.by_launcher = true};
  const int tasks = number("SLURM_NTASKS");
  if (tasks > 1 && variable("SLURM_STEP_ID") && number("SLURM_STEP_NUM_TASKS") > 1)
    refuse(
        cat("srun started ", number("SLURM_STEP_NUM_TASKS"), " tasks without PMIx, so that each believes to be alone"),
        "srun --mpi=pmix gf-dist-train ...; `srun --mpi=list` shows what this Slurm has");
  if (tasks > 1 && !variable("SLURM_STEP_NUM_TASKS"))
    refuse(cat("SLURM_NTASKS is ", tasks, ", and this is one process that no launcher started"),
           "srun --mpi=pmix gf-dist-train ..., or mpirun -n " + cat(tasks) + " gf-dist-train ...");
  return {};
}

World::World() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  // Slurm's own name tells apart nodes that share a machine, as in launch/slurm_cluster.sh.
  const char* const slurm = variable("SLURMD_NODENAME");
  node_ = slurm ? slurm : host.data();
  if (!Launch::from_environment().by_launcher) return;
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  GF_CHECK(provided >= MPI_THREAD_FUNNELED, "this MPI cannot be used by a program with threads");
  mpi_ = true;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

World::~World() {
  if (mpi_) MPI_Finalize();
}

std::unique_ptr<Communicator> World::communicator(HangWatch* watch) const {
  if (size_ == 1) return make_self_communicator();
  const HangWatch::Doing doing(watch, cat("the first words among ", size_, " ranks"));
  MPI_Comm copy = MPI_COMM_NULL;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup");
  return std::make_unique<MpiCommunicator>(copy, watch);
}

// MPI_Abort is for the thread that uses MPI; another one may only leave, which the launcher answers by ending the
// other ranks.
void World::end_all(int status) const {
  int main_thread = 0;
  if (mpi_) MPI_Is_thread_main(&main_thread);
  if (main_thread) MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

}  // namespace gf
