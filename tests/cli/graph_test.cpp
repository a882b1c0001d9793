// SPDX-License-Identifier: Apache-2.0
// sweep, top, stats, diff, convert, doctor and bench.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "command.hpp"

namespace attngraph::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class Graph : public CommandTest {
 protected:
  void make(const std::string& to, const std::string& threshold = "0.1") const {
    output({"extract", genesis(), "--layers", "12", "-t", threshold, "-o", to, "--quiet"});
  }
};

TEST_F(Graph, SweepOfScoresAGraphAndATableAgree) {
  make("e.npz", "0.01");
  output({"convert", "e.npz", "table.of.edges", "--format", "csv"});
  const std::vector<std::string> thresholds = {"--thresholds", "0.5,0.01,0.05,0.1", "--json"};
  const auto sweep = [&](Arguments more) {
    more.insert(more.begin(), "sweep");
    more.insert(more.end(), thresholds.begin(), thresholds.end());
    return json::parse(output(more));
  };
  const json scores = sweep({genesis(), "--layers", "12"}), graph = sweep({"e.npz"}), table = sweep({"table.of.edges"});
  const std::vector<int> edges = {4322, 92192, 28836, 16550};
  for (std::size_t i = 0; i < edges.size(); ++i) {
    EXPECT_EQ(scores[i]["edges"], edges[i]);
    EXPECT_EQ(graph[i]["edges"], edges[i]);
    EXPECT_EQ(table[i]["edges"], edges[i]);
    EXPECT_EQ(scores[i]["nodes"], graph[i]["nodes"]);
    EXPECT_NEAR(scores[i]["kept_mass"].get<double>(), graph[i]["kept_mass"].get<double>(), 1e-6);
  }
  const json dense = json::parse(output({"sweep", genesis(), "--layers", "12", "--thresholds", "0", "--json"}));
  EXPECT_EQ(dense[0]["edges"], 9 * 1024 * 1025 / 2);
  EXPECT_NEAR(dense[0]["kept_mass"].get<double>(), 1, 1e-6);
  EXPECT_THAT(output({"sweep", genesis(), "--heads", "0"}), StartsWith("threshold"));
}

TEST_F(Graph, SweepBelowTheGraphsOwnThresholdSaysSo) {
  make("e.npz");
  const Outcome o = run({"sweep", "e.npz", "--thresholds", "0,0.1"});
  EXPECT_EQ(o.status, 0);
  EXPECT_THAT(o.err, HasSubstr("threshold 0.1"));
}

TEST_F(Graph, TopPrintsWords) {
  make("e.npz");
  EXPECT_THAT(output({"top", "e.npz", "-n", "1"}), HasSubstr("\"Genesis\"  → \"Genesis\""));
  EXPECT_THAT(output({"top", "e.npz", "-n", "1", "--links"}), ContainsRegex("0\\.9865[0-9]{1,5}  \" Heaven\""));
  EXPECT_EQ(lines(output({"top", "e.npz"})), 11u);
  EXPECT_EQ(json::parse(output({"top", "e.npz", "-n", "0", "--json"})).size(), 0u);
  const json links = json::parse(output({"top", "e.npz", "-n", "20", "--links", "--json"}));
  ASSERT_EQ(links.size(), 20u);
  for (std::size_t i = 0; i < links.size(); ++i) {
    EXPECT_NE(links[i]["key"], 0);
    EXPECT_NE(links[i]["key"], links[i]["query"]);
    EXPECT_TRUE(links[i].contains("query_token"));
    if (i > 0) {
      EXPECT_LE(links[i]["weight"], links[i - 1]["weight"]);
    }
  }
}

TEST_F(Graph, StatsHaveARowForEveryHeadAndOneForAll) {
  make("e.safetensors");
  const std::string table = output({"stats", "e.safetensors"});
  EXPECT_THAT(table, ContainsRegex("layer +head +rows +edges"));
  EXPECT_THAT(table, ContainsRegex("all +9,216 +16,550"));
  const json stats = json::parse(output({"stats", "e.safetensors", "--json"}));
  EXPECT_EQ(stats["slices"].size(), 9u);
  EXPECT_EQ(stats["all"]["edges"], 16550);
  EXPECT_EQ(stats["all"]["entropy_mean"], nullptr);
}

