// SPDX-License-Identifier: Apache-2.0
// What a result says about itself, and what stays untouched: outputs of failed calls, inputs, bytes past the end.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "support.hpp"

namespace attngraph_test {
namespace {

class EveryResult : public testing::TestWithParam<std::string> {
 protected:
  EveryResult() { options_.backend = GetParam().c_str(); }
  Result filter(const attngraph_tensor& weights) {
    attngraph_result* result = nullptr;
    EXPECT_EQ(attngraph_filter_matrix(context_.get(), &weights, &options_, &result), ATTNGRAPH_OK)
        << attngraph_last_error();
    return Result(result);
  }
  Context context_ = make_context();
  attngraph_options options_ = default_options();
};
INSTANTIATE_TEST_SUITE_P(Api, EveryResult, testing::ValuesIn(working_backends()),
                         [](const auto& backend) { return backend.param; });

TEST_P(EveryResult, EmptyInputIsAResult) {
  struct {
    std::int64_t b, h, nq, nk, slices;
  } const shapes[] = {{0, 2, 3, 3, 0}, {2, 0, 3, 3, 0}, {2, 2, 0, 3, 4}, {2, 2, 3, 0, 4}, {2, 2, 0, 0, 4}};
  for (const auto& s : shapes) {
    SCOPED_TRACE(testing::Message() << s.b << ' ' << s.h << ' ' << s.nq << ' ' << s.nk);
    const Tensor<float> q = random_tensor({s.b, s.h, s.nq, 4}, 1), k = random_tensor({s.b, s.h, s.nk, 4}, 2);
    const Tensor<float> w = random_tensor({s.b, s.h, s.nq, s.nk}, 3);
    options_.stats = ATTNGRAPH_STATS_ENTROPY | ATTNGRAPH_STATS_COLUMNS | ATTNGRAPH_STATS_DISTANCES;
    for (const bool matrix : {false, true}) {
      const Result result = matrix ? filter(w.view()) : extract(context_, q.view(), k.view(), options_);
      ASSERT_EQ(attngraph_result_slice_count(result.get()), s.slices);
      EXPECT_EQ(attngraph_result_edge_count(result.get()), 0);
      for (std::int64_t n = 0; n < s.slices; ++n) {
        attngraph_csr csr;
        attngraph_rows rows;
        ASSERT_EQ(attngraph_result_csr(result.get(), n, &csr), ATTNGRAPH_OK);
        ASSERT_EQ(attngraph_result_rows(result.get(), n, &rows), ATTNGRAPH_OK);
        EXPECT_EQ(csr.query_count, s.nq);
        EXPECT_EQ(csr.key_count, s.nk);
        for (std::int64_t r = 0; r <= s.nq; ++r) EXPECT_EQ(csr.offsets[r], 0);
        for (std::int64_t r = 0; r < s.nq; ++r) {
          EXPECT_EQ(rows.logsumexp[r], -std::numeric_limits<double>::infinity());
          EXPECT_EQ(rows.max_key[r], -1);
        }
      }
      attngraph_summary summary;
      ASSERT_EQ(attngraph_result_summary(result.get(), -1, &summary), ATTNGRAPH_OK);
      EXPECT_EQ(summary.empty_rows, s.slices * s.nq);
      EXPECT_EQ(summary.kept_mass_mean, 0);
      attngraph_report report;
      ASSERT_EQ(attngraph_result_report(result.get(), &report), ATTNGRAPH_OK);
      EXPECT_EQ(report.empty_rows, s.slices * s.nq);
      EXPECT_EQ(report.kept_mass, 0);
    }
  }
}

TEST_P(EveryResult, ViewsOfSeveralSlicesStandApart) {
  const Tensor<float> q = random_tensor({2, 2, 9, 4}, 4);
  options_.query_begin = 3;
  options_.query_end = 8;
  const Result result = extract(context_, q.view(), q.view(), options_);
  ASSERT_EQ(attngraph_result_slice_count(result.get()), 4);
  std::int64_t edges = 0;
  for (std::int64_t n = 0; n < 4; ++n) {
    attngraph_csr csr;
    attngraph_rows rows;
    ASSERT_EQ(attngraph_result_csr(result.get(), n, &csr), ATTNGRAPH_OK);
    ASSERT_EQ(attngraph_result_rows(result.get(), n, &rows), ATTNGRAPH_OK);
    EXPECT_EQ(csr.batch, n / 2);
    EXPECT_EQ(csr.head, n % 2);
    EXPECT_EQ(csr.query_begin, 3);
    EXPECT_EQ(csr.query_count, 5);
    EXPECT_EQ(csr.offsets[0], 0);
    EXPECT_EQ(csr.offsets[5], csr.edge_count);
    edges += csr.edge_count;
    for (std::int64_t r = 0; r < 5; ++r) {
      double mass = 0;
      for (std::int64_t e = csr.offsets[r]; e < csr.offsets[r + 1]; ++e) {
        mass += static_cast<double>(static_cast<const float*>(csr.weights)[e]);
        EXPECT_TRUE(e == csr.offsets[r] || csr.keys[e - 1] < csr.keys[e]);
      }
      EXPECT_NEAR(rows.kept_mass[r], mass, 1e-5);
    }
  }
  EXPECT_EQ(edges, attngraph_result_edge_count(result.get()));
  attngraph_csr csr;
  std::memset(&csr, 0x5A, sizeof csr);
  const attngraph_csr canary = csr;
  EXPECT_EQ(attngraph_result_csr(result.get(), 4, &csr), ATTNGRAPH_ERROR_NOT_FOUND);
  EXPECT_EQ(attngraph_result_csr(result.get(), -1, &csr), ATTNGRAPH_ERROR_NOT_FOUND);
  EXPECT_EQ(std::memcmp(&csr, &canary, sizeof csr), 0);
}

// numpy.random.seed(42); rand(8, 8); rows divided by their sums.
Tensor<double> seed_42_matrix() {
  std::mt19937 random(42);
  Tensor<double> m{{8, 8}, std::vector<double>(64), ATTNGRAPH_F64};
  for (double& x : m.values) {
    const std::uint32_t a = static_cast<std::uint32_t>(random()) >> 5, b = static_cast<std::uint32_t>(random()) >> 6;
    x = (a * 67108864.0 + b) / 9007199254740992.0;
  }
  for (std::size_t i = 0; i < 8; ++i) {
    double* const row = m.values.data() + 8 * i;
    // numpy adds eight numbers pairwise.
    const double sum = ((row[0] + row[1]) + (row[2] + row[3])) + ((row[4] + row[5]) + (row[6] + row[7]));
    for (std::size_t j = 0; j < 8; ++j) row[j] /= sum;
  }
  return m;
}

TEST_P(EveryResult, TheSeed42MatrixHasItsKnownEdges) {
  const Tensor<double> m = seed_42_matrix();
  options_.threshold = 0;
  const Result result = filter(m.view());
  const std::vector<double> thresholds{0, 0.10, 0.15, 0.20, 0.25};
  const std::vector<std::int64_t> expected{64, 38, 27, 10, 3};
  attngraph_sweep_row rows[5];
  ASSERT_EQ(attngraph_result_sweep(result.get(), thresholds.data(), 5, rows), ATTNGRAPH_OK);
  for (std::size_t n = 0; n < 5; ++n) {
    EXPECT_EQ(rows[n].edges, expected[n]);
    options_.threshold = thresholds[n];
    EXPECT_EQ(attngraph_result_edge_count(filter(m.view()).get()), expected[n]);
  }
  attngraph_edge edges[3];
  std::memset(edges, 0x5A, sizeof edges);
  const attngraph_edge canary = edges[2];
  std::int64_t count = 0;
  ASSERT_EQ(attngraph_result_top(result.get(), 2, edges, &count), ATTNGRAPH_OK);
  ASSERT_EQ(count, 2);
  EXPECT_EQ(edges[0].query, 7);
  EXPECT_EQ(edges[0].key, 6);
  EXPECT_EQ(edges[0].weight, 0.33142207205256036);
  EXPECT_EQ(edges[1].query, 5);
  EXPECT_EQ(edges[1].key, 3);
  EXPECT_EQ(edges[1].weight, 0.2743871188233156);
  EXPECT_EQ(std::memcmp(&edges[2], &canary, sizeof canary), 0) << "room for n edges only is written";
}

TEST_P(EveryResult, QuestionsThatMakeNoSenseAreRefusedAndWriteNothing) {
  const Tensor<float> q = random_tensor({8, 4}, 5);
  const Result result = extract(context_, q.view(), q.view(), options_);
  struct Canaries {
    attngraph_edge edge;
    attngraph_sweep_row row;
    attngraph_difference difference;
    attngraph_summary summary;
    std::int64_t count;
  } out, canary;
  std::memset(&out, 0x5A, sizeof out);
  std::memset(&canary, 0x5A, sizeof canary);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double bad[] = {0.1, nan}, negative[] = {-0.1};
  EXPECT_EQ(attngraph_result_top(result.get(), -1, &out.edge, &out.count), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_result_top(result.get(), 1, &out.edge, nullptr), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_result_sweep(result.get(), bad, 2, &out.row), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_result_sweep(result.get(), negative, 1, &out.row), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_result_sweep(result.get(), bad, -1, &out.row), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_result_summary(result.get(), -2, &out.summary), ATTNGRAPH_ERROR_NOT_FOUND);
  EXPECT_EQ(attngraph_result_diff(result.get(), result.get(), nan, &out.difference), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_result_diff(result.get(), result.get(), -1, &out.difference), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(std::memcmp(&out, &canary, sizeof out), 0);

  attngraph_result* none = nullptr;
  attngraph_part part = ATTNGRAPH_PART_INIT;
  part.threshold = nan;
  EXPECT_EQ(attngraph_result_part(result.get(), &part, &none), ATTNGRAPH_ERROR_ARGUMENT);
  part = ATTNGRAPH_PART_INIT;
  part.top_k = -1;
  EXPECT_EQ(attngraph_result_part(result.get(), &part, &none), ATTNGRAPH_ERROR_ARGUMENT);
  part = ATTNGRAPH_PART_INIT;
  part.head_count = 1;
  EXPECT_EQ(attngraph_result_part(result.get(), &part, &none), ATTNGRAPH_ERROR_ARGUMENT);
  part.head_count = -1;
  EXPECT_EQ(attngraph_result_part(result.get(), &part, &none), ATTNGRAPH_ERROR_ARGUMENT);
  const std::int64_t missing = 9;
  part = ATTNGRAPH_PART_INIT;
  part.layers = &missing;
  part.layer_count = 1;
  EXPECT_EQ(attngraph_result_part(result.get(), &part, &none), ATTNGRAPH_ERROR_NOT_FOUND);
  EXPECT_EQ(none, nullptr);
}

TEST_P(EveryResult, InputsAreReadInPlaceAndNotPastTheirEnds) {
  // NaN all around the tensors: reading one of them would be an error.
  const std::int64_t shape[] = {2, 3, 5}, strides[] = {30, 10, 2};
  std::vector<float> memory(100, std::numeric_limits<float>::quiet_NaN());
  for (std::int64_t h = 0; h < 2; ++h)
    for (std::int64_t i = 0; i < 3; ++i)
      for (std::int64_t d = 0; d < 5; ++d)
        memory[static_cast<std::size_t>(20 + 30 * h + 10 * i + 2 * d)] = static_cast<float>(h + i - d) / 4;
  const std::vector<float> before = memory;
  attngraph_tensor q{memory.data() + 20, ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F32, 3, shape, strides};
  const Result result = extract(context_, q, q, options_);
  EXPECT_GT(attngraph_result_edge_count(result.get()), 0);
  EXPECT_EQ(std::memcmp(memory.data(), before.data(), memory.size() * sizeof(float)), 0);
}

TEST_P(EveryResult, SmallerNdimMeansLeadingOnes) {
  const Tensor<float> four = random_tensor({1, 1, 7, 4}, 6);
  Tensor<float> two = four;
  two.shape = {7, 4};
  Tensor<float> three = four;
  three.shape = {1, 7, 4};
  const std::vector<Row> expected = table_of(extract(context_, four.view(), four.view(), options_).get());
  EXPECT_EQ(table_of(extract(context_, two.view(), three.view(), options_).get()), expected);
  EXPECT_EQ(table_of(extract(context_, two.view(), four.view(), options_).get()), expected);
}

TEST_P(EveryResult, ChosenHeadsAreThoseOfTheWhole) {
  const Tensor<float> q = random_tensor({2, 4, 6, 4}, 7), k = random_tensor({2, 2, 6, 4}, 8);
  std::vector<Row> expected = table_of(extract(context_, q.view(), k.view(), options_).get());
  std::erase_if(expected, [](const Row& row) { return row.head != 1 && row.head != 2; });
  const std::int64_t heads[] = {1, 2};
  options_.heads = heads;
  options_.head_count = 2;
  EXPECT_EQ(table_of(extract(context_, q.view(), k.view(), options_).get()), expected);
}

TEST_P(EveryResult, AMaskBroadcastsAsIfWrittenOut) {
  const Tensor<float> q = random_tensor({2, 3, 6, 4}, 9);
  Tensor<unsigned char> row{{1, 3, 1, 6}, std::vector<unsigned char>(18), ATTNGRAPH_BOOL};
  for (std::size_t n = 0; n < 18; ++n) row.values[n] = n % 3 != 1 ? 255 : 0;
  Tensor<unsigned char> full{{2, 3, 6, 6}, {}, ATTNGRAPH_BOOL};
  for (int b = 0; b < 2; ++b)
    for (std::size_t h = 0; h < 3; ++h)
      for (int i = 0; i < 6; ++i)
        full.values.insert(full.values.end(), row.values.begin() + static_cast<std::ptrdiff_t>(6 * h),
                           row.values.begin() + static_cast<std::ptrdiff_t>(6 * h + 6));
  attngraph_tensor mask = row.view();
  options_.mask = &mask;
  const std::vector<Row> broadcast = table_of(extract(context_, q.view(), q.view(), options_).get());
  mask = full.view();
  EXPECT_EQ(table_of(extract(context_, q.view(), q.view(), options_).get()), broadcast);
  EXPECT_TRUE(std::all_of(broadcast.begin(), broadcast.end(), [&](const Row& edge) {
    return row.values[static_cast<std::size_t>(6 * edge.head + edge.key)] != 0;
  }));
  ASSERT_FALSE(broadcast.empty());
}

TEST_P(EveryResult, AGivenLogsumexpMakesTheSameEdges) {
  const Tensor<float> q = random_tensor({2, 3, 12, 4}, 10);
  const Result result = extract(context_, q.view(), q.view(), options_);
  Tensor<double> lse{{2, 3, 12}, {}, ATTNGRAPH_F64};
  for (std::int64_t n = 0; n < 6; ++n) {
    attngraph_rows rows;
    ASSERT_EQ(attngraph_result_rows(result.get(), n, &rows), ATTNGRAPH_OK);
    lse.values.insert(lse.values.end(), rows.logsumexp, rows.logsumexp + 12);
  }
  attngraph_tensor given = lse.view();
  options_.lse = &given;
  const Result natural = extract(context_, q.view(), q.view(), options_);
  for (double& x : lse.values) x /= std::log(2.0);
  options_.lse_base = ATTNGRAPH_LSE_BASE_2;
  const Result binary = extract(context_, q.view(), q.view(), options_);
  for (const Result* one : {&natural, &binary}) {
    attngraph_difference difference;
    ASSERT_EQ(attngraph_result_diff(result.get(), one->get(), 1e-5, &difference), ATTNGRAPH_OK);
    EXPECT_EQ(difference.only_a + difference.only_b, 0);
    EXPECT_GT(difference.common, 0);
    EXPECT_LT(difference.max_weight_difference, 1e-5);
  }
}

TEST(Products, AreMadeInFloatWhereThatIsAsked) {
  Tensor<std::uint16_t> q{{2, 40, 32}, {}, ATTNGRAPH_BF16};
  for (const float x : random_tensor(q.shape, 11).values)
    q.values.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16));
  const Context context = make_context();
  attngraph_options options = default_options();
  const Result by_default = extract(context, q.view(), q.view(), options);
  options.products = ATTNGRAPH_PRODUCTS_FLOAT;
  const Result in_float = extract(context, q.view(), q.view(), options);
  attngraph_report report;
  ASSERT_EQ(attngraph_result_report(in_float.get(), &report), ATTNGRAPH_OK);
  EXPECT_STRNE(report.target, "AVX512_BF16");
  EXPECT_STRNE(report.target, "AMX");
  attngraph_difference difference;
  ASSERT_EQ(attngraph_result_diff(by_default.get(), in_float.get(), 1e-5, &difference), ATTNGRAPH_OK);
  EXPECT_EQ(difference.only_a + difference.only_b, 0);
  EXPECT_GT(difference.common, 0);
}

TEST_P(EveryResult, ExplainsWithoutReadingAnything) {
  const std::int64_t shape[] = {4, 100000, 128};
  const attngraph_tensor q{nullptr, ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F16, 3, shape, nullptr};
  char* text = nullptr;
  ASSERT_EQ(attngraph_explain(context_.get(), &q, &q, &options_, &text), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_NE(std::string(text).find(GetParam()), std::string::npos) << text;
  attngraph_string_free(text);
  text = nullptr;
  ASSERT_EQ(attngraph_explain(context_.get(), &q, nullptr, &options_, &text), ATTNGRAPH_OK) << attngraph_last_error();
  attngraph_string_free(text);
  text = nullptr;
  options_.threshold = -1;
  EXPECT_EQ(attngraph_explain(context_.get(), &q, &q, &options_, &text), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(text, nullptr);
}

TEST(Backends, AreListedInOrderOfMeaning) {
  ASSERT_GE(attngraph_backend_count(), 2);
  EXPECT_STREQ(attngraph_backend_name(0), "reference");
  EXPECT_EQ(attngraph_backend_unavailable(0), nullptr);
  for (std::int32_t i = 0; i < attngraph_backend_count(); ++i) {
    EXPECT_NE(attngraph_backend_device(i), nullptr);
    EXPECT_EQ(std::string(attngraph_backend_device(i)).find('\n'), std::string::npos);
  }
  EXPECT_EQ(attngraph_abi_version(), ATTNGRAPH_ABI_VERSION);
  EXPECT_EQ(std::string(attngraph_version()), std::to_string(ATTNGRAPH_VERSION_MAJOR) + "." +
                                                  std::to_string(ATTNGRAPH_VERSION_MINOR) + "." +
                                                  std::to_string(ATTNGRAPH_VERSION_PATCH));
}

}  // namespace
}  // namespace attngraph_test
