// SPDX-License-Identifier: Apache-2.0
// A word is shown where it belongs, or not at all.
#include <gmock/gmock.h>

#include "command.hpp"

namespace attngraph::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class Words : public CommandTest {
 protected:
  void SetUp() override {
    CommandTest::SetUp();
    write_npy("x.npy", {1, 2, 3}, std::vector<float>{0.5F, 0.F, 0.5F, 0.F, 1.F, 0.F});  // two queries, three keys
    write_npy("two.npy", {2, 1, 2, 2}, std::vector<float>{1, 0, 0, 1, 1, 0, 0, 1});     // two sequences
  }
  std::string csv(Arguments arguments) const {
    arguments.insert(arguments.begin(), "filter");
    arguments.insert(arguments.end(), {"--labels", "-o", "-", "--quiet"});
    return output(arguments);
  }
};

TEST_F(Words, QueriesMayHaveTheirOwn) {
  write("keys.json", R"(["E0","E1","E2"])");
  write("queries.txt", "D0\nD1\n");
  const Arguments both = {"x.npy", "--tokens", "keys.json", "--query-tokens", "queries.txt"};
  EXPECT_EQ(csv(both),
            "batch,layer,head,query,key,weight,query_token,key_token\n"
            "0,0,0,0,0,0.5,D0,E0\n0,0,0,0,2,0.5,D0,E2\n0,0,0,1,1,1,D1,E1\n");
  output({"filter", "x.npy", "--tokens", "keys.json", "--query-tokens", "queries.txt", "-o", "x.npz", "--quiet"});
  EXPECT_THAT(output({"top", "x.npz", "-n", "1"}), HasSubstr("\"D1\"  → \"E1\""));
  EXPECT_THAT(output({"top", "x.npz", "-n", "1", "--json"}), HasSubstr("\"query_token\": \"D1\""));
  EXPECT_THAT(output({"stats", "x.npz", "--draw", "0:0"}), HasSubstr("\"D1\" (1) → \"E1\" (1)"))
      << "key 1 is not query 1 itself";
  output({"convert", "x.npz", "x.graphml"});
  EXPECT_THAT(text("x.graphml"), HasSubstr(R"(source="b0_q1" target="b0_k1")"));
  EXPECT_THAT(output({"stats", "x.npz", "--json"}), HasSubstr("\"self_share\": null")) << "nor is it at any distance";
  output({"filter", "x.npy", "--tokens", "keys.json", "--query-tokens", "queries.txt", "-o", "h.npz", "--stats",
          "heads", "--quiet"});
  EXPECT_THAT(output({"heads", "h.npz"}), testing::AllOf(HasSubstr("first"), Not(HasSubstr("before  "))));
  // In a file of tensors, and given later.
  write_safetensors("x.safetensors", {{"a", {1, 2, 3}, {0.5F, 0, 0.5F, 0, 1, 0}}},
                    {{"tokens", R"(["E0","E1","E2"])"}, {"query_tokens", R"(["D0","D1"])"}});
  EXPECT_EQ(csv({"x.safetensors"}), csv(both));
  output({"filter", "x.npy", "-o", "bare.npz", "--quiet"});
  output({"convert", "bare.npz", "later.csv", "--tokens", "keys.json", "--query-tokens", "queries.txt", "--labels"});
  EXPECT_EQ(text("later.csv"), csv(both));
  const std::string page = output({"view", "x.npz", "-o", "-"});
  EXPECT_THAT(page, HasSubstr("\"twoTexts\":true"));
  EXPECT_EQ(output({"view", "bare.npz", "--tokens", "keys.json", "--query-tokens", "queries.txt", "-o", "-"}), page);
  write("one.json", R"(["D0"])");
  expect_error(1, {"view", "bare.npz", "--query-tokens", "one.json", "-o", "e.html"}, {"1 query tokens", "2 queries"});
  expect_error(1, {"filter", "x.npy", "--query-tokens", "keys.json", "-o", "e.csv"}, {"3 query tokens", "2 queries"});
}

TEST_F(Words, OfQueriesChooseQueriesWhereTheseAreAnotherSequence) {
  write("keys.json", R"(["a","b","c"])");
  write("queries.json", R"(["b","d"])");  // query 0 is called as key 1 is
  output({"filter", "x.npy", "--tokens", "keys.json", "--query-tokens", "queries.json", "-o", "x.npz", "--quiet"});
  const auto part = [&](const std::string& word) {
    return output({"part", "x.npz", "-", "--labels", "--query-token", word});
  };
  EXPECT_EQ(part("b"),
            "batch,layer,head,query,key,weight,query_token,key_token\n0,0,0,0,0,0.5,b,a\n0,0,0,0,2,0.5,b,c\n");
  EXPECT_EQ(part("d"), "batch,layer,head,query,key,weight,query_token,key_token\n0,0,0,1,1,1,d,b\n");
  EXPECT_THAT(output({"top", "x.npz", "--query-token", "d"}), HasSubstr("\"d\"  → \"b\""));
  expect_error(1, {"part", "x.npz", "-", "--query-token", "a"}, {"no token of the graph is 'a'"});
  expect_error(1, {"part", "x.npz", "-", "--distance", "0:1"}, {"different sequences", "no distance"});
  expect_error(1, {"group", "x.npz", "-"}, {"different sequences", "cannot be grouped"});
  expect_error(1, {"diff", "x.npz", "x.npz", "--by", "head", "--align", "tokens"}, {"different sequences"});
}

