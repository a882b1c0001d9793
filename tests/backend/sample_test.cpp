// SPDX-License-Identifier: Apache-2.0
// A real model's queries and keys, against counts and weights that were made by others.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/run.hpp"
#include "support/samples.hpp"

namespace ag::test {
namespace {

class RealModel : public EveryBackend {};
ATTNGRAPH_EVERY_BACKEND(RealModel);

// Sums over nine heads, from a float64 reference that is not ours. One pair of layer 12 lies within 1e-6 of t = .01;
// none does elsewhere, so that those counts are exact for single precision too.
TEST_P(RealModel, HasTheKnownNumberOfEdges) {
  struct Count {
    const char* layer;
    double threshold;
    std::int64_t edges;
    std::int64_t doubtful;
  };
  const Count counts[] = {{"5", .01, 113'622, 0}, {"5", .05, 47'667, 0},  {"5", .1, 20'784, 0},  {"5", .5, 883, 0},
                          {"12", .01, 92'192, 1}, {"12", .05, 28'836, 0}, {"12", .1, 16'550, 0}, {"12", .5, 4'322, 0}};
  const auto file = open_sample("genesis-1k.safetensors");
  for (const Count& c : counts) {
    const EdgeList graph = run_extract(backend(), sample_problem(*file, c.layer, c.threshold), 2);
    const std::int64_t slack = backend().name() == "reference" ? 0 : c.doubtful;
    EXPECT_NEAR(static_cast<double>(graph.edge_count()), static_cast<double>(c.edges), static_cast<double>(slack))
        << "layer " << c.layer << ", t = " << c.threshold;
    EXPECT_EQ(graph.slices.size(), 9u);
    EXPECT_EQ(graph.report.empty_rows, 0);
    EXPECT_EQ(graph.report.rows_with_keys, 9 * 1024);
    EXPECT_LT(graph.report.eps, 1e-3);
  }
}

TEST_P(RealModel, StoredWeightsHaveTheKnownNumberOfEdges) {
  const auto file = open_sample("genesis-256-weights.safetensors");
  MatrixProblem problem;
  problem.weights = with_leading_ones(file->read("softmax.12"), 4);
  ask_for_everything(problem, 9, 256);
  for (const auto& [threshold, edges] :
       std::initializer_list<std::pair<double, std::int64_t>>{{.01, 23'727}, {.05, 7'635}, {.1, 4'282}, {.5, 1'116}}) {
    problem.selection.threshold = threshold;
    EXPECT_EQ(run_filter(backend(), problem, 2).edge_count(), edges) << "t = " << threshold;
  }
}

// The model's own weights differ from softmax(q k^T / 8) of the stored halves by less than 1e-6.
TEST_P(RealModel, ExtractedWeightsAreTheModelsOwn) {
  constexpr double kForeignError = 1e-6;
  const auto file = open_sample("genesis-256-weights.safetensors");
  const TensorView softmax = with_leading_ones(file->read("softmax.12"), 4);
  for (const double threshold : {.01, .05, .1, .5}) {
    const Problem problem = sample_problem(*file, "12", threshold);
    const EdgeList graph = run_extract(backend(), problem, 2);
    const double band = kForeignError + threshold * std::expm1(graph.report.eps);
    std::int64_t doubtful = 0;
    for (const Slice& slice : graph.slices) {
      for (std::int64_t i = 0; i < 256; ++i) {
        SCOPED_TRACE(row_name(slice.info, i));
        const auto first = static_cast<std::size_t>(slice.first_offset + i);
        std::vector<double> extracted(256, 0.0);
        for (std::int64_t e = graph.offsets[first]; e < graph.offsets[first + 1]; ++e) {
          const auto place = slice.first_edge + e;
          extracted[static_cast<std::size_t>(graph.keys[static_cast<std::size_t>(place)])] = graph.weight(place);
        }
        for (std::int64_t j = 0; j < 256; ++j) {
          const double foreign = load_double(softmax.dtype, softmax.at(0, slice.info.id.head, i, j));
          const double own = extracted[static_cast<std::size_t>(j)];
          if (own > 0) {
            EXPECT_NEAR(own, foreign, kForeignError + 2e-5 * own) << "key " << j;
          }
          if ((own > 0) == (foreign >= threshold)) continue;
          ++doubtful;
          EXPECT_NEAR(foreign, threshold, band) << "key " << j << " is an edge in one graph only";
        }
      }
    }
    EXPECT_LE(doubtful, 20) << "t = " << threshold;
  }
}

TEST(RealModelOnEveryInstructionSet, IsTheGraphOfTheReference) {
  const auto file = open_sample("genesis-1k.safetensors");
  Problem problem = sample_problem(*file, "12", .02);
  problem.heads = {0, 4, 8};
  problem.stats = {true, true, true};
  const EdgeList expected = run_extract(find_backend("reference"), problem);
  for (const Target& target : all_targets()) {
    const Backend& backend = find_backend(target.backend);
    if (target.backend == "reference" || !backend.unavailable().empty()) continue;
    SCOPED_TRACE(::testing::Message() << target);
    const ForcedTarget forced(target);
    expect_same_graph(run_extract(backend, problem, 2), expected, problem);
  }
}

}  // namespace
}  // namespace ag::test
