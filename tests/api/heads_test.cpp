// SPDX-License-Identifier: Apache-2.0
// The table of heads, of every backend, against dense attention in double; and reports that travel.
#include <cmath>
#include <cstring>

#include "support.hpp"

namespace attngraph_test {
namespace {

constexpr std::int64_t kHeads = 4, kKeyHeads = 2, kKeys = 70, kQueries = 60, kDim = 8, kWindow = 5;

const std::vector<std::int64_t> kTokenIds = [] {
  std::vector<std::int64_t> ids;
  for (std::int64_t j = 0; j < kKeys; ++j) ids.push_back(j % 11 == 7 ? -1 : (j * j) % 13);
  return ids;
}();
const std::vector<std::int64_t> kWordIds = [] {
  std::vector<std::int64_t> ids;
  for (std::int64_t j = 0; j < kKeys; ++j) ids.push_back(j / 3);
  return ids;
}();

attngraph_tensor ids_view(const std::vector<std::int64_t>& ids, const std::int64_t* shape) {
  return {ids.data(), ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_I64, 1, shape, nullptr};
}

// What every backend must find, by plain loops.
struct Expected {
  double self = 0, previous = 0, window = 0, distance = 0, first = 0, induction = 0, duplicate = 0, word = 0,
         entropy = 0;
  double mass = 0, queries = 0;
};

class EveryHeads : public testing::TestWithParam<std::string> {
 protected:
  EveryHeads() {
    options_.backend = GetParam().c_str();
    options_.stats = ATTNGRAPH_STATS_HEADS | ATTNGRAPH_STATS_TOKENS;
    options_.token_ids = &tokens_;
    options_.word_ids = &words_;
    options_.threshold = 0.05;
  }

  double score(std::int64_t h, std::int64_t i, std::int64_t j) const {
    double sum = 0;
    for (std::int64_t d = 0; d < kDim; ++d) {
      sum += static_cast<double>(q_.values[static_cast<std::size_t>((h * kQueries + i) * kDim + d)]) *
             static_cast<double>(k_.values[static_cast<std::size_t>((h / 2 * kKeys + j) * kDim + d)]);
    }
    sum /= std::sqrt(static_cast<double>(kDim));
    if (options_.softcap > 0) sum = options_.softcap * std::tanh(sum / options_.softcap);
    if (options_.alibi != nullptr)
      sum -= slopes_.values[static_cast<std::size_t>(h)] * std::abs(static_cast<double>(i + kKeys - kQueries - j));
    return sum;
  }
  bool sees(std::int64_t position, std::int64_t j) const {
    return (options_.causal == 0 || j <= position) &&
           (options_.window == 0 || std::abs(position - j) < options_.window);
  }

  Expected dense(std::int64_t h, double sink) const {
    Expected out;
    for (std::int64_t i = 0; i < kQueries; ++i) {
      const std::int64_t position = i + kKeys - kQueries;
      double whole = std::exp(sink);
      for (std::int64_t j = 0; j < kKeys; ++j) whole += sees(position, j) ? std::exp(score(h, i, j)) : 0;
      out.queries += 1;
      if (std::isfinite(sink)) out.entropy -= std::exp(sink) / whole * (sink - std::log(whole));
      for (std::int64_t j = 0; j < kKeys; ++j) {
        if (!sees(position, j)) continue;
        const double w = std::exp(score(h, i, j)) / whole;
        out.mass += w;
        out.entropy -= w * std::log(w);
        out.self += j == position ? w : 0;
        out.previous += j == position - 1 ? w : 0;
        out.window += std::abs(position - j) < kWindow ? w : 0;
        out.distance += w * static_cast<double>(std::abs(position - j));
        out.first += j == 0 ? w : 0;
        const auto id = [](std::int64_t at) { return kTokenIds[static_cast<std::size_t>(at)]; };
        const bool known = id(position) >= 0;
        out.duplicate += known && j != position && id(j) == id(position) ? w : 0;
        out.induction += known && j > 0 && j - 1 < position && id(j - 1) == id(position) ? w : 0;
        out.word += j != position && j / 3 == position / 3 ? w : 0;
      }
    }
    return out;
  }