TEST_F(Graph, AHeadIsDrawnToTheWidthWithoutColourWhenNotOnATerminal) {
  make("e.npz", "0.02");
  for (const std::size_t width : {60u, 100u}) {
    const Outcome o = run({"stats", "e.npz", "--draw", "12:3"}, {"COLUMNS=" + std::to_string(width), "NO_COLOR=1"});
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_THAT(o.out, StartsWith("layer 12 head 3: 1,024 queries, 1,024 keys"));
    EXPECT_THAT(o.out, HasSubstr("strongest links"));
    EXPECT_THAT(o.out, HasSubstr("▒"));
    EXPECT_THAT(o.out, Not(HasSubstr("\033")));
    std::size_t longest = 0, columns = 0;
    for (const char c : o.out) {
      if (c == '\n')
        columns = 0;
      else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80)
        longest = std::max(longest, ++columns);
    }
    EXPECT_GT(longest, 50u);
    EXPECT_LE(longest, std::max<std::size_t>(width, 100));
  }
  EXPECT_THAT(run({"stats", "e.npz", "--draw", "12:3"}).out, Not(HasSubstr("\033")));
  expect_error(1, {"stats", "e.npz", "--draw", "12:9"}, {"12:9", "12:8"});
  expect_error(2, {"stats", "e.npz", "--draw", "12"}, {"LAYER:HEAD"});
}

TEST_F(Graph, SmallGraphsAreDrawnWithTheirWords) {
  write_npy("a.npy", {3, 3}, std::vector<double>{1, 0, 0, 0.4, 0.6, 0, 0.1, 0.7, 0.2});
  write("words.txt", "one\ntwo\nthree\n");
  output({"filter", "a.npy", "--tokens", "words.txt", "-o", "a.npz", "--quiet"});
  const std::string drawn = output({"stats", "a.npz", "--draw", "0:0"});
  EXPECT_THAT(drawn, HasSubstr("\"three\" │▒▒██▒▒│"));
  EXPECT_THAT(drawn, HasSubstr("0.700  ·◂●  \"three\" (2) → \"two\" (1)"));
}

TEST_F(Graph, DiffTellsEqualFromDifferent) {
  make("a.npz");
  make("b.npz", "0.2");
  output({"convert", "a.npz", "a.csv"});
  EXPECT_THAT(output({"diff", "a.npz", "a.csv"}), StartsWith("equal: 16,550 edges in common"));
  const Outcome o = run({"diff", "a.npz", "b.npz"});
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.out, StartsWith("different"));
  EXPECT_THAT(o.out, HasSubstr("only in a.npz"));
  EXPECT_EQ(o.err, "");
  const Outcome quiet = run({"diff", "a.npz", "b.npz", "--quiet"});
  EXPECT_EQ(quiet.status, 1);
  EXPECT_EQ(quiet.out, "");
  const json d = json::parse(run({"diff", "b.npz", "a.npz", "--json"}).out);
  EXPECT_EQ(d["equal"], false);
  EXPECT_EQ(d["only_a"], 0);
  EXPECT_EQ(d["first"]["in"], "b");
  expect_error(1, {"diff", "a.npz", "missing.npz"}, {"missing.npz"});
  expect_error(2, {"diff", "a.npz"}, {});
  expect_error(2, {"diff", "a.npz", "b.npz", "--band", "-1"}, {"--band"});
}

TEST_F(Graph, DiffOverlooksWhatIsInsideTheBand) {
  write_npy("a.npy", {2, 2}, std::vector<double>{0.5, 0.5, 0.25, 0.75});
  write_npy("b.npy", {2, 2}, std::vector<double>{0.5 - 1e-7, 0.5 + 1e-7, 0.25, 0.75});
  output({"filter", "a.npy", "-t", "0.5", "-o", "a.npz", "--quiet"});
  output({"filter", "b.npy", "-t", "0.5", "-o", "b.npz", "--quiet"});
  EXPECT_THAT(output({"diff", "a.npz", "b.npz"}), HasSubstr("1 inside the band 1e-05"));
  EXPECT_EQ(run({"diff", "a.npz", "b.npz", "--band", "1e-8"}).status, 1);
}

