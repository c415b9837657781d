// SPDX-License-Identifier: Apache-2.0
// Attention by cuDNN's fused kernels, through its frontend's headers: the one file that includes them. Compiled as C++.
#include <cmath>
#include <compare>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include <cudnn_frontend.h>

#include "ops/attention/kernels_cuda.h"

namespace gf::cuda {
namespace {

namespace fe = cudnn_frontend;
using Attributes = fe::graph::Tensor_attributes;
using TensorPointer = std::shared_ptr<Attributes>;

void check_cudnn(cudnnStatus_t status, const char* doing) {
  if (status != CUDNN_STATUS_SUCCESS) fail(cat("cuDNN could not ", doing, ": ", cudnnGetErrorString(status)));
}

struct Key {
  int64_t B, T, H, N;
  bool backward;
  auto operator<=>(const Key&) const = default;
};

enum Name : int64_t { kQ = 1, kK, kV, kY, kLse, kDy, kDq, kDk, kDv };

// What cuDNN is asked for: causal attention over arrays of B x T x H x N, named as above.
class Graph {
 public:
  explicit Graph(const Key& key) : key_(key), graph_(std::make_unique<fe::graph::Graph>()) {
    graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    key.backward ? describe_backward() : describe_forward();
  }

  // Whether cuDNN has kernels for it here.
  bool build(cudnnHandle_t handle) {
    return graph_->build(handle, {fe::HeurMode_t::A}).is_good() && graph_->get_workspace_size(workspace_).is_good();
  }
  size_t workspace() const { return static_cast<size_t>(workspace_); }

  void run(cudnnHandle_t handle, std::unordered_map<int64_t, void*> arrays, void* workspace) const {
    if (auto status = graph_->execute(handle, arrays, workspace); !status.is_good())
      fail(cat("cuDNN could not run attention: ", status.get_message()));
  }

 private:
  template <class Options>
  Options options(const char* name) const {
    return Options()
        .set_name(name)
        .set_attn_scale(1 / std::sqrt(static_cast<float>(key_.N)))
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
  }
  void place(Attributes& of, Name name) const {
    const auto [B, T, H, N, backward] = key_;
    of.set_uid(name);
    if (name == kLse)
      of.set_dim({B, H, T, 1}).set_stride({H * T, T, 1, 1}).set_data_type(fe::DataType_t::FLOAT);
    else
      of.set_dim({B, H, T, N}).set_stride({T * H * N, N, H * N, 1});
  }
  TensorPointer input(Name name) {
    Attributes attributes;
    place(attributes, name);
    return graph_->tensor(attributes);
  }
  void output(const TensorPointer& tensor, Name name) {
    tensor->set_output(true);
    place(*tensor, name);
  }

  void describe_forward() {
    auto wanted = options<fe::graph::SDPA_attributes>("attention").set_generate_stats(true);
    const TensorPointer q = input(kQ), k = input(kK), v = input(kV);
    const auto [y, lse] = graph_->sdpa(q, k, v, wanted);
    output(y, kY), output(lse, kLse);
  }
  void describe_backward() {
    // Else partial sums are added in the order in which they come.
    auto wanted = options<fe::graph::SDPA_backward_attributes>("attention_backward").set_deterministic_algorithm(true);
    const TensorPointer q = input(kQ), k = input(kK), v = input(kV), y = input(kY), dy = input(kDy), lse = input(kLse);
    const auto [dq, dk, dv] = graph_->sdpa_backward(q, k, v, y, dy, lse, wanted);
    output(dq, kDq), output(dk, kDk), output(dv, kDv);
  }

  Key key_;
  std::unique_ptr<fe::graph::Graph> graph_;
  int64_t workspace_ = 0;
};

// Of one thread, as its stream is: the handle, the graphs of the shapes that it has seen, and their memory.
class Graphs {
 public:
  Graphs() { check_cudnn(cudnnCreate(&handle_), "begin"); }
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;
  ~Graphs() {
    for (std::byte* const memory : workspaces_) release(memory, {});
    known_.clear();
    cudnnDestroy(handle_);
  }

  // False where cuDNN has no kernel for it.
  bool run(const Key& key, CudaStream stream, std::unordered_map<int64_t, void*> arrays) {
    const Graph* const graph = find(key);
    if (!graph) return false;
    check_cudnn(cudnnSetStream(handle_, static_cast<cudaStream_t>(stream.handle)), "go on in a stream");
    graph->run(handle_, std::move(arrays), workspace(graph->workspace()));
    return true;
  }

 private:
  const Graph* find(const Key& key) {
    const auto [at, is_new] = known_.try_emplace(key);
    if (!is_new) return at->second.get();
    auto graph = std::make_unique<Graph>(key);
    if (graph->build(handle_)) at->second = std::move(graph);
    return at->second.get();
  }

  // One for all, in the order of their stream. A smaller one is kept: a captured graph may go on using it.
  std::byte* workspace(size_t bytes) {
    if (bytes > largest_) {
      workspaces_.push_back(allocate(bytes, {}));
      largest_ = bytes;
    }
    return workspaces_.empty() ? nullptr : workspaces_.back();
  }

  cudnnHandle_t handle_ = nullptr;
  std::map<Key, std::unique_ptr<Graph>> known_;  // null: refused
  std::vector<std::byte*> workspaces_;
  size_t largest_ = 0;
};

Graphs& graphs() {
  thread_local Graphs own;
  return own;
}

// What cuDNN's kernels may take: as many queries as keys, all positions, no bias, arrays that begin where they want.
template <class Args>
bool fits(const Args& p, std::initializer_list<const void*> arrays) {
  if ((p.N != 64 && p.N != 128) || p.alibi || p.before != 0 || p.Tq != p.Tk || p.B * p.H * p.Tq == 0) return false;
  for (const void* array : arrays)
    if (!array || reinterpret_cast<uintptr_t>(array) % 16 != 0) return false;
  return true;
}

void* array(const void* p) {
  return const_cast<void*>(p);
}

}  // namespace

bool cudnn_attention(const AttentionArgs<BFloat16>& p, CudaStream stream) {
  if (p.go_on || !fits(p, {p.q, p.k, p.v, p.y, p.lse})) return false;
  return graphs().run({p.B, p.Tq, p.H, p.N, false}, stream,
                      {{kQ, array(p.q)}, {kK, array(p.k)}, {kV, array(p.v)}, {kY, p.y}, {kLse, p.lse}});
}

bool cudnn_attention_backward(const AttentionBackwardArgs<BFloat16>& p, CudaStream stream) {
  if (!fits(p, {p.q, p.k, p.v, p.y, p.lse, p.dy, p.dq, p.dk, p.dv})) return false;
  return graphs().run({p.B, p.Tq, p.H, p.N, true}, stream,
                      {{kQ, array(p.q)},
                       {kK, array(p.k)},
                       {kV, array(p.v)},
                       {kY, array(p.y)},
                       {kLse, array(p.lse)},
                       {kDy, array(p.dy)},
                       {kDq, p.dq},
                       {kDk, p.dk},
                       {kDv, p.dv}});
}

}  // namespace gf::cuda