  void compare(const attngraph_result* result, double sink) const {
    std::vector<attngraph_head> heads(kHeads);
    ASSERT_EQ(attngraph_result_heads(result, kWindow, heads.data()), ATTNGRAPH_OK) << attngraph_last_error();
    for (std::int64_t h = 0; h < kHeads; ++h) {
      SCOPED_TRACE(h);
      const attngraph_head& found = heads[static_cast<std::size_t>(h)];
      const Expected want = dense(h, sink);
      EXPECT_EQ(found.head, h);
      EXPECT_EQ(found.queries, kQueries);
      EXPECT_NEAR(found.self_share, want.self / want.queries, 1e-6);
      EXPECT_NEAR(found.previous_share, want.previous / want.queries, 1e-6);
      EXPECT_NEAR(found.window_share, want.window / want.queries, 1e-6);
      EXPECT_NEAR(found.mean_distance, want.distance / want.mass, 1e-5);
      EXPECT_NEAR(found.first_share, want.first / want.queries, 1e-6);
      EXPECT_NEAR(found.induction_share, want.induction / want.queries, 1e-6);
      EXPECT_NEAR(found.duplicate_share, want.duplicate / want.queries, 1e-6);
      EXPECT_NEAR(found.same_word_share, want.word / want.queries, 1e-6);
      EXPECT_NEAR(found.entropy, want.entropy / want.queries, 1e-5);
      EXPECT_TRUE(std::isnan(found.punctuation_share));
    }
  }

