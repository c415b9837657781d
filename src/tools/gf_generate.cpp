// SPDX-License-Identifier: Apache-2.0
// gf generate: text from a model. The text goes to standard output as it is made, everything else to standard error.
#include <fmt/format.h>
#include <stdio_ext.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/human.h"
#include "base/process_memory.h"
#include "base/signals.h"
#include "base/standard_streams.h"
#include "io/partial_file.h"
#include "io/text/jsonl.h"
#include "tools/command_line.h"
#include "tools/input_lines.h"
#include "tools/position_change.h"
#include "train/generate.h"
#include "train/memory.h"
#include "train/parameters.h"
#include "train/past_file.h"

namespace gf {
namespace {

namespace po = boost::program_options;

struct Options {
  std::string checkpoint, vocab, prompt, prompt_file, state_in, state_out;
  std::string cache = "expanded", cache_dtype = "f32", weights = "f32";
  bool interactive = false;
  int64_t seed = 0;
  StatefulDecoder::Options decoder;
  GenerateOptions generate;
  PositionChange positions;
};

void print_text(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail(cat("cannot write the text: ", std::strerror(errno)));
}

const char* name_of(Generation::End end) {
  switch (end) {
    case Generation::End::tokens:
      return "tokens";
    case Generation::End::document:
      return "document";
    case Generation::End::stop:
      return "stop";
    case Generation::End::asked:
      return "a signal";
  }
  return "";
}

std::string per_second(int64_t count, double seconds) {
  return count > 0 && seconds > 0 ? fmt::format(", {} tokens/s", human_count(static_cast<double>(count) / seconds))
                                  : "";
}

void print_report(const Generation& g, int64_t prompt_tokens, const Past& past) {
  // Both on one terminal, or in one log.
  if (isatty(STDOUT_FILENO) == isatty(STDERR_FILENO)) print_note("\n");
  print_note("prompt: {} in {}{}; text: {} in {}{}; ended by {}\n", counted(prompt_tokens, "token"),
             human_duration(g.prompt_s), per_second(prompt_tokens, g.prompt_s), counted(g.tokens, "token"),
             human_duration(g.steps_s), per_second(g.steps, g.steps_s),
             g.end == Generation::End::document ? "the end of the document"
             : g.end == Generation::End::asked  ? name_of(g.end)
                                                : fmt::format("--{}", name_of(g.end)));
  print_note("kept: {} for {} positions, {} whatever their number; peak memory {}\n",
             human_bytes(static_cast<double>(past.growing_bytes())), past.size(),
             human_bytes(static_cast<double>(past.fixed_bytes())),
             human_bytes(static_cast<double>(peak_resident_bytes())));
  if (g.left_out > 0)
    print_note("left out an unfinished character at the end ({})\n", counted(static_cast<int64_t>(g.left_out), "byte"));
  if (g.begun.size() > g.left_out)
    print_note("held back {} at the end, with which a --stop begins; the state has it\n",
               counted(static_cast<int64_t>(g.begun.size() - g.left_out), "byte"));
}

// What would keep less of each position than these options do.
std::string smaller_caches(const ModelConfig& config, const Past::Options& o) {
  std::string hint;
  if (o.expanded && config.has_time_mix("gold")) hint += ", or --cache compressed";
  if (o.cache != DType::bf16) hint += ", or --cache-dtype bf16";
  return hint;
}

// For `prompt` tokens and as many more as are asked for, beside what was read before.
void check_memory_for(size_t prompt, const StatefulDecoder& decoder, const Options& o) {
  const ModelConfig& config = decoder.layers().config();
  const auto text = [](auto bytes) { return human_bytes(static_cast<double>(bytes)); };
  const int64_t piece = std::min(o.decoder.chunk, std::max<int64_t>(1, static_cast<int64_t>(prompt)));
  // Memory of the passes before is there for the next one.
  const size_t held = decoder.pass_bytes(), libraries = held > 0 ? 0 : MemoryForecast::spare;
  const size_t pass = evaluation_bytes(config, 1, piece) + libraries;
  AvailableMemory available = available_memory();
  available.bytes += held;
  if (pass > available.bytes)
    refuse(cat("reading ", piece, " tokens at once takes ", text(pass), ", and ", text(available.bytes), " are free"),
           available.hint(pass - held, cat(piece > 1 ? "a smaller --chunk, or " : "", "a machine with more memory")));
  // A state is written as float32, all at once, with what was read before.
  const size_t written = o.state_out.empty() ? 0 : bytes_a_position(config, {.expanded = o.decoder.past.expanded});
  const size_t each = bytes_a_position(config, o.decoder.past) + written;
  const size_t positions = prompt + static_cast<size_t>(o.generate.tokens);
  const size_t before = written * static_cast<size_t>(decoder.past().size()), taken = std::max(pass, held) + before;
  const size_t free = available.bytes - std::min(available.bytes, taken);
  if (each > 0 && positions > free / each)
    refuse(cat(positions, " positions need ", text(static_cast<double>(each) * static_cast<double>(positions)), ", ",
               text(each), " each, and ", text(free), " are free"),
           available.hint(taken - held + each * positions,
                          cat("at most ", free / each, " positions", smaller_caches(config, o.decoder.past))));
}

// Where what was read is kept at the end, also where a signal is the end.
struct StateOut {
  explicit StateOut(const std::string& name) : file(name) {
    // Whoever reads the text may end before this program does, by the same Ctrl-C.
    std::signal(SIGPIPE, SIG_IGN);
  }
  const StopSignal stop{};  // from here on: no signal leaves a .partial behind
  PartialFile file;
};

// One model, asked in one of three ways.
class Writer {
 public:
  // `state_out`: null: what was read is not kept.
  Writer(const Options& o, const Vocabulary& vocabulary, const TrainedModel& model, StateOut* state_out)
      : o_(o), vocabulary_(vocabulary), model_(model), state_out_(state_out) {}

