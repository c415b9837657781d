// SPDX-License-Identifier: Apache-2.0
#include "io/text/tokenize.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "io/data/binidx.h"
#include "io/data/binidx_writer.h"
#include "io/files.h"
#include "io/text/jsonl.h"

namespace gf {
namespace {

constexpr size_t kChunk = size_t{4} << 20;    // bytes read at a time
constexpr size_t kPiece = size_t{256} << 10;  // bytes encoded at a time: text and tokens stay in the cache
constexpr size_t kTextProbe = 8192;           // where a zero byte means: no text (git and grep look there too)

// Takes documents in pieces and writes their tokens.
class DocumentSink {
 public:
  DocumentSink(const Vocabulary& vocabulary, const TokenizeOptions& options)
      : vocabulary_(vocabulary), share_(options.validation), pairs_(options.pairs()) {
    train_ = open(options.out);
    if (share_ > 0) validation_ = open(options.validation_out);
  }

  void add(std::string_view text) {
    if (text.empty()) return;
    if (!current_) begin();
    while (!text.empty()) {
      const std::string_view piece = text.substr(0, kPiece);
      text.remove_prefix(piece.size());
      pending_ += piece;
      pending_.erase(0, vocabulary_.encode_part(pending_, false, tokens_));
      flush();
    }
  }

  // What was added so far is a prompt, and what follows its answer.
  void end_prompt() {
    if (current_) flush_all();
    mark_ = 1;
  }

  // Returns whether there was any text.
  bool end() {
    if (current_) {
      flush_all();
      tokens_.push_back(kEndOfDocument);
      flush();
      current_->end_document();
    }
    mark_ = 0;
    return std::exchange(current_, nullptr) != nullptr;
  }

  // Checks that each part has a document, then gives the files their names.
  void finish() {
    if (train_->documents() == 0 && documents_ == 0) refuse("nothing to tokenize: no document has any text");
    const bool empty = train_->documents() == 0 || (validation_ && validation_->documents() == 0);
    if (empty) {
      refuse(cat("of ", documents_, " documents, ", documents_ - train_->documents(),
                 " fall to the validation part and ", train_->documents(), " to the training part; both need one"),
             "more documents, or another --validation");
    }
    std::vector<BinIdxWriter*> writers{train_.get()};
    if (validation_) writers.push_back(validation_.get());
    BinIdxWriter::finish_all(writers);
  }

  TokenizedPart train() const { return part(*train_); }
  TokenizedPart validation() const { return validation_ ? part(*validation_) : TokenizedPart{}; }

 private:
  std::unique_ptr<BinIdxWriter> open(const std::string& prefix) const {
    return std::make_unique<BinIdxWriter>(prefix, vocabulary_.size(), BinIdxWriter::kLongestSequence, Masked{pairs_});
  }
  static TokenizedPart part(const BinIdxWriter& w) { return {w.tokens(), w.documents(), w.marked()}; }

  void begin() {
    const double place = Random(0, "validation").unit(static_cast<uint64_t>(documents_++));
    current_ = place < share_ ? validation_.get() : train_.get();
  }
  void flush_all() {
    vocabulary_.encode_part(pending_, true, tokens_);
    pending_.clear();
    flush();
  }
  void flush() {
    if (pairs_) marks_.assign(tokens_.size(), mark_);
    current_->append(tokens_, marks_);
    tokens_.clear();
  }

  const Vocabulary& vocabulary_;
  double share_;
  bool pairs_;
  std::unique_ptr<BinIdxWriter> train_, validation_;
  BinIdxWriter* current_ = nullptr;  // of the document at hand
  int64_t documents_ = 0;
  std::string pending_;  // text whose tokens depend on what follows
  std::vector<int32_t> tokens_;
  std::vector<uint8_t> marks_;  // of the tokens; none where there is no mask
  uint8_t mark_ = 0;            // of the text at hand
};

class Run {
 public:
  Run(const Vocabulary& vocabulary, const TokenizeOptions& options, const std::function<void(int64_t)>& advance)
      : options_(options),
        keys_(options.pairs() ? std::vector{options.prompt_key, options.answer_key} : std::vector{options.key}),
        wanted_(options.pairs()
                    ? "each line one JSON object with texts under " + joined(keys_)
                    : cat("each line one JSON object with the text under \"", options.key, "\" (--key names another)")),
        sink_(vocabulary, options),
        advance_([this, advance](int64_t bytes) {
          report_.bytes += bytes;
          if (advance) advance(bytes);
        }) {}

  TokenizeReport over(const std::vector<InputFile>& files) {
    for (const InputFile& input : files) {
      File file = File::open_stream(input.path);
      const int64_t before = report_.bytes;
      if (input.path.ends_with(".jsonl")) {
        ++report_.files;
        read_jsonl(
            file, keys_, wanted_, [&](std::span<const std::string> texts) { add_line(texts); }, advance_);
      } else if (!read_text(file, input.named)) {
        continue;
      }
      if (const int64_t got = report_.bytes - before; got < input.bytes)
        fail(cat(input.path, " had ", input.bytes, " bytes when this run began, and ends after ", got),
             "the same command when nothing writes to that file");
    }
    sink_.finish();
    report_.train = sink_.train();
    report_.validation = sink_.validation();
    return report_;
  }

