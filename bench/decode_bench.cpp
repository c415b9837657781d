// SPDX-License-Identifier: Apache-2.0
// How fast one sequence is decoded, as a share of what reading the weights once a token at this machine's memory
// bandwidth allows; and what a prompt takes a token. Options as for gf-dist-train, and:
//   --tokens N         decode so many (32) with weights of either kind, in each of five rounds
//   --prompt A,B,...   read texts of these lengths instead, each from the beginning, in memory that was used before
//   --positions A,B,...  decode so many tokens after texts of these lengths instead, and print what one takes there
//   --growth           read 10,000 and 20,000 tokens, and print by how much memory grew for each position between, and
//                      the ratio of a Llama of that size in bf16 to it
//   --cache compressed|expanded   what GOLD layers keep: expanded, for --prompt compressed, for --positions and
//                      --growth both
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <sstream>

#include "base/clock.h"
#include "base/median.h"
#include "base/parallel_for.h"
#include "base/process_memory.h"
#include "base/random.h"
#include "base/waiting_threads.h"
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

void allocate_roughly(LayerStack& layers) {
  layers.parameters().allocate(kCpu, DType::f32, ParameterStore::Gradients::none);
  initialise_roughly(layers.parameters());
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

std::string name_of_cache(bool expanded) {
  return expanded ? "expanded" : "compressed";
}

// One after another, each of these.
double seconds_a_token(StatefulDecoder& decoder, std::span<const int32_t> tokens) {
  std::vector<double> seconds;
  for (const int32_t token : tokens) {
    const Stopwatch watch;
    decoder.feed({&token, 1});
    seconds.push_back(watch.seconds());
  }
  return median(seconds);
}

std::vector<int64_t> lengths_of(const std::string& list) {
  std::vector<int64_t> lengths;
  std::istringstream in(list);
  for (std::string length; std::getline(in, length, ',');) lengths.push_back(std::stoll(length));
  return lengths;
}

// Each text read by itself: what is decoded after one is no part of the next.
void decode_after(const LayerStack& layers, const std::vector<int64_t>& lengths, int64_t tokens,
                  const std::vector<bool>& caches) {
  for (const int64_t length : lengths) {
    const auto text = some_tokens(length + tokens, layers.config().vocab_size);
    const auto first = static_cast<size_t>(length);
    fmt::print("after {} positions, ms a token:", length);
    for (const bool expanded : caches) {
      StatefulDecoder decoder(layers, {.past = {.expanded = expanded}});
      decoder.feed(std::span(text).first(first));
      fmt::print(" {} {:.2f}", name_of_cache(expanded), 1e3 * seconds_a_token(decoder, std::span(text).subspan(first)));
    }
    fmt::print("\n");
  }
}

// The memory's pace, and decoding with weights of either kind, in turn: a shared machine's memory is half as fast again
// in one minute than in the next.
void decode(const LayerStack& wide, int64_t tokens, bool expanded) {
  constexpr int kRounds = 5;
  LayerStack narrow(wide.config());
  allocate_roughly(narrow);
  narrow.parameters().narrow();
  const LayerStack* const stacks[] = {&wide, &narrow};
  const auto text = some_tokens(8 + kRounds * tokens, wide.config().vocab_size);
  std::vector<StatefulDecoder> decoders;
  for (const LayerStack* layers : stacks)
    decoders.emplace_back(*layers, StatefulDecoder::Options{.past = {.expanded = expanded}})
        .feed(std::span(text).first(8));
  std::vector<double> bandwidths, seconds[2];
  for (int round = 0; round < kRounds; ++round) {
    bandwidths.push_back(read_bandwidth());
    for (size_t i = 0; i < 2; ++i)
      seconds[i].push_back(seconds_a_token(decoders[i], std::span(text).subspan(8 + round * tokens, tokens)));
  }
  const double bandwidth = median(bandwidths);
  for (size_t i = 0; i < 2; ++i) {
    const double bytes = bytes_a_token(*stacks[i]), speed = 1 / median(seconds[i]);
    fmt::print("weights {}: {:.0f} MB a token, {:.1f} tokens/s; memory {:.1f} GB/s allows {:.1f}: {:.2f}",
               i ? "bf16" : "f32", bytes / 1e6, speed, bandwidth / 1e9, bandwidth / bytes, speed * bytes / bandwidth);
    fmt::print("{}\n", i ? fmt::format("; {:.2f} times the speed of f32", median(seconds[0]) * speed) : "");
  }
}

// The lengths in turn, and the best of some rounds: a shared machine's pace changes within minutes. A length that has
// taken long is not read again.
void read_prompts(const LayerStack& layers, const std::vector<int64_t>& lengths, bool expanded) {
  constexpr int kRounds = 8;
  constexpr double kLong = 20;
  const auto text = some_tokens(*std::max_element(lengths.begin(), lengths.end()), layers.config().vocab_size);
  const StatefulDecoder nothing_read(layers, {.past = {.expanded = expanded}});
  std::vector<double> best(lengths.size(), 1e9), all(lengths.size(), 0);
  for (int round = 0; round < kRounds; ++round)
    for (size_t i = 0; i < lengths.size(); ++i) {
      if (all[i] > kLong) continue;
      // In the memory of the first time, which is touched before anything is measured.
      nothing_read.fork().feed(std::span(text).first(std::min<size_t>(text.size(), 1024)));
      StatefulDecoder decoder = nothing_read.fork();
      const Stopwatch watch;
      decoder.feed(std::span(text).first(static_cast<size_t>(lengths[i])));
      all[i] += watch.seconds();
      best[i] = std::min(best[i], watch.seconds());
    }
  for (size_t i = 0; i < lengths.size(); ++i)
    fmt::print("prompt of {}: {:.3f} s, {:.1f} us a token\n", lengths[i], best[i],
               1e6 * best[i] / static_cast<double>(lengths[i]));
}

// By how many bytes memory grows for each position between so many and twice as many, whatever tensors say of
// themselves, and be it the rest of a page of what is kept: of 256 positions as a rule. Of a new model, which itself
// has kept nothing of any position.
double growth_a_position(const ModelConfig& config, const Past::Options& options, int64_t positions) {
  LayerStack layers(config);
  allocate_roughly(layers);
  StatefulDecoder decoder(layers, {.past = options});
  const auto text = some_tokens(positions, config.vocab_size);
  decoder.feed(text);
  const size_t first = allocated_bytes();
  decoder.feed(text);
  return static_cast<double>(allocated_bytes() - first) / static_cast<double>(text.size());
}

void growth(const ModelConfig& config, const std::vector<bool>& caches) {
  constexpr int64_t kPositions = 10'000;
  const auto llama = static_cast<double>(2 * config.n_layer * config.n_embd) * 2;
  // Products of shapes that were not there yet take memory too. Those of the whole text are there in two pieces of it:
  // a whole one and the last, which is shorter, and of blocks of positions the last ones.
  const int64_t chunk = StatefulDecoder::Options{}.chunk;
  for (const bool expanded : caches) growth_a_position(config, {.expanded = expanded}, chunk + kPositions % chunk);
  for (const DType cache : {DType::f32, DType::bf16})
    for (const bool expanded : caches) {
      const double each = growth_a_position(config, {.expanded = expanded, .cache = cache}, kPositions);
      fmt::print("{} {}: {:.1f} bytes a position; a Llama's {:.0f} are {:.1f} times that\n", name_of_cache(expanded),
                 name_of(cache), each, llama, llama / each);
    }
}

int bench(int argc, char** argv) {
  int64_t tokens = 32;
  std::string prompts, positions, cache;
  bool grows = false;
  namespace po = boost::program_options;
  po::options_description own;
  auto option = own.add_options();
  option("tokens", po::value(&tokens));
  option("prompt", po::value(&prompts));
  option("positions", po::value(&positions));
  option("growth", po::bool_switch(&grows));
  option("cache", po::value(&cache));
  Arguments arguments(argv + 1, argv + argc);
  arguments.insert(arguments.end(), {"--train.data_file", "none"});
  const auto config = parse_command_line(arguments, {own, "decode_bench"}, true);
  if (!config) return 0;
  if (!cache.empty() && cache != "compressed" && cache != "expanded")
    refuse("--cache is " + cache, "compressed or expanded");
  const std::vector<bool> caches = cache.empty() ? std::vector{false, true} : std::vector{cache == "expanded"};
  LayerStack layers(config->model);
  if (!grows) allocate_roughly(layers);  // growth makes models of its own
  fmt::print("{} layers of {}, {} {}, {:.0f} M parameters, {} threads\n", config->model.n_layer, config->model.n_embd,
             config->model.tmix, config->model.tmix2, static_cast<double>(layers.parameters().count()) / 1e6,
             omp_get_max_threads());
  if (grows)
    growth(layers.config(), caches);
  else if (!positions.empty())
    decode_after(layers, lengths_of(positions), tokens, caches);
  else if (!prompts.empty())
    read_prompts(layers, lengths_of(prompts), cache == "expanded");
  else
    decode(layers, tokens, cache != "compressed");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  let_waiting_threads_sleep(argv);
  return run_main("decode_bench", "a smaller model", [&] { return bench(argc, argv); });
}