TEST_F(Words, OfEachSequenceOfABatchAreItsOwn) {
  write("words.json", R"([["a","b"],["x","y"]])");
  const Arguments given = {"two.npy", "--leading", "batch", "--tokens", "words.json"};
  EXPECT_THAT(csv(given), testing::AllOf(HasSubstr("0,0,0,1,1,1,b,b\n"), HasSubstr("1,0,0,1,1,1,y,y\n")));
  output({"filter", "two.npy", "--leading", "batch", "--tokens", "words.json", "-o", "two.npz", "--quiet"});
  EXPECT_THAT(output({"top", "two.npz"}), testing::AllOf(HasSubstr("\"b\"  → \"b\""), HasSubstr("\"y\"  → \"y\"")));
  output({"convert", "two.npz", "two.dot"});
  EXPECT_THAT(text("two.dot"), HasSubstr("b1_1 [label=\"y\"];"));
  expect_error(1, {"part", "two.npz", "-", "--key-token", "x"}, {"--key-token", "every sequence has words of its own"});
  write("three.json", R"([["a","b"],["x","y"],["u","v"]])");
  expect_error(1, {"filter", "two.npy", "--leading", "batch", "--tokens", "three.json", "-o", "e.csv"},
               {"words for 3 sequences", "the batch has 2"});
  write("uneven.json", R"([["a","b"],["x"]])");
  expect_error(1, {"filter", "two.npy", "--leading", "batch", "--tokens", "uneven.json", "-o", "e.csv"},
               {"1 tokens", "2 keys"});
  write("one_each.json", R"([["a","b"],["x","y"]])");
  write_npy("four.npy", {3, 1, 2, 2}, std::vector<float>(12, 0.5F));
  expect_error(1, {"filter", "four.npy", "--leading", "batch", "--tokens", "one_each.json", "-o", "e.csv"},
               {"tokens for 2 sequences", "sequence 2"});
}

// The second of two queries stands at the last of three keys.
TEST_F(Words, FilesOfWindowsAreRead) {
  for (const std::string text : {"The\r\nfox\r\nran", "The\r\nfox\r\nran\r\n", "\xEF\xBB\xBFThe\nfox\nran\n",
                                 "\xEF\xBB\xBFThe\r\nfox\r\nran\r\n", "\xEF\xBB\xBF[\"The\", \"fox\", \"ran\"]"}) {
    write("words.txt", text);
    EXPECT_THAT(csv({"x.npy", "--tokens", "words.txt"}), HasSubstr("0,0,0,1,1,1,ran,fox\n")) << text;
  }
}

TEST_F(Words, AnEmptyFileOfThemIsAMistake) {
  for (const char* nothing : {"", "[]", "\xEF\xBB\xBF"}) {
    write("none.txt", nothing);
    expect_error(1, {"filter", "x.npy", "--tokens", "none.txt", "-o", "-"}, {"0 tokens, but 3 keys"});
    expect_error(1, {"filter", "x.npy", "--query-tokens", "none.txt", "-o", "-"}, {"0 query tokens, but 2 queries"});
  }
  write_npy("nothing.npy", {1, 0, 0}, std::vector<float>{});
  output({"filter", "nothing.npy", "--tokens", "none.txt", "-o", "-", "--quiet"});
}

TEST_F(Words, OfAByteLevelVocabularyAreShownAsText) {
  write("words.json", R"(["The","\u0120qu\u00c3\u00a9","\u010a"])");
  EXPECT_THAT(csv({"x.npy", "--tokens", "words.json"}), HasSubstr(",\\n,\" qu\u00e9\"\n"));
}

TEST_F(Words, GraphmlNodesHaveLabelsAndEveryAttributeBelongsToNodesOrToEdges) {
  output({"filter", "two.npy", "--leading", "batch", "-o", "two.graphml", "--quiet"});
  const std::string graphml = text("two.graphml");
  EXPECT_THAT(graphml, Not(HasSubstr("for=\"all\"")));
  EXPECT_THAT(graphml, HasSubstr(R"(<key id="node_batch" for="node" attr.name="batch")"));
  EXPECT_THAT(graphml, HasSubstr(R"(<key id="edge_batch" for="edge" attr.name="batch")"));
  EXPECT_THAT(graphml, HasSubstr(R"(<node id="b1_0"><data key="node_batch">1</data>)"));
  EXPECT_THAT(graphml, HasSubstr(R"(<data key="label">0</data>)"));
}

}  // namespace
}  // namespace attngraph::test