  const Tensor<float> q_ = random_tensor({kHeads, kQueries, kDim}, 1), k_ = random_tensor({kKeyHeads, kKeys, kDim}, 2);
  const Tensor<double> slopes_{{kHeads}, {0.3, 0.1, 0.02, 0.0}, ATTNGRAPH_F64};
  const attngraph_tensor slopes_view_ = slopes_.view();
  const std::int64_t shape_[1] = {kKeys};
  const attngraph_tensor tokens_ = ids_view(kTokenIds, shape_), words_ = ids_view(kWordIds, shape_);
  const Context context_ = make_context();
  attngraph_options options_ = default_options();
};
INSTANTIATE_TEST_SUITE_P(Api, EveryHeads, testing::ValuesIn(working_backends()),
                         [](const auto& backend) { return backend.param; });

TEST_P(EveryHeads, AreThoseOfDenseAttention) {
  for (const std::int32_t causal : {1, 0}) {
    for (const std::int64_t window : {0, 9}) {
      SCOPED_TRACE(testing::Message() << causal << ' ' << window);
      options_.causal = causal;
      options_.window = window;
      options_.softcap = window > 0 ? 3.0 : 0.0;
      compare(extract(context_, q_.view(), k_.view(), options_).get(), -HUGE_VAL);
    }
  }
}

TEST_P(EveryHeads, CountTheSlopesOfDistance) {
  options_.alibi = &slopes_view_;
  for (const std::int32_t causal : {1, 0}) {
    options_.causal = causal;
    compare(extract(context_, q_.view(), k_.view(), options_).get(), -HUGE_VAL);
  }
}

TEST_P(EveryHeads, LeaveToASinkWhatItTakes) {
  const Tensor<float> sinks{{kHeads}, std::vector<float>(kHeads, 1.5F), ATTNGRAPH_F32};
  const attngraph_tensor view = sinks.view();
  options_.sinks = &view;
  options_.causal = 1;
  compare(extract(context_, q_.view(), k_.view(), options_).get(), 1.5);
}

TEST_P(EveryHeads, DoNotDependOnThreadsAndSurviveAFile) {
  options_.causal = 1;
  const Result one = extract(context_, q_.view(), k_.view(), options_);
  options_.threads = 3;
  const Result three = extract(context_, q_.view(), k_.view(), options_);
  const Folder folder;
  attngraph_sink* sink = nullptr;
  ASSERT_EQ(attngraph_sink_create_file(&sink, (folder / "g.npz").c_str(), nullptr, nullptr), ATTNGRAPH_OK);
  const Sink owner(sink);
  ASSERT_EQ(attngraph_result_write(one.get(), sink), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_sink_finish(sink), ATTNGRAPH_OK);
  attngraph_result* loaded = nullptr;
  ASSERT_EQ(attngraph_result_load((folder / "g.npz").c_str(), &loaded), ATTNGRAPH_OK) << attngraph_last_error();
  const Result read(loaded);
  std::vector<attngraph_head> a(kHeads), b(kHeads), c(kHeads);
  ASSERT_EQ(attngraph_result_heads(one.get(), kWindow, a.data()), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_result_heads(three.get(), kWindow, b.data()), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_result_heads(read.get(), kWindow, c.data()), ATTNGRAPH_OK);
  EXPECT_EQ(std::memcmp(a.data(), b.data(), sizeof(attngraph_head) * a.size()), 0);
  EXPECT_EQ(std::memcmp(a.data(), c.data(), sizeof(attngraph_head) * a.size()), 0);
}

TEST_P(EveryHeads, OfAReadyMatrixAreSharesOfItsWeights) {
  const Tensor<double> weights{{1, 3, 3}, {1, 0, 0, 0.5, 0.5, 0, 0.25, 0.25, 0.5}, ATTNGRAPH_F64};
  const attngraph_tensor view = weights.view();
  const std::vector<std::int64_t> ids = {4, 5, 4};
  const std::int64_t shape[] = {3};
  const attngraph_tensor tokens = ids_view(ids, shape);
  options_.token_ids = &tokens;
  options_.word_ids = nullptr;
  attngraph_result* result = nullptr;
  ASSERT_EQ(attngraph_filter_matrix(context_.get(), &view, &options_, &result), ATTNGRAPH_OK) << attngraph_last_error();
  const Result owner(result);
  attngraph_head head;
  ASSERT_EQ(attngraph_result_heads(result, 1, &head), ATTNGRAPH_OK);
  EXPECT_DOUBLE_EQ(head.first_share, 1.75 / 3);
  EXPECT_DOUBLE_EQ(head.self_share, 2.0 / 3);
  EXPECT_DOUBLE_EQ(head.duplicate_share, 0.25 / 3);
  EXPECT_DOUBLE_EQ(head.induction_share, 0.25 / 3);
  EXPECT_TRUE(std::isnan(head.same_word_share));
  EXPECT_EQ(head.heaviest_key, 0);
}

TEST(Heads, WithoutStatisticsAreUnknown) {
  const Tensor<float> q = random_tensor({2, 5, 4}, 1);
  const Result result = extract(make_context(), q.view(), q.view(), default_options());
  std::vector<attngraph_head> heads(2);
  ASSERT_EQ(attngraph_result_heads(result.get(), 4, heads.data()), ATTNGRAPH_OK);
  EXPECT_EQ(heads[0].queries, 5);
  EXPECT_GT(heads[0].kept_mass, 0);
  EXPECT_EQ(heads[0].heaviest_key, -1);
  for (const double figure : {heads[0].entropy, heads[0].self_share, heads[0].first_share, heads[0].induction_share})
    EXPECT_TRUE(std::isnan(figure));
  EXPECT_EQ(attngraph_result_heads(result.get(), 0, heads.data()), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_result_heads(nullptr, 1, heads.data()), ATTNGRAPH_ERROR_ARGUMENT);
}

TEST(Heads, NeedTokensOfTheRightNumber) {
  const Tensor<float> q = random_tensor({2, 5, 4}, 1);
  const attngraph_tensor view = q.view();
  attngraph_options options = default_options();
  options.stats = ATTNGRAPH_STATS_TOKENS;
  attngraph_result* result = nullptr;
  const Context context = make_context();
  EXPECT_EQ(attngraph_extract(context.get(), &view, &view, &options, &result), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_NE(std::strstr(attngraph_last_error(), "give token_ids, or tokens"), nullptr) << attngraph_last_error();
  const std::vector<std::int64_t> ids(4);
  const std::int64_t shape[] = {4};
  const attngraph_tensor tokens = ids_view(ids, shape);
  options.token_ids = &tokens;
  EXPECT_EQ(attngraph_extract(context.get(), &view, &view, &options, &result), ATTNGRAPH_ERROR_SHAPE);
  EXPECT_NE(std::strstr(attngraph_last_error(), "one for every key"), nullptr) << attngraph_last_error();
}

// ---------------------------------------------------------------------------------------------------------------------
// reports travel

attngraph_report report_of(const attngraph_result* result) {
  attngraph_report report{};
  EXPECT_EQ(attngraph_result_report(result, &report), ATTNGRAPH_OK);
  return report;
}

Result made() {
  const Tensor<float> q = random_tensor({2, 20, 8}, 1);
  Result result = extract(make_context(), q.view(), q.view(), default_options());
  EXPECT_GT(report_of(result.get()).eps, 0);
  return result;
}

TEST(Reports, TravelThroughEveryOperation) {
  const Result graph = made();
  const attngraph_report before = report_of(graph.get());
  // By reference: which argument is evaluated first is open.
  const auto same = [&](attngraph_status status, attngraph_result*& answer, const char* what) {
    ASSERT_EQ(status, ATTNGRAPH_OK) << what << ": " << attngraph_last_error();
    const Result owner(answer);
    EXPECT_EQ(report_of(answer).eps, before.eps) << what;
    EXPECT_EQ(report_of(answer).borderline, before.borderline) << what;
    EXPECT_STREQ(report_of(answer).backend, before.backend) << what;
  };
  attngraph_result* out = nullptr;
  attngraph_part part = ATTNGRAPH_PART_INIT;
  part.query_end = 7;
  same(attngraph_result_part(graph.get(), &part, &out), out, "part");
  attngraph_group group = ATTNGRAPH_GROUP_INIT;
  group.rest = ATTNGRAPH_REST_OWN;
  same(attngraph_result_group(graph.get(), &group, &out), out, "group");
  const attngraph_result* one[] = {graph.get()};
  same(attngraph_results_join(one, 1, nullptr, &out), out, "join");
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_result_write(graph.get(), sink.get()), ATTNGRAPH_OK);
  same(attngraph_sink_take_result(sink.get(), &out), out, "write");
}

TEST(Reports, OfTheCallersOwnSlicesAreUnknownUntilTold) {
  const Result graph = made();
  attngraph_csr csr;
  ASSERT_EQ(attngraph_result_csr(graph.get(), 0, &csr), ATTNGRAPH_OK);
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_add_slice(sink.get(), &csr, nullptr), ATTNGRAPH_OK);
  const Result unknown = take(sink);
  EXPECT_TRUE(std::isnan(report_of(unknown.get()).eps));
  EXPECT_EQ(report_of(unknown.get()).borderline, -1);

