// SPDX-License-Identifier: Apache-2.0
#include "io/text/jsonl.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/files.h"
#include "support/temp_folder.h"

namespace gf {
namespace {

std::string json_text(std::string_view line, const std::string& key) {
  return json_texts(line, std::vector{key}).at(0);
}

TEST(JsonText, FindsTheTextUnderTheKey) {
  EXPECT_EQ(json_text(R"({"text": "abc"})", "text"), "abc");
  EXPECT_EQ(json_text(R"({"meta": {"text": "inner"}, "a": ["text", {"text": 1}], "text": "outer"})", "text"), "outer");
  EXPECT_EQ(json_text(R"({"n": -1.5e3, "b": true, "z": null, "content": "", "text": 7})", "content"), "");
  EXPECT_EQ(json_text(R"({"text": "a\n\"\u00e4\ud83d\udc26\u0000b"})", "text"),
            std::string("a\n\"\xC3\xA4\xF0\x9F\x90\xA6\0b", 11));
}

TEST(JsonText, FindsSeveralInTheOrderOfTheKeys) {
  const std::vector<std::string> keys{"q", "a"};
  EXPECT_EQ(json_texts(R"({"a": "four", "n": 1, "q": "two and two?"})", keys),
            (std::vector<std::string>{"two and two?", "four"}));
  EXPECT_THROW(json_texts(R"({"q": "two and two?"})", keys), std::runtime_error);
  EXPECT_THROW(json_texts(R"({"q": "two and two?", "a": 4})", keys), std::runtime_error);
}

TEST(JsonText, SaysWhatIsWrong) {
  const auto says = [](std::string_view line) -> std::string {
    try {
      json_text(line, "text");
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "taken";
  };
  EXPECT_EQ(says("{}"), "no \"text\" in this object");
  EXPECT_EQ(says(R"({"Text": "a", "a": {"text": "b"}})"), "no \"text\" in this object");
  EXPECT_EQ(says(R"({"text": 5})"), "text is wanted under \"text\", and there is a number");
  EXPECT_EQ(says(R"({"text": null})"), "text is wanted under \"text\", and there is null");
  EXPECT_EQ(says(R"({"text": ["a"]})"), "text is wanted under \"text\", and there is a list");
  EXPECT_EQ(says(R"({"text": {"text": "a"}})"), "text is wanted under \"text\", and there is an object");
  EXPECT_EQ(says(R"(["text"])"), "a JSON object is wanted, and this is a list");
  EXPECT_EQ(says(R"("text")"), "a JSON object is wanted, and this is text");
  for (const char* line : {R"({"text": "a)", R"({"text": "a"} x)", R"({text: "a"})", "{\"text\": \"\xFF\"}", "plain",
                           R"({"text": "\ud800"})"}) {
    EXPECT_EQ(says(line).rfind("no JSON: column ", 0), 0u) << line << ": " << says(line);
  }
  EXPECT_NE(says(std::string(100'000, '[')).find("a list"), std::string::npos);
  EXPECT_EQ(says("{\"a\":" + std::string(1'000'000, '[')), "it is nested deeper than 128 levels");
}

class JsonlFiles : public ::testing::Test {
 protected:
  std::vector<std::string> read(const std::string& content, size_t longest = 1000) {
    write_file(path_, content);
    File file = File::open_stream(path_);
    std::vector<std::string> texts;
    read_ = 0;
    read_jsonl(
        file, std::vector<std::string>{"text"}, "lines of texts",
        [&](std::span<const std::string> text) { texts.push_back(text[0]); }, [&](int64_t n) { read_ += n; }, longest);
    return texts;
  }
  TempFolder folder_;
  std::string path_ = folder_ / "a.jsonl";
  int64_t read_ = 0;
};

TEST_F(JsonlFiles, OneDocumentALine) {
  const std::string content = "{\"text\":\"a\"}\n\n{\"text\":\"\"}\r\n  \n{\"text\":\"b\"}";
  EXPECT_EQ(read(content), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(read_, static_cast<int64_t>(content.size()));
  EXPECT_EQ(read("{\"text\":\"a\"}\n"), std::vector<std::string>{"a"});
  EXPECT_EQ(read(""), std::vector<std::string>{});
  EXPECT_EQ(read("\n\n"), std::vector<std::string>{});
}

TEST_F(JsonlFiles, LinesLongerThanABuffer) {
  std::string content;
  std::vector<std::string> texts;
  for (const size_t length : {10u, 5'000'000u, 100u, 9'000'000u, 1u}) {
    texts.emplace_back(length, 'x');
    content += "{\"text\":\"" + texts.back() + "\"}\n";
  }
  EXPECT_EQ(read(content, 20'000'000), texts);
}

TEST_F(JsonlFiles, RefusesABadLineByItsNumber) {
  const std::string good = "{\"text\":\"a\"}\n\n";
  expect_refused({path_ + ":3: ", "no JSON", "lines of texts"}, [&] { read(good + "{\"text\":\n"); });
  expect_refused({path_ + ":3: ", "no \"text\""}, [&] { read(good + "{\"content\":\"a\"}"); });
}

// What a line has beside the texts is no matter, but for its depth.
TEST_F(JsonlFiles, RefusesALineThatIsNestedDeep) {
  const auto line = [](size_t deep) {
    return "{\"a\":" + std::string(deep, '[') + std::string(deep, ']') + ",\"text\":\"a\"}\n";
  };
  EXPECT_EQ(read(line(127)), std::vector<std::string>{"a"});
  expect_refused({path_ + ":2: it is nested deeper than 128 levels", "lines of texts"},
                 [&] { read(line(1) + line(128)); });
}

TEST_F(JsonlFiles, AMessageHasLittleOfTheLine) {
  const std::string key(1000, 'k');
  try {
    read("{\"text\":\"" + key + "\x01\"}");
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_LT(std::string(e.what()).size(), path_.size() + 300) << e.what();
  }
}

TEST_F(JsonlFiles, RefusesALineWithoutEnd) {
  expect_refused({path_ + ":2: ", "more than 1000000 bytes"},
                 [&] { read("{\"text\":\"a\"}\n" + std::string(9'000'000, 'x'), 1'000'000); });
}

}  // namespace
}  // namespace gf
