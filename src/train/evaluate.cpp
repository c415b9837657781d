// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <algorithm>
#include <exception>

#include "parallel/agreement.h"

namespace gf {
namespace {

constexpr size_t kNumbers = 3;  // of a sum: loss, correct, tokens

Evaluation mean_of(const double* sum) {
  return {sum[0] / sum[2], sum[1] / sum[2], static_cast<int64_t>(sum[2]), {}};
}

// A batch that adds nothing, and runs through the layers as others do.
Batch without_targets(Batch batch) {
  batch.masked = true;
  if (batch.targets_BT) std::fill_n(batch.targets_BT.data<int32_t>(), batch.targets_BT.numel(), kNoTarget);
  return batch;
}

}  // namespace

Evaluation evaluate(Pipeline& pipeline, ParameterHooks& hooks, const Mesh& mesh, const WindowReader& reader,
                    int64_t windows, int64_t batch_size, const std::function<void(int64_t)>& progress, int64_t parts) {
  GF_CHECK(parts <= reader.ctx_len(), parts, " parts of ", reader.ctx_len(), " positions");
  const int64_t rank = mesh.data->rank(), ranks = mesh.data->size();
  batch_size = std::min(batch_size, (windows + ranks - 1) / ranks);  // so that no rank has all of few windows
  const int64_t batches = (windows + batch_size - 1) / batch_size;
  std::exception_ptr error;
  const auto read = [&](int64_t first, int64_t count) {
    try {
      if (!error) return reader.batch(first, count, pipeline.reads_tokens());
    } catch (const std::exception&) {
      if (mesh.world->size() == 1) throw;
      error = std::current_exception();
    }
    // The other ranks wait for what comes of this batch. They hear of the error where all are done.
    Batch nothing = reader.batch(first, count, false);
    if (pipeline.reads_tokens())
      for (Tensor* t : {&nothing.inputs_BT, &nothing.targets_BT})
        *t = Tensor::zeros({count, reader.ctx_len()}, DType::i32, kCpu);
    return nothing;
  };
  const auto batch = [&](int64_t i) {
    // With zero 3 the data ranks bring each other the layers, so that all of them have to take as many batches.
    if (i * ranks + rank >= batches) return without_targets(read(0, 1));
    const int64_t first = (i * ranks + rank) * batch_size, count = std::min(batch_size, windows - first);
    if (progress) progress(count * reader.ctx_len());
    return read(first, count);
  };
  Stage::Sums zero;
  zero.by_position.resize(static_cast<size_t>(parts));
  const Stage::Sums own = pipeline.evaluate((batches + ranks - 1) / ranks, batch, hooks, {}, std::move(zero));
  all_or_none(*mesh.world, [&] {
    if (error) std::rethrow_exception(error);
  });
  std::vector<double> numbers;
  const auto add = [&](const Stage::Sum& s) {
    numbers.insert(numbers.end(), {s.loss, static_cast<double>(s.correct), static_cast<double>(s.tokens)});
  };
  add(own);
  for (const Stage::Sum& s : own.by_position) add(s);
  const Tensor sums = Tensor::of<double>({std::ssize(numbers)}, numbers);
  mesh.world->all_reduce(sums, Reduce::sum);
  const double* const sum = sums.data<double>();
  Evaluation result = mean_of(sum);
  for (size_t part = 1; part <= own.by_position.size(); ++part)
    result.by_position.push_back(mean_of(sum + part * kNumbers));
  return result;
}

Evaluation evaluate(LayerStack& layers, const WindowReader& reader, int64_t windows, int64_t batch_size,
                    const std::function<void(int64_t)>& progress, int64_t parts) {
  const Mesh mesh = make_mesh(make_self_communicator(), 1, 1);
  Stage stage(layers, {});
  Pipeline pipeline(stage, *mesh.pipe, find_schedule("one_f_one_b"));
  ParameterHooks nobody;
  return evaluate(pipeline, nobody, mesh, reader, windows, batch_size, progress, parts);
}

}  // namespace gf
