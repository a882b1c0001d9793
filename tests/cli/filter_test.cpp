// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "command.hpp"

namespace attngraph::test {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;

// numpy.random.seed(42); a = numpy.random.rand(8, 8); a / a.sum(1, keepdims=True)
const std::vector<double> kSeed42 = {
    0.09622888483605832,  0.2442626914976671,   0.18806786558416266,  0.1538105944677268,  0.04008515784535251,
    0.0400789607764453,   0.014923157613654134, 0.22254268737893326,  0.16203901106692983, 0.19087092823876595,
    0.005548840128500368, 0.26145285044975797,  0.2243966290145935,   0.05723899558814828, 0.04901347878183046,
    0.049439266731473634, 0.10271423501250435,  0.17716131369096302,  0.1458275541414128,  0.0983209236751832,
    0.20656566757547107,  0.047094069010400016, 0.09863000546995927,  0.12368623142410624, 0.13524853667334644,
    0.23284562344483778,  0.05921369040611804,  0.152497330912669,    0.17568181707926958, 0.013774969995094057,
    0.18016873512112438,  0.050569296367540734, 0.015076952983984754, 0.21992240275482544, 0.22380372400394932,
    0.1873615733389941,   0.07060007703640035,  0.022637383700255913, 0.15858411296934447, 0.10201377321224563,
    0.03682499542382518,  0.14941946244981733,  0.010376724428296758, 0.2743871188233156,  0.07808677051351086,
    0.1999158716163731,   0.0940587100849835,   0.15693034665987765,  0.09376919290568404, 0.031705372579549626,
    0.1662986254958521,   0.13294716047516972,  0.1611384691578167,   0.15347660654985953, 0.10254901100229369,
    0.15811556183377465,  0.03538921319149071,  0.07837589783550797,  0.01808693541503788, 0.13010350217337557,
    0.1554367110045287,   0.10851573310829099,  0.33142207205256036,  0.14266993521920776,
};

class Filter : public CommandTest {
 protected:
  std::string csv(Arguments arguments) const {
    arguments.insert(arguments.begin(), "filter");
    arguments.insert(arguments.end(), {"-o", "-", "--quiet"});
    return output(arguments);
  }
};

TEST_F(Filter, CountsTheKnownMatrix) {
  write_npy("a.npy", {8, 8}, kSeed42);
  const std::vector<std::pair<std::string, std::size_t>> counts = {
      {"0", 64}, {"0.10", 38}, {"0.15", 27}, {"0.20", 10}, {"0.25", 3}};
  for (const auto& [threshold, edges] : counts)
    EXPECT_EQ(lines(csv({"a.npy", "-t", threshold})), edges + 1) << threshold;

  const json sweep = json::parse(output({"sweep", "a.npy", "--thresholds", "0,0.1,0.15,0.2,0.25", "--json"}));
  ASSERT_EQ(sweep.size(), counts.size());
  for (std::size_t i = 0; i < counts.size(); ++i) EXPECT_EQ(sweep[i]["edges"], counts[i].second);
  EXPECT_EQ(sweep[0]["nodes"], 8);

  output({"filter", "a.npy", "-t", "0.15", "-o", "a.npz", "--quiet"});
  const json top = json::parse(output({"top", "a.npz", "-n", "2", "--json"}));
  EXPECT_EQ(top[0]["query"], 7);
  EXPECT_EQ(top[0]["key"], 6);
  EXPECT_EQ(top[0]["weight"], 0.33142207205256036);
  EXPECT_EQ(top[1]["weight"], 0.2743871188233156);
}

TEST_F(Filter, AgreesWithTheWeightsThatTheModelsRuntimeComputed) {
  output({"filter", genesis_weights(), "--name", "softmax.12", "-t", "0.05", "-o", "given.npz", "--quiet"});
  output({"extract", genesis_weights(), "-t", "0.05", "-o", "made.npz", "--quiet"});
  EXPECT_EQ(json::parse(output({"stats", "given.npz", "--json"}))["all"]["edges"], 7635);
  EXPECT_EQ(run({"diff", "given.npz", "made.npz", "--band", "1e-3"}).status, 0);
}

TEST_F(Filter, FourDimensionsAreLayersOrBatches) {
  std::vector<double> twice(kSeed42);
  twice.insert(twice.end(), kSeed42.rbegin(), kSeed42.rend());
  write_npy("a.npy", {2, 1, 8, 8}, twice);
  const std::string layers = csv({"a.npy", "-t", "0.25"});
  EXPECT_EQ(lines(layers), 7u);
  EXPECT_THAT(layers, HasSubstr("0,1,0,0,1,0.33142207205256036\n"));
  EXPECT_EQ(csv({"a.npy", "-t", "0.25", "--leading", "layer"}), layers);
  EXPECT_THAT(csv({"a.npy", "-t", "0.25", "--leading", "batch"}), HasSubstr("1,0,0,0,1,0.33142207205256036\n"));
  const std::string second = csv({"a.npy", "-t", "0.25", "--layers", "1"});
  EXPECT_EQ(lines(second), 4u);
  EXPECT_THAT(second, HasSubstr("0,1,0,0,1,"));
}

TEST_F(Filter, ThreeDimensionsAreHeads) {
  std::vector<double> three;
  for (int h = 0; h < 3; ++h) three.insert(three.end(), kSeed42.begin(), kSeed42.end());
  write_npy("a.npy", {3, 8, 8}, three);
  EXPECT_EQ(lines(csv({"a.npy", "-t", "0.25"})), 10u);
  EXPECT_EQ(lines(csv({"a.npy", "-t", "0.25", "--heads", "0,2"})), 7u);
}

TEST_F(Filter, MasksAndSelectionsApply) {
  write_npy("a.npy", {8, 8}, kSeed42);
  EXPECT_EQ(lines(csv({"a.npy", "-t", "0", "--causal"})), 37u);
  EXPECT_EQ(lines(csv({"a.npy", "-t", "0", "--causal", "--window", "1"})), 9u);
  EXPECT_EQ(lines(csv({"a.npy", "--top-k", "2"})), 17u);
  EXPECT_EQ(lines(csv({"a.npy", "-t", "0", "--query-range", "2:4"})), 17u);
}

TEST_F(Filter, WordsLabelTheEdges) {
  write_npy("a.npy", {8, 8}, kSeed42);
  write("words.json", R"(["a","b","c","d","e","f","the \u001b[31mred","h"])");
  output({"filter", "a.npy", "-t", "0.25", "--tokens", "words.json", "-o", "a.npz", "--quiet"});
  const std::string top = output({"top", "a.npz", "-n", "1"});
  EXPECT_THAT(top, HasSubstr("\"h\"  → \"the [31mred\"")) << "no escape sequence of a file reaches the terminal";
  expect_error(1, {"filter", "a.npy", "--tokens", genesis(), "-o", "b.csv"}, {"tokens", "8 keys"});
  write("few.txt", "a\nb\n");
  expect_error(1, {"filter", "a.npy", "--tokens", "few.txt", "-o", "b.csv"}, {"2 tokens", "8 keys"});
}

TEST_F(Filter, AsksWhichOfSeveralMatrices) {
  expect_error(1, {"filter", genesis_weights(), "-o", "e.csv"}, {"--name", "k.12", "q.12", "softmax.12"});
  expect_error(1, {"filter", genesis_weights(), "--name", "softmax.13", "-o", "e.csv"}, {"softmax.13", "softmax.12"});
  EXPECT_THAT(output({"filter", genesis_weights(), "--name", "softmax.12", "--explain"}),
              ContainsRegex("input +layer 12: softmax.12 \\[9, 256, 256\\] f32"));
}

}  // namespace
}  // namespace attngraph::test