  Exit once() {
    if (asked_to_stop()) return stopped(false);
    KeptText text = fresh();
    std::vector<int32_t> tokens = next_prompt(text.decoder, o_.prompt);
    check_memory_for(tokens.size(), text.decoder, o_);
    const Generation g = print(text, tokens);
    const bool kept = keep(text, g.unread);
    return g.end == Generation::End::asked ? stopped(kept) : Exit::done;
  }

  Exit many() {
    std::vector<std::string> prompts;
    const std::string key = "prompt", form = "one JSON object a line: {\"prompt\": TEXT}";
    File file = File::open_stream(o_.prompt_file, "a file of " + form);
    read_jsonl(
        file, {&key, 1}, form, [&](std::span<const std::string> texts) { prompts.push_back(texts[0]); },
        [](int64_t) {});
    if (prompts.empty()) refuse(cat(o_.prompt_file, " has no prompt"), form);
    const KeptText first = fresh();
    for (size_t i = 0; i < prompts.size(); ++i) {
      const std::string& prompt = prompts[i];
      KeptText text = o_.state_in.empty() ? fresh() : KeptText{first.decoder.fork(), first.begun};
      const std::vector<int32_t> tokens = next_prompt(text.decoder, prompt);
      check_memory_for(tokens.size(), text.decoder, o_);
      std::string made;
      const Generation g = write(text, tokens, i, [&](std::string_view more) { made += more; });
      const nlohmann::ordered_json answer{
          {"prompt", prompt}, {"text", made}, {"tokens", g.tokens}, {"ended_by", name_of(g.end)}};
      print_text(answer.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
      print_report(g, std::ssize(tokens), text.decoder.past());
    }
    return Exit::done;
  }

  // A line of standard input, as it is, then the model's text, and so on. A signal while it waits for a line is as the
  // end of the lines: nothing is cut off.
  Exit in_turns() {
    if (asked_to_stop()) return stopped(false);
    KeptText text = fresh();
    std::vector<int32_t> unread;  // read with the next line
    if (!o_.prompt.empty()) vocabulary_.encode(o_.prompt, unread), text.begun.clear();
    const bool asks = isatty(STDIN_FILENO) != 0;
    InputLines lines(STDIN_FILENO, InputLines::kLongest, state_out_ ? &state_out_->stop : nullptr);
    bool cut_off = false;
    while (!cut_off) {
      if (asks) print_note("> ");
      std::vector<int32_t> tokens = unread;
      try {
        const std::optional<std::string> line = lines.next();
        cut_off = line && asked_to_stop();
        if (!line || cut_off) break;
        lines.check_length(*line);
        vocabulary_.encode(*line + "\n", tokens);
        check_memory_for(tokens.size(), text.decoder, o_);
      } catch (const Error&) {  // the turns before are not lost
        keep(text, unread);
        throw;
      }
      Generation g = print(text, tokens, "\n");
      unread = std::move(g.unread);
      cut_off = g.end == Generation::End::asked;
    }
    if (asks && asked_to_stop()) print_note("\n");
    const bool kept = keep(text, unread);
    return cut_off ? stopped(kept) : Exit::done;
  }

 private:
  bool asked_to_stop() const { return state_out_ && state_out_->stop.received() != 0; }

  Exit stopped(bool kept) const {
    print_note("gf generate: stopped by {}; {}\n", state_out_->stop.name(),
               kept ? o_.state_out + " has what was read and written: --state-in goes on from it" : "nothing was read");
    return Exit::stopped_early;
  }

  KeptText fresh() const {
    StatefulDecoder::Options options = o_.decoder;
    options.asked_to_stop = [this] { return !keeping_ && asked_to_stop(); };
    if (o_.state_in.empty()) return {StatefulDecoder(*model_.layers, std::move(options)), {}};
    return read_past(o_.state_in, *model_.layers, std::move(options));
  }

  std::vector<int32_t> next_prompt(const StatefulDecoder& decoder, const std::string& text) const {
    if (decoder.past().size() == 0) return prompt_tokens(vocabulary_, text);
    std::vector<int32_t> tokens;
    vocabulary_.encode(text, tokens);
    return tokens;
  }

  // `number`: of the prompts of a file, from 0, so that equal ones get texts of their own.
  Generation write(KeptText& text, std::span<const int32_t> tokens, uint64_t number,
                   const TextStream::Sink& sink) const {
    GenerateOptions options = o_.generate;
    options.number = number;
    options.read_before = text.decoder.counts();
    if (tokens.empty()) options.begun = text.begun;
    options.goes_on = state_out_ && !o_.interactive;  // a line comes after each text of a session
    options.asked_to_stop = [this] { return asked_to_stop(); };
    const Generation g = generate(text.decoder, vocabulary_, tokens, options, sink);
    text.begun = g.begun;
    return g;
  }

  // To standard output, `end` after it, with the report.
  Generation print(KeptText& text, std::span<const int32_t> tokens, std::string_view end = {}) const {
    const auto show = [&](std::string_view more) {
      try {
        print_text(more);
      } catch (const Error&) {
        if (!asked_to_stop()) throw;
        // Its reader has heard the signal too, and is gone: what was read is kept all the same.
        __fpurge(stdout);
        std::clearerr(stdout);
      }
    };
    const Past& past = text.decoder.past();
    const int64_t before = past.size();
    const Generation g = write(text, tokens, 0, show);
    if (!end.empty()) show(end);
    const int64_t read = past.size() - before - g.steps;
    print_report(g, read, past);
    if (read < std::ssize(tokens)) print_note("read {} of the prompt's {} tokens\n", read, tokens.size());
    return g;
  }

  // With what is still to be read. -> whether there was anything.
  bool keep(KeptText& text, std::span<const int32_t> unread) {
    if (!state_out_ || text.decoder.past().size() + std::ssize(unread) == 0) return false;
    keeping_ = true;  // all of it, whatever signals come
    text.decoder.feed(unread);
    write_past(state_out_->file, text.decoder, text.begun);
    return true;
  }

  const Options& o_;
  const Vocabulary& vocabulary_;
  const TrainedModel& model_;
  StateOut* const state_out_;
  bool keeping_ = false;
};

po::options_description options_into(Options& o) {
  po::options_description all("options");
  auto option = all.add_options();
  GenerateOptions& g = o.generate;
  option("checkpoint", po::value(&o.checkpoint)->value_name("PATH")->required(),
         "a run folder (its newest checkpoint), a step folder or a checkpoint.h5");
  option("vocab", po::value(&o.vocab)->value_name("byte|FILE")->required(),
         "byte, or a vocabulary file in the RWKV World format: that of the training");
  option("prompt", po::value(&o.prompt)->value_name("TEXT"), "the text to go on from; empty: a new document");
  option("prompt-file", po::value(&o.prompt_file)->value_name("FILE"),
         "one JSON object a line, {\"prompt\": ...}; the answers are JSON lines too");
  option("interactive", po::bool_switch(&o.interactive),
         "go on from each line of standard input; what was read and written before stays read");
  option("tokens", po::value(&g.tokens)->value_name("N")->required(), "make so many tokens at most");
  option("temperature", po::value(&g.sampling.temperature)->value_name("X")->default_value(1),
         "divides the logits; 0: always the likeliest token");
  option("top-p", po::value(&g.sampling.top_p)->value_name("X")->default_value(1),
         "keep the likeliest tokens that together have this probability");
  option("top-k", po::value(&g.sampling.top_k)->value_name("N")->default_value(0),
         "keep so many of the likeliest tokens; 0: all");
  option("min-p", po::value(&g.sampling.min_p)->value_name("X")->default_value(0),
         "keep the tokens that are at least X times as likely as the likeliest");
  option("repetition-penalty", po::value(&g.penalties.repetition)->value_name("X")->default_value(1),
         "of tokens that were read or made, divide positive logits by X and multiply others; 1: none");
  option("presence-penalty", po::value(&g.penalties.presence)->value_name("X")->default_value(0),
         "take X from the logits of tokens that were read or made");
  option("frequency-penalty", po::value(&g.penalties.frequency)->value_name("X")->default_value(0),
         "and X for each time that they were");
  option("seed", po::value(&o.seed)->value_name("N")->default_value(0),
         "the same seed gives the same text; equal prompts of a file are drawn apart");
  option("stop", po::value(&g.stops)->value_name("TEXT"), "end before this text; may be given again");
  option("chunk", po::value(&o.decoder.chunk)->value_name("N")->default_value(o.decoder.chunk),
         "read so many tokens of a prompt at once");
  option("cache", po::value(&o.cache)->value_name("compressed|expanded")->default_value(o.cache),
         "of GOLD layers keep the compressed keys and tokens alone, or their keys and values as well, which is faster");
  option("cache-dtype", po::value(&o.cache_dtype)->value_name("f32|bf16")->default_value(o.cache_dtype),
         "how keys and values are kept");
  option("weights", po::value(&o.weights)->value_name("f32|bf16")->default_value(o.weights),
         "how matrices are kept: bf16 is faster, and rounds them");
  option("state-out", po::value(&o.state_out)->value_name("FILE"), "at the end keep what was read, to go on from");
  option("state-in", po::value(&o.state_in)->value_name("FILE"), "go on from there; the prompt comes after it");
  o.positions.add_to(all);
  return all;
}

void settle(Options& o, const po::variables_map& values) {
  const int ways = static_cast<int>(!o.prompt_file.empty()) + static_cast<int>(o.interactive);
  if (ways > 1 || (!o.prompt_file.empty() && values.count("prompt")))
    refuse("more than one of --prompt, --prompt-file and --interactive is given", "one of them");
  if (ways == 0 && !values.count("prompt"))
    refuse("none of --prompt, --prompt-file and --interactive is given", "--prompt TEXT");
  if (!o.prompt_file.empty() && !o.state_out.empty())
    refuse("--state-out is given with --prompt-file, whose prompts each end in a state of their own", "--prompt TEXT");
  if (!o.state_out.empty()) output_place(o.state_out);  // refused now, not when the text is there
  if (o.decoder.chunk < 1) refuse(cat("--chunk is ", o.decoder.chunk), "1 or more; 512 is fast");
  if (o.cache != "compressed" && o.cache != "expanded") refuse("--cache is " + o.cache, "compressed or expanded");
  if (o.cache_dtype != "f32" && o.cache_dtype != "bf16") refuse("--cache-dtype is " + o.cache_dtype, "f32 or bf16");
  if (o.weights != "f32" && o.weights != "bf16") refuse("--weights is " + o.weights, "f32 or bf16");
  o.decoder.past.expanded = o.cache == "expanded";
  o.decoder.past.cache = o.cache_dtype == "bf16" ? DType::bf16 : DType::f32;
  o.generate.seed = static_cast<uint64_t>(o.seed);
  o.positions.take(values);
  check(o.generate);
}

}  // namespace

int run_generate(const Arguments& arguments) {
  Options o;
  const CommandLine line{.usage = "gf generate --checkpoint C --vocab byte|FILE --prompt TEXT --tokens N [options]",
                         .options = options_into(o)};
  const auto values = parse(line, arguments);
  if (values.empty()) return 0;
  settle(o, values);
  const auto vocabulary = Vocabulary::open(o.vocab);
  // Before anything is made that could not be kept.
  std::optional<StateOut> state_out;
  if (!o.state_out.empty()) state_out.emplace(o.state_out);
  const TrainedModel model = open_model(o.checkpoint, [&](ModelConfig& config) { o.positions.apply(config); });
  check_vocabulary(*vocabulary, model.config.model.vocab_size);
  if (o.weights == "bf16") model.layers->parameters().narrow();
  Writer writer(o, *vocabulary, model, state_out ? &*state_out : nullptr);
  const Exit status = o.interactive ? writer.in_turns() : !o.prompt_file.empty() ? writer.many() : writer.once();
  return static_cast<int>(status);
}

}  // namespace gf
