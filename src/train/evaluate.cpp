// SPDX-License-Identifier: Apache-2.0
#include "train/evaluate.h"

#include <algorithm>

namespace gf {

Evaluation evaluate(Pipeline& pipeline, ParameterHooks& hooks, const Mesh& mesh, const WindowReader& reader,
                    int64_t windows, int64_t batch_size, const std::function<void(int64_t)>& progress) {
  const int64_t rank = mesh.data->rank(), ranks = mesh.data->size(), batches = (windows + batch_size - 1) / batch_size;
  const auto batch = [&](int64_t i) {
    const int64_t first = (i * ranks + rank) * batch_size, count = std::min(batch_size, windows - first);
    if (progress) progress(count * reader.ctx_len());
    return reader.batch(first, count, pipeline.reads_tokens());
  };
  const Stage::Sums own = pipeline.evaluate((batches - rank + ranks - 1) / ranks, batch, hooks);
  const Tensor sums =
      Tensor::of<double>({3}, {own.loss, static_cast<double>(own.correct), static_cast<double>(own.tokens)});
  mesh.world->all_reduce(sums, Reduce::sum);
  const double* const sum = sums.data<double>();
  return {sum[0] / sum[2], sum[1] / sum[2], static_cast<int64_t>(sum[2])};
}

Evaluation evaluate(LayerStack& layers, const WindowReader& reader, int64_t windows, int64_t batch_size,
                    const std::function<void(int64_t)>& progress) {
  const Mesh mesh = make_mesh(make_self_communicator(), 1, 1);
  Stage stage(layers, {});
  Pipeline pipeline(stage, *mesh.pipe, find_schedule("one_f_one_b"));
  ParameterHooks nobody;
  return evaluate(pipeline, nobody, mesh, reader, windows, batch_size, progress);
}

}  // namespace gf
