// SPDX-License-Identifier: Apache-2.0
// Slices of the caller's own: what goes in comes out, and nothing else goes in.
#include <cmath>
#include <limits>
#include <vector>

#include "support.hpp"

namespace attngraph_test {
namespace {

// Two rows of three keys: row 4 has the keys 0 and 2, row 5 the key 1.
struct OwnSlice {
  std::vector<std::int64_t> offsets{0, 2, 3};
  std::vector<std::int32_t> keys{0, 2, 1};
  std::vector<float> weights{0.25f, 0.5f, 1.0f};

  attngraph_csr csr() const {
    attngraph_csr c{};
    c.batch = 1;
    c.layer = 2;
    c.head = 3;
    c.query_begin = 4;
    c.query_count = 2;
    c.key_count = 3;
    c.edge_count = 3;
    c.offsets = offsets.data();
    c.keys = keys.data();
    c.weights = weights.data();
    c.weight_dtype = ATTNGRAPH_F32;
    return c;
  }
};

attngraph_status add(const attngraph_csr& csr, const attngraph_rows* rows = nullptr) {
  const Sink sink = make_collect_sink();
  return attngraph_sink_add_slice(sink.get(), &csr, rows);
}

TEST(AddSlice, ComesOutAsItWentIn) {
  const OwnSlice own;
  const attngraph_csr csr = own.csr();
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_add_slice(sink.get(), &csr, nullptr), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(attngraph_sink_edge_count(sink.get()), 3);
  const Result result = take(sink);
  attngraph_csr out{};
  attngraph_rows rows{};
  attngraph_report report{};
  ASSERT_EQ(attngraph_result_csr(result.get(), 0, &out), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_result_rows(result.get(), 0, &rows), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_result_report(result.get(), &report), ATTNGRAPH_OK);
  EXPECT_EQ(out.batch, 1);
  EXPECT_EQ(out.layer, 2);
  EXPECT_EQ(out.head, 3);
  EXPECT_EQ(out.query_begin, 4);
  EXPECT_EQ(out.key_count, 3);
  EXPECT_EQ(std::vector(out.offsets, out.offsets + 3), own.offsets);
  EXPECT_EQ(std::vector(out.keys, out.keys + 3), own.keys);
  EXPECT_EQ(std::vector(static_cast<const float*>(out.weights), static_cast<const float*>(out.weights) + 3),
            own.weights);
  EXPECT_DOUBLE_EQ(rows.kept_mass[0], 0.75);
  EXPECT_EQ(rows.max_key[0], 2);
  EXPECT_TRUE(std::isnan(rows.logsumexp[0]) && std::isnan(rows.maximum[0]) && std::isnan(rows.entropy[0]));
  EXPECT_DOUBLE_EQ(report.kept_mass, 0.875);
  EXPECT_EQ(report.empty_rows, 0);
}

TEST(AddSlice, TakesRowsAndKnowsARowWithoutKeys) {
  OwnSlice own;
  own.offsets = {0, 3, 3};
  own.keys = {0, 1, 2};
  const std::vector<double> lse{1.5, -std::numeric_limits<double>::infinity()}, maximum{1.25, lse[1]}, kept{0.9, 0},
      entropy{0.5, 0};
  const std::vector<std::int32_t> max_key{2, -1};
  attngraph_rows rows{lse.data(), maximum.data(), max_key.data(), kept.data(), entropy.data()};
  const attngraph_csr csr = own.csr();
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_add_slice(sink.get(), &csr, &rows), ATTNGRAPH_OK) << attngraph_last_error();
  const Result result = take(sink);
  attngraph_rows out{};
  attngraph_report report{};
  ASSERT_EQ(attngraph_result_rows(result.get(), 0, &out), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_result_report(result.get(), &report), ATTNGRAPH_OK);
  EXPECT_EQ(out.logsumexp[0], 1.5);
  EXPECT_EQ(out.entropy[0], 0.5);
  EXPECT_EQ(out.max_key[1], -1);
  EXPECT_EQ(report.empty_rows, 1);
  EXPECT_DOUBLE_EQ(report.kept_mass, 0.9);

  rows.entropy = nullptr;
  EXPECT_EQ(add(csr, &rows), ATTNGRAPH_ERROR_ARGUMENT);
  const std::vector<std::int32_t> beyond{3, 0};
  rows = {lse.data(), maximum.data(), beyond.data(), kept.data(), entropy.data()};
  EXPECT_EQ(add(csr, &rows), ATTNGRAPH_ERROR_ARGUMENT);
}

TEST(AddSlice, RefusesWhatIsNoSliceAndLeavesTheSinkAsItWas) {
  const auto status_with = [](auto change) {
    OwnSlice own;
    attngraph_csr csr = own.csr();
    change(own, csr);
    const Sink sink = make_collect_sink();
    const attngraph_status status = attngraph_sink_add_slice(sink.get(), &csr, nullptr);
    const OwnSlice good;
    const attngraph_csr after = good.csr();
    EXPECT_EQ(attngraph_sink_add_slice(sink.get(), &after, nullptr), ATTNGRAPH_OK) << attngraph_last_error();
    EXPECT_EQ(attngraph_result_slice_count(take(sink).get()), 1);
    return status;
  };
  EXPECT_EQ(status_with([](auto&, auto& c) { c.layer = -1; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.query_begin = -1; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.query_count = -1; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.key_count = std::int64_t{1} << 31; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.key_count = 2; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.edge_count = 2; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.weight_dtype = ATTNGRAPH_F16; }), ATTNGRAPH_ERROR_DTYPE);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.offsets = nullptr; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.keys = nullptr; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto&, auto& c) { c.weights = nullptr; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto& own, auto&) { own.offsets[0] = 1; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto& own, auto&) { own.offsets[1] = 4; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto& own, auto&) { own.keys[1] = 0; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto& own, auto&) { own.keys[0] = -1; }), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(status_with([](auto& own, auto&) { own.weights[2] = std::nanf(""); }), ATTNGRAPH_ERROR_NONFINITE);
  EXPECT_EQ(attngraph_sink_add_slice(nullptr, nullptr, nullptr), ATTNGRAPH_ERROR_ARGUMENT);
}

TEST(AddSlice, TokensLabelItsKeys) {
  const OwnSlice own;
  const attngraph_csr csr = own.csr();
  const char* const tokens[] = {"a", "b"};
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_set_tokens(sink.get(), tokens, nullptr, 2), ATTNGRAPH_OK);
  EXPECT_EQ(attngraph_sink_add_slice(sink.get(), &csr, nullptr), ATTNGRAPH_ERROR_SHAPE);
}

TEST(MetadataName, NamesAllFactsInOrder) {
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_set_metadata(sink.get(), "model", "m"), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_sink_set_metadata(sink.get(), "author", "a"), ATTNGRAPH_OK);
  const Result result = take(sink);
  EXPECT_STREQ(attngraph_result_metadata_name(result.get(), 0), "author");
  EXPECT_STREQ(attngraph_result_metadata_name(result.get(), 1), "model");
  EXPECT_EQ(attngraph_result_metadata_name(result.get(), 2), nullptr);
  EXPECT_EQ(attngraph_result_metadata_name(result.get(), -1), nullptr);
  EXPECT_EQ(attngraph_result_metadata_name(nullptr, 0), nullptr);
}

}  // namespace
}  // namespace attngraph_test
