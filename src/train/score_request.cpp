// SPDX-License-Identifier: Apache-2.0
#include "train/score_request.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/text/json_object.h"

namespace gf {
namespace {

using Kind = JsonValue::Kind;

constexpr const char* kForm =
    "{\"context\": TEXT, \"continuation\": TEXT}, or _tokens behind a name and a list of numbers";

// A context or a continuation, as far as the line says it. Of several under one key the last counts.
struct Part {
  std::string name, name_of_tokens = name + "_tokens";
  std::optional<std::string> text{};
  std::optional<std::vector<int32_t>> tokens{};
};

class Request final : public JsonObjectReader {
 public:
  explicit Request(int64_t vocab_size) : vocab_size_(vocab_size) {}

  void key(const std::string& name) override {
    part_ = nullptr;
    for (Part* part : {&context_, &continuation_})
      if (name == part->name || name == part->name_of_tokens) part_ = part, as_tokens_ = name != part->name;
  }
  void value(JsonValue v) override {
    if (!part_) return;
    if (!as_tokens_ && v.kind != Kind::text) refuse(cat(part_->name, " is no text but ", shown(v)), kForm);
    if (as_tokens_ && v.kind != Kind::list) refuse(cat(part_->name_of_tokens, " is no list but ", shown(v)), kForm);
    if (as_tokens_)
      part_->tokens.emplace();
    else
      part_->text = std::move(v.text);
  }
  void item(JsonValue v) override {
    if (!part_) return;
    if (v.kind != Kind::integer)
      refuse(cat(part_->name_of_tokens, " has ", shown(v), ", which is not the number of a token"), kForm);
    if (v.integer < 0 || v.integer >= vocab_size_)
      refuse(cat("token ", v.integer, " is not one of the model's ", vocab_size_),
             cat("numbers from 0 to ", vocab_size_ - 1));
    part_->tokens->push_back(static_cast<int32_t>(v.integer));
  }

  ScoreRequest take(const Vocabulary& vocabulary) {
    for (const Part* part : {&context_, &continuation_})
      if (part->text.has_value() == part->tokens.has_value())
        refuse(cat(part->text ? "both " : "neither ", part->name, part->text ? " and " : " nor ", part->name_of_tokens,
                   part->text ? " are there" : " is there"),
               kForm);
    const auto tokens = [&](Part& part) {
      if (part.tokens) return std::move(*part.tokens);
      std::vector<int32_t> encoded;
      vocabulary.encode(*part.text, encoded);
      return encoded;
    };
    ScoreRequest request{tokens(context_), tokens(continuation_)};
    if (request.continuation.empty()) refuse("the continuation has no tokens", "at least one to be scored");
    return request;
  }

 private:
  const int64_t vocab_size_;
  Part context_{.name = "context"}, continuation_{.name = "continuation"};
  Part* part_ = nullptr;  // under whose key the next value stands; null: under another
  bool as_tokens_ = false;
};

}  // namespace

ScoreRequest parse_score_request(std::string_view line, const Vocabulary& vocabulary, int64_t vocab_size) {
  Request request(vocab_size);
  try {
    read_json_object(line, request);
  } catch (const Error& e) {
    refuse(e.what(), e.hint().empty() ? kForm : e.hint(), e.where());
  }
  return request.take(vocabulary);
}

}  // namespace gf
