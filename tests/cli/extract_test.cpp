// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "command.hpp"

namespace attngraph::test {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class Extract : public CommandTest {
 protected:
  // Two heads of 6 queries and 10 keys, D = 4, as q.<layer> and k.<layer>.
  std::vector<Tensor> layer(int label) const {
    const std::string suffix = "." + std::to_string(label);
    const auto seed = static_cast<std::uint32_t>(label) + 1;
    return {{"q" + suffix, {2, 6, 4}, noise(48, seed)}, {"k" + suffix, {2, 10, 4}, noise(80, seed + 100)}};
  }
  std::string csv(Arguments arguments) const {
    arguments.insert(arguments.begin(), "extract");
    arguments.insert(arguments.end(), {"-o", "-", "--quiet"});
    return output(arguments);
  }
  std::string explained(Arguments arguments) const {
    arguments.insert(arguments.begin(), "extract");
    arguments.push_back("--explain");
    return output(arguments);
  }
};

TEST_F(Extract, FindsTheEdgesOfARealModel) {
  const Outcome o = run({"extract", genesis(), "-t", "0.05", "-o", "edges.npz"});
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(o.out, "");
  EXPECT_THAT(o.err, HasSubstr("attngraph: 76,503 edges from 2 layers"));
  EXPECT_THAT(o.err, HasSubstr("wrote edges.npz"));
  const json stats = json::parse(output({"stats", "edges.npz", "--json"}));
  std::map<int, int> edges;
  for (const json& s : stats["slices"]) edges[s["layer"]] += s["edges"].get<int>();
  EXPECT_EQ(edges, (std::map<int, int>{{5, 47667}, {12, 28836}}));
  EXPECT_EQ(files(), std::vector<std::string>{"edges.npz"});
}

TEST_F(Extract, WritesNothingButDataToStandardOutput) {
  const Outcome o = run({"extract", genesis(), "-t", "0.5", "--layers", "12", "-o", "-"});
  EXPECT_EQ(o.status, 0);
  EXPECT_THAT(o.out, StartsWith("batch,layer,head,query,key,weight\n0,12,0,0,0,1\n"));
  EXPECT_EQ(lines(o.out), 4322u + 1);
  EXPECT_EQ(lines(o.err), 2u);
  const Outcome quiet = run({"extract", genesis(), "-t", "0.5", "--layers", "12", "-o", "-", "--quiet"});
  EXPECT_EQ(quiet.err, "");
  EXPECT_EQ(quiet.out, o.out);
}

TEST_F(Extract, EveryBackendAndThreadCountFindsTheSame) {
  const Arguments base = {"extract", genesis(), "--layers", "12", "--heads", "0,2", "--quiet"};
  const auto make = [&](const std::string& to, const Arguments& more) {
    Arguments all = base;
    all.insert(all.end(), more.begin(), more.end());
    all.insert(all.end(), {"-o", to});
    output(all);
  };
  make("reference.npz", {"--backend", "reference"});
  make("one.npz", {"--backend", "cpu", "--threads", "1"});
  make("three.npz", {"--backend", "cpu", "--threads", "3", "--device", "cpu", "--decision", "fast"});
  for (const char* name : {"one", "three"}) output({"convert", std::string(name) + ".npz", std::string(name) + ".csv"});
  EXPECT_EQ(text("one.csv"), text("three.csv"));
  EXPECT_THAT(output({"diff", "reference.npz", "one.npz", "--band", "1e-3"}), StartsWith("equal"));
}

TEST_F(Extract, LabelsRowsAndWordsAreWritten) {
  output({"extract", genesis(), "--layers", "5", "--heads", "1", "--labels", "--rows", "-o", "e.csv", "--quiet"});
  EXPECT_THAT(text("e.csv"),
              StartsWith("batch,layer,head,query,key,weight,query_token,key_token\n0,5,1,0,0,1,Genesis,Genesis\n"));
  EXPECT_EQ(files(), (std::vector<std::string>{"e.csv", "e.rows.csv"}));
  EXPECT_EQ(lines(text("e.rows.csv")), 1025u);

  std::string words;
  for (int i = 0; i < 10; ++i) words += i == 3 ? "=SUM(A1)\n" : "w" + std::to_string(i) + "\n";
  write("words.txt", words);
  write_safetensors("f.safetensors", layer(0));
  EXPECT_THAT(csv({"f.safetensors", "--tokens", "words.txt", "--labels"}), HasSubstr(",'=SUM(A1)"));
  EXPECT_THAT(csv({"f.safetensors", "--tokens", "words.txt", "--labels", "--csv-raw"}), HasSubstr(",=SUM(A1)"));
}

TEST_F(Extract, LabelsWithoutWordsSayHowToGiveThem) {
  write_safetensors("f.safetensors", layer(0));
  const Outcome o = run({"extract", "f.safetensors", "--labels", "-o", "e.csv"});
  EXPECT_EQ(o.status, 0);
  EXPECT_THAT(o.err, HasSubstr("--tokens FILE"));
}

TEST_F(Extract, FormatsFollowTheSuffixUnlessNamed) {
  write_safetensors("f.safetensors", layer(0));
  for (const char* suffix : {"csv", "jsonl", "npz", "safetensors", "graphml", "dot"})
    output({"extract", "f.safetensors", "-o", std::string("e.") + suffix, "--quiet"});
  EXPECT_THAT(text("e.jsonl"), StartsWith("{\"batch\":0"));
  EXPECT_THAT(text("e.npz"), StartsWith("PK"));
  EXPECT_THAT(text("e.dot"), HasSubstr("digraph"));
  EXPECT_THAT(text("e.graphml"), HasSubstr("<graphml"));
  EXPECT_EQ(csv({"f.safetensors", "--format", "jsonl"}), text("e.jsonl"));
  output({"extract", "f.safetensors", "-o", "e.dat", "--format", "csv", "--quiet"});
  EXPECT_EQ(text("e.dat"), text("e.csv"));
  output({"extract", "f.safetensors", "-o", "back.dot", "--direction", "key_to_query", "--quiet"});
  EXPECT_NE(text("back.dot"), text("e.dot"));
}

TEST_F(Extract, SelectionsHoldTogether) {
  write_safetensors("f.safetensors", layer(0));
  EXPECT_EQ(lines(csv({"f.safetensors", "--top-k", "3"})), 1u + 2 * 6 * 3);
  EXPECT_EQ(lines(csv({"f.safetensors", "--mass", "1", "--top-k", "10", "--no-causal"})), 1u + 2 * 6 * 10);
  EXPECT_EQ(lines(csv({"f.safetensors", "--top-k", "3", "-t", "1"})), 1u);
  EXPECT_LT(lines(csv({"f.safetensors", "--mass", "0.5"})), lines(csv({"f.safetensors", "--mass", "0.9"})));
}

TEST_F(Extract, TheEdgeLimitCountsAllLayers) {
  auto tensors = layer(0);
  for (const Tensor& t : layer(1)) tensors.push_back(t);
  write_safetensors("f.safetensors", tensors);
  const Arguments all = {"f.safetensors", "--top-k", "2"};  // 2 layers x 2 heads x 6 queries x 2
  EXPECT_EQ(lines(csv({"f.safetensors", "--top-k", "2", "--max-edges", "48"})), 49u);
  for (const char* limit : {"47", "24", "5"})
    expect_error(1, {"extract", "f.safetensors", "--top-k", "2", "--max-edges", limit, "-o", "e.csv"}, {limit});
}

TEST_F(Extract, ABudgetKeepsTheHeaviestEdgesOfAllLayers) {
  auto tensors = layer(0);
  for (const Tensor& t : layer(1)) tensors.push_back(t);
  write_safetensors("f.safetensors", tensors);
  output({"extract", "f.safetensors", "--top-k", "2", "-o", "all.npz", "--quiet"});
  const Outcome o = run({"extract", "f.safetensors", "--top-k", "2", "--budget", "7", "-o", "few.npz"});
  EXPECT_THAT(o.err, HasSubstr("attngraph: 7 edges from 2 layers"));
  EXPECT_EQ(output({"top", "few.npz", "-n", "20", "--json"}), output({"top", "all.npz", "-n", "7", "--json"}));
  output({"part", "all.npz", "part.npz", "--budget", "7"});
  EXPECT_EQ(output({"top", "part.npz", "-n", "20", "--json"}), output({"top", "few.npz", "-n", "20", "--json"}));
  EXPECT_EQ(lines(csv({"f.safetensors", "--top-k", "2", "--head-budget", "3"})), 1u + 2 * 2 * 3);
  expect_error(2, {"extract", "f.safetensors", "--budget", "0", "-o", "e.csv"}, {"--budget"});
}

TEST_F(Extract, QueryRangesTogetherAreTheWhole) {
  write_safetensors("f.safetensors", layer(3));
  const std::string whole = csv({"f.safetensors", "--causal"});
  std::string first = csv({"f.safetensors", "--causal", "--heads", "1", "--query-range", "0:2"});
  const std::string rest = csv({"f.safetensors", "--causal", "--heads", "1", "--query-range", "2:"});
  EXPECT_EQ(first + rest.substr(rest.find('\n') + 1), csv({"f.safetensors", "--causal", "--heads", "1"}));
  EXPECT_THAT(whole, HasSubstr(first.substr(first.find('\n') + 1)));
}

TEST_F(Extract, TwoFilesAndNamedTensorsEqualTheConvention) {
  const auto tensors = layer(0);
  write_safetensors("f.safetensors", tensors);
  const std::string expected = csv({"f.safetensors"});
  write_npy("q.npy", tensors[0].shape, tensors[0].data);
  write_npy("k.npy", tensors[1].shape, tensors[1].data);
  EXPECT_EQ(csv({"q.npy", "k.npy"}), expected);
  write_safetensors("named.safetensors",
                    {{"queries", tensors[0].shape, tensors[0].data}, {"keys.x", tensors[1].shape, tensors[1].data}});
  EXPECT_EQ(csv({"named.safetensors", "--q", "queries", "--k", "keys.x"}), expected);
  EXPECT_EQ(csv({"named.safetensors", "k.npy", "--q", "queries"}), expected);
}

TEST_F(Extract, ExplainSaysWhereEveryValueCameFrom) {
  write_safetensors("f.safetensors", layer(7), {{"scale", "0.25"}, {"window", "4"}});
  const std::string text = explained({"f.safetensors", "--window", "3", "-t", "0.2"});
  EXPECT_THAT(text, ContainsRegex("input +layer 7: q.7 \\[2, 6, 4\\] f32, k.7 \\[2, 10, 4\\] f32 +file"));
  EXPECT_THAT(text, ContainsRegex("threshold +0.2 +flag"));
  EXPECT_THAT(text, ContainsRegex("scale +0.25 +metadata"));
  EXPECT_THAT(text, ContainsRegex("window +3 +flag"));
  EXPECT_THAT(text, ContainsRegex("causal +yes +default"));
  EXPECT_THAT(text, ContainsRegex("query offset +4 \\(bottom-right: Nk - Nq\\) +default"));
  EXPECT_THAT(text, ContainsRegex("products +auto +default"));
  EXPECT_THAT(explained({"f.safetensors", "--products", "float"}), ContainsRegex("products +float +flag"));
  EXPECT_THAT(text, ContainsRegex("backend +cpu"));
  EXPECT_EQ(files(), std::vector<std::string>{"f.safetensors"});

  EXPECT_THAT(explained({"f.safetensors", "--top-k", "2"}), ContainsRegex("threshold +none +default with --top-k"));
  const std::string real = explained({genesis(), "--backend", "reference"});
  EXPECT_THAT(real, ContainsRegex("causal +yes +metadata"));
  EXPECT_THAT(real, ContainsRegex("tokens +from the file +metadata"));
  EXPECT_THAT(real, ContainsRegex("backend +reference"));
}

TEST_F(Extract, FlagsWinOverMetadata) {
  write_safetensors("plain.safetensors", layer(0));
  write_safetensors("told.safetensors", layer(0),
                    {{"scale", "2"}, {"causal", "true"}, {"window", "3"}, {"softcap", "5"}, {"query_offset", "1"}});
  const Arguments flags = {"--scale", "2", "--causal", "--window", "3", "--softcap", "5", "--query-offset", "1"};
  Arguments spoken = {"plain.safetensors"};
  spoken.insert(spoken.end(), flags.begin(), flags.end());
  EXPECT_EQ(csv({"told.safetensors"}), csv(spoken));
  EXPECT_NE(csv({"told.safetensors"}), csv({"plain.safetensors"}));
  EXPECT_EQ(csv({"told.safetensors", "--scale", "0.5", "--no-causal", "--window", "0", "--softcap", "0"}),
            csv({"plain.safetensors", "--no-causal"}));
}

TEST_F(Extract, AStoredLogsumexpSinksAndMaskAreUsed) {
  auto tensors = layer(0);
  write_safetensors("plain.safetensors", tensors);
  tensors.push_back({"lse.0", {2, 6}, std::vector<float>(12, 1.5F)});
  write_safetensors("lse.safetensors", tensors);
  const std::string with_lse = csv({"lse.safetensors", "-t", "0.1"});
  EXPECT_NE(with_lse, csv({"plain.safetensors", "-t", "0.1"}));
  EXPECT_THAT(explained({"lse.safetensors"}), HasSubstr("lse.0 [2, 6] f32"));
  // A flag that changes the scores makes the stored sums wrong: they are computed again.
  EXPECT_EQ(csv({"lse.safetensors", "-t", "0.1", "--scale", "0.5"}), csv({"plain.safetensors", "-t", "0.1"}));
  EXPECT_THAT(explained({"lse.safetensors", "--scale", "0.5"}), ContainsRegex("lse +not used"));

  tensors = layer(0);
  tensors.push_back({"sinks.0", {2}, {50, 50}});  // takes all of the attention
  write_safetensors("sinks.safetensors", tensors);
  EXPECT_EQ(lines(csv({"sinks.safetensors"})), 1u);

  tensors = layer(0);
  std::vector<float> only_key_2(60, -INFINITY);
  for (std::size_t i = 0; i < 6; ++i) only_key_2[i * 10 + 2] = 0;
  tensors.push_back({"mask.0", {6, 10}, only_key_2});
  write_safetensors("mask.safetensors", tensors);
  const std::string masked = csv({"mask.safetensors"});
  EXPECT_EQ(lines(masked), 13u);
  EXPECT_THAT(masked, HasSubstr("0,0,1,5,2,1\n"));
}

TEST_F(Extract, ScoresFallByDistanceAsAFlagMetadataOrATensorSay) {
  write_safetensors("plain.safetensors", layer(0));
  write_safetensors("told.safetensors", layer(0), {{"alibi", "0.0625,0.00390625"}});
  write_safetensors("standard.safetensors", layer(0), {{"alibi", "standard"}});
  auto tensors = layer(0);
  tensors.push_back({"alibi.0", {2}, {0.0625F, 0.00390625F}});
  write_safetensors("tensor.safetensors", tensors);
  const std::string sloped = csv({"plain.safetensors", "--alibi", "standard"});
  EXPECT_NE(sloped, csv({"plain.safetensors"}));
  for (const Arguments& other :
       {Arguments{"plain.safetensors", "--alibi", "0.0625,0.00390625"}, Arguments{"told.safetensors"},
        Arguments{"standard.safetensors"}, Arguments{"tensor.safetensors"}})
    EXPECT_EQ(csv(other), sloped) << other[0];
  for (const char* file : {"told.safetensors", "tensor.safetensors"})
    EXPECT_EQ(csv({file, "--alibi", "none"}), csv({"plain.safetensors"})) << "a flag wins";
  EXPECT_THAT(explained({"plain.safetensors", "--alibi", "standard"}), ContainsRegex("alibi +standard +flag"));
  EXPECT_THAT(explained({"tensor.safetensors"}), ContainsRegex("alibi +the tensors alibi.<layer> +file"));
  EXPECT_THAT(explained({"told.safetensors"}), ContainsRegex("scores +q . k, less by distance"));
  expect_error(1, {"extract", "plain.safetensors", "--alibi", "1,2,3", "-o", "e.csv"}, {"3 slopes", "2 query heads"});
  expect_error(2, {"extract", "plain.safetensors", "--alibi", "steep", "-o", "e.csv"},
               {"--alibi", "steep", "standard or none"});
}

TEST_F(Extract, MoreStatisticsTravelWithTheGraph) {
  output({"extract", genesis(), "--layers", "5", "--heads", "0", "--stats", "entropy,columns,distances", "--rows", "-o",
          "e.safetensors", "--quiet"});
  const json stats = json::parse(output({"stats", "e.safetensors", "--json"}));
  EXPECT_GT(stats["all"]["entropy_mean"].get<double>(), 0.5);
  EXPECT_NE(text("e.safetensors").find("\"received\""), std::string::npos);
}

}  // namespace
}  // namespace attngraph::test
