// SPDX-License-Identifier: Apache-2.0
#include "io_support.hpp"

namespace ag::io_test {
namespace {

using Tokens = std::vector<std::string>;

Tokens read(const std::string& bytes, const std::string& name = "tokens.txt") {
  const TempDir dir;
  return read_tokens(dir.write(name, bytes));
}

TEST(Tokens, AreLines) {
  EXPECT_EQ(read("the\n cat\n\nsat\n"), (Tokens{"the", " cat", "", "sat"}));
  EXPECT_EQ(read("the\ncat"), (Tokens{"the", "cat"}));
  EXPECT_EQ(read(""), Tokens{});
  EXPECT_EQ(read("\n"), Tokens{""});
  EXPECT_EQ(read("[CLS]\n[SEP]\n"), (Tokens{"[CLS]", "[SEP]"}));
  EXPECT_EQ(read("[\n]\nx\n"), (Tokens{"[", "]", "x"}));
  EXPECT_EQ(read(std::string("a\0\xFF\n", 4)), (Tokens{std::string("a\0\xFF", 3)}));
}

TEST(Tokens, LinesFromAnotherSystemEndInCrLf) {
  EXPECT_EQ(read("the\r\ncat\r\n"), (Tokens{"the", "cat"}));
  EXPECT_EQ(read("the\r\ncat\n"), (Tokens{"the\r", "cat"})) << "a single CR belongs to its token";
}

TEST(Tokens, AreAJsonList) {
  EXPECT_EQ(read(R"(["the", " c\u00e1t", "\n", ""])"), (Tokens{"the", " c\xC3\xA1t", "\n", ""}));
  EXPECT_EQ(read(" \n[ \"a\" ] \n"), Tokens{"a"});
  EXPECT_EQ(read("[]"), Tokens{});
  EXPECT_EQ(read("[\"a\"]", "tokens.json"), Tokens{"a"});
  EXPECT_EQ(parse_tokens_json(R"([[255], "\ud83d\ude00", [237, 160, 128, 0], []])", "x"),
            (Tokens{"\xFF", "\xF0\x9F\x98\x80", std::string("\xED\xA0\x80\0", 4), ""}));
}

TEST(Tokens, BrokenListsAreRefused) {
  for (const std::string text :
       {"[\"a\"", "[\"a\",]", "[\"a\" \"b\"]", "[\"a\", 1]", "[\"a\"] x", "[\"\\q\"]", "[\"\n\"]", "[\"\\udcff\"]",
        "[\"\xFF\"]", "[\"a\", [256]]", "[\"a\", [-1]]", "[\"a\", [\"b\"]]", "[\"a\", [[1]]]", "[\"a\", {}]"}) {
    expect_error(Status::kFormat, {"tokens.txt'", "byte"}, [&] { read(text); });
  }
  expect_error(Status::kFormat, {"tokens.json'"}, [] { read("the\ncat\n", "tokens.json"); });
  expect_error(Status::kFormat, {"'flag'"}, [] { parse_tokens_json("{}", "'flag'"); });
  expect_error(Status::kNotFound, {"absent'"}, [] { read_tokens("/absent"); });
}

TEST(Tokens, HaveLimits) {
  const std::string longest(65536, 'x');
  EXPECT_EQ(read(longest + "\n"), Tokens{longest});
  EXPECT_EQ(read("[\"" + longest + "\"]"), Tokens{longest});
  expect_error(Status::kLimit, {"65537", "65536"}, [&] { read("a\n" + longest + "x\n"); });
  std::string bytes = "[[1";
  for (int n = 0; n < 65536; ++n) bytes += ",1";
  expect_error(Status::kLimit, {"token 0", "65537"}, [&] { parse_tokens_json(bytes + "]]", "x"); });
  expect_error(Status::kLimit, {"token 1"}, [&] { read("[\"a\",\"" + longest + "x\"]"); });
  const TempDir dir;
  const std::string path = dir.write("huge.txt", "");
  std::filesystem::resize_file(path, (std::uintmax_t{256} << 20) + 1);  // a hole, not bytes
  expect_error(Status::kLimit, {"huge.txt'", "268435456"}, [&] { read_tokens(path); });
}

}  // namespace
}  // namespace ag::io_test
