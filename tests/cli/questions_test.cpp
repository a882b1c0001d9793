// SPDX-License-Identifier: Apache-2.0
// heads, part, group and diff --by: the answers of the library, said to people and to JSON.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "command.hpp"

namespace attngraph::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Questions : public CommandTest {
 protected:
  void make(const std::string& to, Arguments more = {}) const {
    Arguments all = {"extract", genesis(), "--layers", "5", "-t", "0.05", "-o", to, "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    output(all);
  }
};

TEST_F(Questions, HeadsAreSortedAndNamed) {
  make("g.npz", {"--stats", "heads"});
  const json table = json::parse(output({"heads", "g.npz", "--sort", "duplicate_share", "--json"}));
  ASSERT_EQ(table.size(), 9u);
  EXPECT_EQ(table[0]["head"], 6);  // looks for the same word earlier in the text
  for (std::size_t i = 1; i < table.size(); ++i)
    EXPECT_LE(table[i]["duplicate_share"], table[i - 1]["duplicate_share"]);
  for (const json& head : table) {
    EXPECT_LE(head["self_share"].get<double>() + head["previous_share"].get<double>(), 1);
    EXPECT_LE(head["self_share"], head["window_share"]);
    EXPECT_GE(head["heaviest_share"], head["first_share"]);
    EXPECT_GT(head["same_word_share"], 0);
  }
  const std::string text = output({"heads", "g.npz", "-n", "2"});
  EXPECT_THAT(text, HasSubstr("induction"));
  EXPECT_THAT(text, HasSubstr("marks"));
}

TEST_F(Questions, HeadsWithoutStatisticsSayHowToGetThem) {
  make("g.npz");
  const Outcome o = run({"heads", "g.npz"});
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.err, HasSubstr("make it with --stats heads"));
  EXPECT_THAT(output({"heads", "g.npz", "--partial"}), HasSubstr("kept"));
  EXPECT_EQ(run({"heads", "g.npz", "--sort", "size", "--partial"}).status, 2);
}

TEST_F(Questions, PartsAreWrittenAndCounted) {
  make("g.npz");
  output({"part", "g.npz", "p.npz", "--heads", "5:6,5:1", "--distance", "1:64", "--without-first"});
  const json top = json::parse(output({"top", "p.npz", "-n", "100000", "--json"}));
  ASSERT_GT(top.size(), 100u);
  for (const json& e : top) {
    EXPECT_TRUE(e["head"] == 6 || e["head"] == 1);
    EXPECT_GT(e["key"], 0);
    const auto distance = e["query"].get<int>() - e["key"].get<int>();
    EXPECT_TRUE(distance >= 1 && distance <= 64);
  }
  const Arguments same = {"top",     "g.npz",   "-n",         "100000", "--json",
                          "--heads", "5:6,5:1", "--distance", "1:64",   "--without-first"};
  EXPECT_EQ(json::parse(output(same)), top);
  EXPECT_EQ(run({"part", "g.npz", "q.npz", "--heads", "5:x"}).status, 2);
  EXPECT_EQ(run({"part", "g.npz", "q.npz", "--queries", "9:9"}).status, 2);
  EXPECT_THAT(run({"part", "g.npz", "q.npz", "--key-token", "xyzzy"}).err,
              HasSubstr("no token of the graph is 'xyzzy'"));
}

TEST_F(Questions, GroupsAreWords) {
  make("g.npz");
  output({"group", "g.npz", "w.npz"});
  const json summary = json::parse(output({"stats", "w.npz", "--json"}));
  const json before = json::parse(output({"stats", "g.npz", "--json"}));
  EXPECT_LT(summary["all"]["rows"], before["all"]["rows"]);
  EXPECT_GT(summary["all"]["rows"], 0);
  output({"group", "g.npz", "s.npz", "--spans", "0:512,512:1024"});
  EXPECT_EQ(json::parse(output({"stats", "s.npz", "--json"}))["all"]["rows"], 18);
  EXPECT_THAT(run({"group", "g.npz", "s.npz", "--spans", "0:512"}).err, HasSubstr("position 512 is in no span"));
  EXPECT_EQ(run({"group", "g.npz", "s.npz", "--spans", "5"}).status, 2);
}

TEST_F(Questions, DiffSaysWhatMoved) {
  make("a.npz");
  make("b.npz", {"--scale", "0.2"});
  const json heads = json::parse(output({"diff", "a.npz", "b.npz", "--by", "head", "--json"}));
  ASSERT_EQ(heads.size(), 9u);
  for (std::size_t i = 0; i < heads.size(); ++i) {
    EXPECT_GT(heads[i]["variation_min"], 0);
    EXPECT_LE(heads[i]["variation_min"], heads[i]["variation_max"]);
    EXPECT_LE(heads[i]["divergence_min"], heads[i]["divergence_max"]);
    if (i > 0) {
      EXPECT_LE(heads[i]["variation_min"], heads[i - 1]["variation_min"]);
    }
  }
  const json pairs = json::parse(output({"diff", "a.npz", "b.npz", "--by", "pair", "-n", "5", "--json"}));
  ASSERT_EQ(pairs.size(), 5u);
  EXPECT_GE(std::abs(pairs[0]["change"].get<double>()), std::abs(pairs[4]["change"].get<double>()));
  EXPECT_THAT(output({"diff", "a.npz", "b.npz", "--by", "head", "--align", "tokens"}), HasSubstr("moved"));
  EXPECT_EQ(run({"diff", "a.npz", "b.npz", "--align", "tokens"}).status, 2);
}

}  // namespace
}  // namespace attngraph::test