  ASSERT_EQ(attngraph_sink_add_slice(sink.get(), &csr, nullptr), ATTNGRAPH_OK);
  const attngraph_report told = report_of(graph.get());
  ASSERT_EQ(attngraph_sink_set_report(sink.get(), &told), ATTNGRAPH_OK);
  const Result known = take(sink);
  EXPECT_EQ(report_of(known.get()).eps, told.eps);
  EXPECT_STREQ(report_of(known.get()).backend, "cpu");
  EXPECT_GT(report_of(known.get()).kept_mass, 0);

  attngraph_report wrong = told;
  wrong.eps = -1;
  EXPECT_EQ(attngraph_sink_set_report(sink.get(), &wrong), ATTNGRAPH_ERROR_ARGUMENT);
  // A result of known report beside slices of unknown making: the whole is unknown.
  ASSERT_EQ(attngraph_result_write(graph.get(), sink.get()), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_sink_add_slice(sink.get(), &csr, nullptr), ATTNGRAPH_OK);
  EXPECT_TRUE(std::isnan(report_of(take(sink).get()).eps));
}

TEST(Reports, OfATableAreUnknown) {
  const Result graph = made();
  const Folder folder;
  attngraph_sink* sink = nullptr;
  ASSERT_EQ(attngraph_sink_create_file(&sink, (folder / "g.csv").c_str(), nullptr, nullptr), ATTNGRAPH_OK);
  const Sink owner(sink);
  ASSERT_EQ(attngraph_result_write(graph.get(), sink), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_sink_finish(sink), ATTNGRAPH_OK);
  attngraph_result* loaded = nullptr;
  ASSERT_EQ(attngraph_result_load((folder / "g.csv").c_str(), &loaded), ATTNGRAPH_OK);
  const Result read(loaded);
  EXPECT_TRUE(std::isnan(report_of(loaded).eps));
  EXPECT_EQ(report_of(loaded).borderline, -1);
}

TEST(Weights, AreAtMostOne) {
  // One key far heavier than the others: rounding would carry its weight past 1.
  const Context context = make_context();
  for (unsigned seed = 0; seed < 20; ++seed) {
    Tensor<float> q = random_tensor({1, 200, 16}, seed);
    for (float& x : q.values) x *= 3;
    for (const std::string& backend : working_backends()) {
      attngraph_options options = default_options();
      options.backend = backend.c_str();
      options.causal = 1;
      for (const Row& row : table_of(extract(context, q.view(), q.view(), options).get())) ASSERT_LE(row.weight, 1);
    }
  }
}

}  // namespace
}  // namespace attngraph_test
