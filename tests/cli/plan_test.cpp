// SPDX-License-Identifier: Apache-2.0
// plan: tasks that, run one by one, are the whole.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "command.hpp"

namespace attngraph::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Plan : public CommandTest {};

TEST_F(Plan, TheArgumentsOfEveryTaskMakeItsPart) {
  const json plan = json::parse(output({"plan", genesis(), "--layers", "5", "--pairs-per-task", "700000", "--json"}));
  EXPECT_EQ(plan["pairs_per_task"], 700000);
  ASSERT_GT(plan["tasks"].size(), 3u);
  std::int64_t pairs = 0, edges = 0;
  for (const json& task : plan["tasks"]) {
    EXPECT_EQ(task["layer"], 5);
    pairs += task["pairs"].get<std::int64_t>();
    Arguments arguments = {"extract", genesis(), "-t", "0.1", "-o", "part.npz", "--quiet"};
    for (const json& word : task["arguments"]) arguments.push_back(word);
    output(arguments);
    const json part = json::parse(output({"stats", "part.npz", "--json"}));
    edges += part["all"]["edges"].get<std::int64_t>();
    EXPECT_EQ(part["slices"].size(), task["heads"].size());
    EXPECT_EQ(part["slices"][0]["head"], task["heads"][0]);
  }
  EXPECT_EQ(pairs, 9 * 1024 * 1025 / 2) << "causal, nine heads";
  output({"extract", genesis(), "--layers", "5", "-t", "0.1", "-o", "whole.npz", "--quiet"});
  EXPECT_EQ(edges, json::parse(output({"stats", "whole.npz", "--json"}))["all"]["edges"]);
}

TEST_F(Plan, FlagsAndTwoFilesAreAsForExtract) {
  write_npy("q.npy", {4, 1000, 8}, noise(4 * 1000 * 8, 1));
  write_npy("k.npy", {2, 1000, 8}, noise(2 * 1000 * 8, 2));
  const json plan = json::parse(output({"plan", "q.npy", "k.npy", "--no-causal", "--heads", "0,1,3", "--query-range",
                                        "100:900", "--pairs-per-task", "1000000", "--json"}));
  ASSERT_EQ(plan["tasks"].size(), 3u);
  EXPECT_EQ(plan["tasks"][0]["arguments"], json::parse(R"(["--heads", "0-1", "--query-range", "100:768"])"));
  EXPECT_EQ(plan["tasks"][2]["heads"], json::parse("[3]"));
  EXPECT_EQ(plan["tasks"][2]["pairs"], 800000);
  const std::string table = output({"plan", "q.npy", "k.npy"});
  EXPECT_THAT(table, HasSubstr("0-3"));
  EXPECT_THAT(table, HasSubstr("2,002,000"));
  EXPECT_EQ(run({"plan", "q.npy", "k.npy", "--pairs-per-task", "0"}).status, 2);
}

}  // namespace
}  // namespace attngraph::test