 private:
  void add_line(std::span<const std::string> texts) {
    sink_.add(texts[0]);
    if (options_.pairs()) {
      sink_.end_prompt();
      sink_.add(texts[1]);
    }
    end_document();
  }

  void end_document() {
    if (!sink_.end()) ++report_.empty_documents;
  }

  // Returns whether it is text.
  bool read_text(File& file, bool named) {
    chunk_.resize(kChunk);
    const std::span buffer = std::as_writable_bytes(std::span(chunk_));
    size_t n = file.read(buffer);
    const size_t zero = std::string_view(chunk_.data(), std::min(n, kTextProbe)).find('\0');
    if (zero != std::string_view::npos && !options_.binary) {
      if (named) {
        refuse(cat(file.path().string(), " is no text: byte ", zero, " is 0"),
               "unpack it first if it is packed; --binary takes it as it is");
      }
      ++report_.binary_files;
      return false;
    }
    ++report_.files;
    for (; n > 0; n = n == kChunk ? file.read(buffer) : 0) {
      sink_.add({chunk_.data(), n});
      advance_(static_cast<int64_t>(n));
    }
    end_document();
    return true;
  }

  const TokenizeOptions& options_;
  std::vector<std::string> keys_;
  std::string wanted_;  // of each line
  DocumentSink sink_;
  TokenizeReport report_;
  std::function<void(int64_t)> advance_;
  std::vector<char> chunk_;
};

void check(const TokenizeOptions& options) {
  if (options.out.empty()) refuse("no name for the data set", "--out PREFIX");
  if (!(options.validation >= 0 && options.validation < 1)) {
    refuse(cat("--validation ", options.validation, " is no share of the documents"),
           "a number from 0 up to, not including, 1");
  }
  if ((options.validation > 0) != !options.validation_out.empty()) {
    refuse("--validation and --validation-out go together", "--validation 0.01 --validation-out PREFIX");
  }
  if (options.prompt_key.empty() != options.answer_key.empty())
    refuse("--prompt-key and --answer-key go together", "--prompt-key prompt --answer-key answer");
  if (options.pairs() && options.prompt_key == options.answer_key)
    refuse("--prompt-key and --answer-key are both " + options.prompt_key, "two different names");
  if (options.validation > 0 && same_path(options.out, options.validation_out)) {
    refuse("--out and --validation-out are both " + options.out, "two different names");
  }
}

}  // namespace

namespace {

// An older data set of that name may lie among the inputs, and is left out and replaced. Anything else would be lost.
void check_outputs_are_no_inputs(const TokenizeOptions& options) {
  const std::vector<InputFile> all = find_input_files(options.paths, {});
  for (const std::string& prefix : {options.out, options.validation_out}) {
    if (prefix.empty()) continue;
    for (const char* part : {".bin", ".idx", ".mask.bin"}) {
      const std::filesystem::path output = prefix + part;
      const auto found = std::ranges::find_if(all, [&](const InputFile& file) {
        return std::filesystem::path(file.path).filename() == output.filename() && same_path(file.path, output);
      });
      if (found == all.end()) continue;
      bool is_data_set = true;
      try {
        const BinIdx data(prefix);
      } catch (const Error&) {
        is_data_set = false;
      }
      if (found->named || !is_data_set)
        refuse(found->path + " is one of the inputs, and the output would replace it", "another --out");
    }
  }
}

}  // namespace

std::vector<InputFile> tokenize_inputs(const TokenizeOptions& options) {
  check(options);
  check_outputs_are_no_inputs(options);
  std::vector<std::string> outputs;
  for (const std::string& prefix : {options.out, options.validation_out}) {
    if (prefix.empty()) continue;
    for (const char* part : {".bin", ".idx", ".mask.bin"})
      for (const char* state : {"", ".partial"}) outputs.push_back(cat(prefix, part, state));
  }
  std::vector<InputFile> files = find_input_files(options.paths, outputs);
  if (files.empty()) refuse("nothing to tokenize: no files in the paths given", "files, or folders that hold some");
  if (options.pairs())
    for (const InputFile& file : files)
      if (!file.path.ends_with(".jsonl"))
        refuse(file.path + " is no .jsonl file, and --prompt-key and --answer-key are keys of its lines",
               "files of one JSON object a line, each with both keys");
  return files;
}

TokenizeReport tokenize(const Vocabulary& vocabulary, const TokenizeOptions& options,
                        const std::vector<InputFile>& files, const std::function<void(int64_t)>& advance) {
  check(options);
  return Run(vocabulary, options, advance).over(files);
}

}  // namespace gf
