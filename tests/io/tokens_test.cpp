// SPDX-License-Identifier: Apache-2.0
#include "io_support.hpp"

namespace ag::io_test {
namespace {

using Tokens = std::vector<std::string>;

// The one list of a file; of several, none.
Tokens only_list(const Labels& labels) { return labels.lists.size() == 1 ? labels.lists[0] : Tokens(); }

Tokens read(const std::string& bytes, const std::string& name = "tokens.txt") {
  const TempDir dir;
  return only_list(read_tokens(dir.write(name, bytes)));
}

using Lists = std::vector<Tokens>;

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
  EXPECT_EQ(read("the\r\ncat"), (Tokens{"the", "cat"})) << "the last line need not end";
  EXPECT_EQ(read("the\r"), Tokens{"the\r"}) << "no line ends";
  EXPECT_EQ(read("the\r\ncat\n"), (Tokens{"the\r", "cat"})) << "a single CR belongs to its token";
}

TEST(Tokens, AreAJsonList) {
  EXPECT_EQ(read(R"(["the", " c\u00e1t", "\n", ""])"), (Tokens{"the", " c\xC3\xA1t", "\n", ""}));
  EXPECT_EQ(read(" \n[ \"a\" ] \n"), Tokens{"a"});
  EXPECT_EQ(read("[]"), Tokens{});
  EXPECT_EQ(read("[\"a\"]", "tokens.json"), Tokens{"a"});
  EXPECT_EQ(only_list(parse_tokens_json(R"([[255], "\ud83d\ude00", [237, 160, 128, 0], []])", "x")),
            (Tokens{"\xFF", "\xF0\x9F\x98\x80", std::string("\xED\xA0\x80\0", 4), ""}));
}

TEST(Tokens, ArePointersToNoFile) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n";
  for (const char* const name : {"tokens.txt", "tokens.json"})
    expect_error(Status::kFormat, {"git lfs pull"}, [&] { read(pointer, name); });
}

TEST(Tokens, AByteOrderMarkIsNoPartOfThem) {
  EXPECT_EQ(read("\xEF\xBB\xBFthe\ncat\n"), (Tokens{"the", "cat"}));
  EXPECT_EQ(read("\xEF\xBB\xBFthe\r\ncat"), (Tokens{"the", "cat"}));
  EXPECT_EQ(read("\xEF\xBB\xBF[\"a\"]"), Tokens{"a"});
  expect_error(Status::kUnsupported, {"UTF-16", "save the file as"}, [] { read(std::string("\xFF\xFEt\0", 4)); });
  expect_error(Status::kUnsupported, {"is zero", "UTF-16", "byte 1"}, [] { read(std::string("t\0\n\0", 4)); });
}

TEST(Tokens, AreAListForEachSequence) {
  const auto lists = [](const std::string& json) { return parse_tokens_json(json, "x").lists; };
  EXPECT_EQ(lists(R"([["a", "b"], ["c"]])"), (Lists{{"a", "b"}, {"c"}}));
  EXPECT_EQ(lists(R"([[[255], "a"], [], ["c"]])"), (Lists{{"\xFF", "a"}, {}, {"c"}}));
  EXPECT_EQ(lists(R"([[], ["c"]])"), (Lists{{}, {"c"}}));
  EXPECT_EQ(lists(R"([[], "c"])"), (Lists{{"", "c"}})) << "an empty list among strings is a token without bytes";
  EXPECT_EQ(lists(R"([[], [7]])"), (Lists{{"", "\a"}}));
  const TempDir dir;
  EXPECT_EQ(read_tokens(dir.write("t.txt", R"([["a"], ["b"]])")).lists, (Lists{{"a"}, {"b"}}));
  EXPECT_EQ(read_tokens(dir.write("T.JSON", "[[], []]")).lists, (Lists{{"", ""}}));
  for (const char* mixed : {R"([["a"], "b"])", R"([["a", 1]])", R"([[1, "a"]])", R"([["a"], [1]])", R"([[1], ["a"]])",
                            R"([[["a"]]])", R"([[[1], 2]])"})
    expect_error(Status::kFormat, {"list"}, [&] { lists(mixed); });
}

TEST(Tokens, OfAByteLevelVocabularyAreSpelledOut) {
  const auto out = [](Tokens tokens) { return only_list(spelled_out(Labels(std::move(tokens)))); };
  EXPECT_EQ(out({"In", "\u0120the", "\u010A", "caf", "\u00C3\u00A9", "<|im end|>"}),
            (Tokens{"In", " the", "\n", "caf", "\u00E9", "<|im end|>"}));
  // Half an emoji stays half of one: bytes.
  EXPECT_EQ(out({"\u0120a", "\u00F0\u0141", "\u013A\u0122"}), (Tokens{" a", "\xF0\x9F", "\x98\x80"}));
  // Not of such a vocabulary: a space is there, nothing stands for one, or what would come out is no text.
  for (const Tokens& other : {Tokens{" the", "\u0120"}, Tokens{"caf", "\u00E9"}, Tokens{"\u0120urnata", "sabi\u0127a"},
                              Tokens{"\u0120the", "\u4E2D"}})
    EXPECT_EQ(out(other), other);
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
