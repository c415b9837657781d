// SPDX-License-Identifier: Apache-2.0
// Text files to binidx data sets, in memory that does not grow with the input: a file of any size is one
// document and gets the very tokens it would get in one piece.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/text/input_files.h"
#include "io/text/vocabulary.h"

namespace gf {

struct TokenizeOptions {
  std::vector<std::string>
      paths{};               // .jsonl: one document a line; other files: one document each; folders: all in them
  std::string out{};         // prefix of the data set
  std::string key = "text";  // under which a .jsonl line has its text
  std::string prompt_key{};  // with answer_key: a .jsonl line has two texts, and the data set a loss mask, which
  std::string answer_key{};  // marks the tokens of the second one and the end of the document
  bool pairs() const { return !prompt_key.empty(); }
  double validation = 0;         // share of the documents to hold out
  std::string validation_out{};  // prefix of the data set that they make
  bool binary = false;           // take files with zero bytes as well
};

struct TokenizedPart {
  int64_t tokens = 0, documents = 0, marked = 0;
};

struct TokenizeReport {
  TokenizedPart train, validation;
  int64_t files = 0;            // read as text
  int64_t binary_files = 0;     // left out: found in a folder, with a zero byte near the beginning
  int64_t empty_documents = 0;  // left out
  int64_t bytes = 0;            // read
};

// The files that `options` name. To be called first, for what it refuses and for the total.
std::vector<InputFile> tokenize_inputs(const TokenizeOptions&);

// Each document's tokens and then 0; of a pair the tokens of each text by itself, as they will be of a prompt that is
// given alone. A document is held out by a hash of its number, so that the same input always
// gives the same parts. `advance` is told of each piece read, in bytes. Refuses options that do not go together, bad
// lines, a named file that is no text, and input without a document for each part asked for. Fails where a file has
// become shorter than it was when it was listed.
TokenizeReport tokenize(const Vocabulary&, const TokenizeOptions&, const std::vector<InputFile>&,
                        const std::function<void(int64_t)>& advance);

}  // namespace gf