TEST_F(Graph, ConversionsComeBackTheSame) {
  output({"extract", genesis(), "--layers", "5", "--heads", "0-1", "-o", "a.npz", "--rows", "--quiet"});
  for (const char* suffix : {"safetensors", "csv", "jsonl"}) {
    const std::string there = std::string("b.") + suffix;
    output({"convert", "a.npz", there, "--labels"});
    output({"convert", there, "back.npz"});
    EXPECT_EQ(run({"diff", "a.npz", "back.npz", "--band", "0"}).status, 0) << suffix;
  }
  output({"convert", "a.npz", "b.safetensors"});
  EXPECT_EQ(output({"top", "b.safetensors"}), output({"top", "a.npz"})) << "words travel with the arrays";
  const std::string csv = output({"convert", "a.npz", "-"});
  EXPECT_THAT(csv, StartsWith("batch,layer,head,query,key,weight\n"));
  EXPECT_THAT(output({"convert", "a.npz", "-", "--format", "dot", "--direction", "key_to_query"}),
              HasSubstr("digraph"));
  expect_error(1, {"convert", "a.npz", "a.npz"}, {"input"});
  expect_error(1, {"convert", "a.npz", "./a.npz"}, {"input"});
}

TEST_F(Graph, ViewWritesAPage) {
  make("e.npz");
  run({"view", "e.npz"});  // e.html, here
  const std::string page = text("e.html");
  EXPECT_THAT(page, AllOf(StartsWith("<!doctype html>"), HasSubstr("default-src 'none'"), HasSubstr("SmolLM2")));
  EXPECT_EQ(output({"view", "e.npz", "-o", "-"}), page);
  EXPECT_THAT(run({"view", "e.npz", "-o", "part.html", "-t", "0.5", "--layers", "12", "--heads", "0,8"}).err,
              AllOf(HasSubstr("part.html"), HasSubstr("of 2 heads")));
  EXPECT_LT(text("part.html").size(), page.size() - 10'000);
  output({"extract", genesis(), "--layers", "12", "-t", "0.1", "-o", "direct.html", "--quiet"});
  EXPECT_EQ(text("direct.html"), page);

  expect_error(2, {"view", "e.npz", "-o", "-", "--open"}, {"--open"});
  expect_error(1, {"view", "e.npz", "--layers", "3"}, {"no layer 3"});
  expect_error(1, {"view", "e.npz", "-o", "e.npz"}, {"input"});
  write("short.npz", text("e.npz").substr(0, 5000));
  expect_error(1, {"view", "short.npz", "-o", "short.html"}, {"short.npz"});
  EXPECT_THAT(files(), Not(testing::Contains("short.html")));
  // No browser to hand it to: the page is there, and the message names it.
  const Outcome closed = run({"view", "e.npz", "-o", "open.html", "--open"}, {"PATH=/nowhere"});
  EXPECT_EQ(closed.status, 1);
  EXPECT_THAT(closed.err, HasSubstr("open.html"));
  EXPECT_EQ(text("open.html"), page);
}

TEST_F(Graph, DoctorNamesEveryBackend) {
  const std::string report = output({"doctor"});
  for (const char* part : {"library", "ABI", "backend reference", "backend cpu", "threads", "memory"})
    EXPECT_THAT(report, HasSubstr(part));
}

TEST_F(Graph, BenchChecksAndTimes) {
  for (const char* dtype : {"f32", "f16", "bf16", "f64"}) {
    const json rows = json::parse(output({"bench",     "--n", "300,64",    "--d",  "24",       "--heads",   "2",
                                          "--dtype",   dtype, "-t",        "0.02", "--causal", "--repeats", "2",
                                          "--threads", "1",   "--backend", "cpu",  "--json",   "--quiet"}));
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[1]["n"], 300);
    EXPECT_EQ(rows[1]["dtype"], dtype);
    EXPECT_EQ(rows[1]["backend"], "cpu");
    EXPECT_EQ(rows[1]["threads"], 1);
    EXPECT_GT(rows[1]["edges"], 600);
    EXPECT_GT(rows[1]["scores_per_s"], 0);
    EXPECT_LE(rows[1]["min_ms"], rows[1]["median_ms"]);
  }
  EXPECT_THAT(output({"bench", "--n", "64", "--repeats", "1"}), HasSubstr("checked against reference"));
}

}  // namespace
}  // namespace attngraph::test
