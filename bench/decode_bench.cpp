// SPDX-License-Identifier: Apache-2.0
// How fast one sequence is decoded, as a share of what reading the weights once a token at this machine's memory
// bandwidth allows; and what a prompt takes a token. Options as for gf-dist-train, and:
//   --tokens N         decode so many (32)
//   --prompt A,B,...   read texts of these lengths instead, each from the beginning, in memory that was used before
//   --growth           read 10,000 and 20,000 tokens, and print by how much memory grew for each position between,
//                      and the ratio of a Llama of that size in bf16 to it
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <sstream>

#include "base/clock.h"
#include "base/median.h"
#include "base/parallel_for.h"
#include "base/process_memory.h"
#include "base/random.h"
#include "model/initialise.h"
#include "tensor/arithmetic.h"
#include "tools/train_command_line.h"
#include "train/decoder.h"

namespace {

using namespace gf;

// Of reading memory that no cache holds, by all threads.
double read_bandwidth() {
  constexpr int64_t n = int64_t{1} << 27;  // floats: 512 MiB
  const Tensor t = Tensor::zeros({n}, DType::f32, kCpu);
  fill(t, 1);
  const float* const x = t.data<float>();
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const Blocks blocks = Blocks::of_length(n, 1 << 16);
    std::vector<float> sums(static_cast<size_t>(blocks.size()));
    const Stopwatch watch;
    parallel_for(blocks.size(), [&](int64_t b) {
      constexpr int64_t kStreams = 8;  // at a time: one alone waits for the memory
      const int64_t length = (blocks.end(b) - blocks.begin(b)) / kStreams;
      const float* const first = x + blocks.begin(b);
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < length; ++i)
        for (int64_t s = 0; s < kStreams; ++s) sum += first[s * length + i];
      sums[static_cast<size_t>(b)] = sum;
    });
    best = std::max(best, static_cast<double>(n) * sizeof(float) / watch.seconds());
  }
  return best;
}

std::vector<int32_t> some_tokens(int64_t count, int64_t vocab_size) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(
        static_cast<int32_t>(Random(1, "tokens").bits(static_cast<uint64_t>(i)) % static_cast<uint64_t>(vocab_size)));
  return tokens;
}

// What a token reads: all but the embedding, of which it takes a row.
double bytes_a_token(const LayerStack& layers) {
  double bytes = 0;
  for (const auto& p : layers.parameters().all())
    if (p->name() != "emb.weight") bytes += static_cast<double>(p->value().bytes());
  return bytes;
}

double tokens_per_s(const LayerStack& layers, int64_t tokens) {
  StatefulDecoder decoder(layers, {});
  const auto text = some_tokens(tokens + 8, layers.config().vocab_size);
  decoder.feed(std::span(text).first(8));
  std::vector<double> seconds;
  for (size_t t = 8; t < text.size(); ++t) {
    const Stopwatch watch;
    decoder.feed({&text[t], 1});
    seconds.push_back(watch.seconds());
  }
  return 1 / median(seconds);
}

void decode(LayerStack& layers, int64_t tokens) {
  const double bandwidth = read_bandwidth();
  double before = 0;
  for (const bool narrow : {false, true}) {
    if (narrow) layers.parameters().narrow();
    const double bytes = bytes_a_token(layers), speed = tokens_per_s(layers, tokens);
    fmt::print("weights {}: {:.0f} MB a token, {:.1f} tokens/s; memory {:.1f} GB/s allows {:.1f}: {:.2f}",
               narrow ? "bf16" : "f32", bytes / 1e6, speed, bandwidth / 1e9, bandwidth / bytes,
               speed * bytes / bandwidth);
    fmt::print("{}\n", narrow ? fmt::format("; {:.2f} times the speed of f32", speed / before) : "");
    before = speed;
  }
}

void read_prompts(const LayerStack& layers, const std::string& lengths) {
  std::istringstream in(lengths);
  for (std::string length; std::getline(in, length, ',');) {
    const auto text = some_tokens(std::stoll(length), layers.config().vocab_size);
    const StatefulDecoder nothing_read(layers, {.past = {.expanded = false}});
    // Each time anew, in the memory of the first time, which is touched before anything is measured.
    nothing_read.fork().feed(std::span(text).first(std::min<size_t>(text.size(), 1024)));
    double seconds = 1e9;
    const Stopwatch all;
    for (int round = 0; round == 0 || all.seconds() < (round < 3 ? 10 : 1); ++round) {
      StatefulDecoder decoder = nothing_read.fork();
      const Stopwatch watch;
      decoder.feed(text);
      seconds = std::min(seconds, watch.seconds());
    }
    fmt::print("prompt of {}: {:.3f} s, {:.1f} us a token\n", text.size(), seconds,
               1e6 * seconds / static_cast<double>(text.size()));
  }
}

// By how many bytes memory grows for each position from 10,000 to 20,000, whatever tensors say of themselves.
double growth_a_position(const LayerStack& layers, const Past::Options& options) {
  StatefulDecoder decoder(layers, {.past = options});
  const auto text = some_tokens(10'000, layers.config().vocab_size);
  decoder.feed(text);
  const size_t first = allocated_bytes();
  decoder.feed(text);
  return static_cast<double>(allocated_bytes() - first) / 10'000;
}

void growth(const LayerStack& layers) {
  const ModelConfig& config = layers.config();
  const auto llama = static_cast<double>(2 * config.n_layer * config.n_embd) * 2;
  growth_a_position(layers, {.expanded = false});  // products of shapes that were not there yet take memory too
  for (const DType cache : {DType::f32, DType::bf16})
    for (const bool expanded : {false, true}) {
      const double each = growth_a_position(layers, {.expanded = expanded, .cache = cache});
      fmt::print("{} {}: {:.1f} bytes a position; a Llama's {:.0f} are {:.1f} times that\n",
                 expanded ? "expanded" : "compressed", name_of(cache), each, llama, llama / each);
    }
}

int bench(int argc, char** argv) {
  int64_t tokens = 32;
  std::string prompts;
  bool grows = false;
  boost::program_options::options_description own;
  own.add_options()("tokens", boost::program_options::value(&tokens))(
      "prompt", boost::program_options::value(&prompts))("growth", boost::program_options::bool_switch(&grows));
  Arguments arguments(argv + 1, argv + argc);
  arguments.insert(arguments.end(), {"--train.data_file", "none"});
  const auto config = parse_command_line(arguments, {own, "decode_bench"}, true);
  if (!config) return 0;
  LayerStack layers(config->model);
  layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  initialise_roughly(layers.parameters());
  fmt::print("{} layers of {}, {} {}, {:.0f} M parameters, {} threads\n", config->model.n_layer, config->model.n_embd,
             config->model.tmix, config->model.tmix2, static_cast<double>(layers.parameters().count()) / 1e6,
             omp_get_max_threads());
  if (grows)
    growth(layers);
  else if (!prompts.empty())
    read_prompts(layers, prompts);
  else
    decode(layers, tokens);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_main("decode_bench", "a smaller model", [&] { return bench(argc, argv); });
}
