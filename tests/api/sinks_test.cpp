// SPDX-License-Identifier: Apache-2.0
// Where rows go: memory, files, callbacks, counts.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "support.hpp"

namespace attngraph_test {
namespace {

const Tensor<float> kQ = random_tensor({2, 3, 20, 8}, 21);  // B = 2, Hq = 3, Nq = 20
const Tensor<float> kK = random_tensor({2, 1, 20, 8}, 22);

class EverySink : public testing::TestWithParam<std::string> {
 protected:
  EverySink() {
    options_.backend = GetParam().c_str();
    options_.causal = 1;
  }
  attngraph_status extract_to(attngraph_sink* sink) {
    return attngraph_extract_to(context_.get(), &q_, &k_, &options_, sink);
  }
  Result extract_all() { return extract(context_, q_, k_, options_); }

  Context context_ = make_context();
  attngraph_tensor q_ = kQ.view(), k_ = kK.view();
  attngraph_options options_ = default_options();
  Folder folder_;
};
INSTANTIATE_TEST_SUITE_P(Api, EverySink, testing::ValuesIn(working_backends()),
                         [](const auto& backend) { return backend.param; });

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::size_t files_in(const std::string& folder) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

TEST_P(EverySink, CollectsWhatExtractReturns) {
  const Sink sink = make_collect_sink();
  ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  const Result whole = extract_all();
  EXPECT_EQ(attngraph_sink_edge_count(sink.get()), attngraph_result_edge_count(whole.get()));
  attngraph_report of_sink, of_result;
  EXPECT_EQ(attngraph_sink_report(sink.get(), &of_sink), ATTNGRAPH_OK);
  EXPECT_EQ(attngraph_result_report(whole.get(), &of_result), ATTNGRAPH_OK);
  EXPECT_EQ(of_sink.kept_mass, of_result.kept_mass);
  EXPECT_STREQ(of_sink.backend, GetParam().c_str());
  EXPECT_EQ(table_of(take(sink).get()), table_of(whole.get()));
}

TEST_P(EverySink, CollectsSeveralCallsAndBeginsAnewWhenTaken) {
  const Sink sink = make_collect_sink();
  for (options_.layer = 0; options_.layer < 3; ++options_.layer) ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK);
  const Result three = take(sink);
  EXPECT_EQ(attngraph_result_slice_count(three.get()), 3 * 2 * 3);
  attngraph_csr csr;
  ASSERT_EQ(attngraph_result_csr(three.get(), 17, &csr), ATTNGRAPH_OK);
  EXPECT_EQ(csr.layer, 2);
  EXPECT_EQ(csr.batch, 1);
  EXPECT_EQ(csr.head, 2);
  EXPECT_EQ(attngraph_sink_edge_count(sink.get()), 0);
  options_.layer = 0;
  ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK);
  EXPECT_EQ(table_of(take(sink).get()), table_of(extract_all().get()));
  EXPECT_EQ(attngraph_result_slice_count(take(sink).get()), 0);
}

TEST_P(EverySink, QueryRangesAddUpToTheWhole) {
  const std::vector<Row> whole = table_of(extract_all().get());
  std::vector<Row> parts;
  for (options_.query_begin = 0; options_.query_begin < 20; options_.query_begin = options_.query_end) {
    options_.query_end = std::min<std::int64_t>(options_.query_begin + 7, 20);
    const std::vector<Row> part = table_of(extract_all().get());
    parts.insert(parts.end(), part.begin(), part.end());
  }
  std::sort(parts.begin(), parts.end(), [](const Row& a, const Row& b) {
    return std::tie(a.batch, a.head, a.query, a.key) < std::tie(b.batch, b.head, b.query, b.key);
  });
  EXPECT_EQ(parts, whole);
}

TEST_P(EverySink, MaxEdgesFailsWithTheNumberNeeded) {
  const std::int64_t count = attngraph_result_edge_count(extract_all().get());
  ASSERT_GT(count, 10);
  options_.max_edges = static_cast<std::uint64_t>(count);
  EXPECT_EQ(attngraph_result_edge_count(extract_all().get()), count);
  for (const std::int64_t limit : {std::int64_t{1}, count / 2, count - 1}) {
    options_.max_edges = static_cast<std::uint64_t>(limit);
    attngraph_result* result = nullptr;
    EXPECT_EQ(attngraph_extract(context_.get(), &q_, &k_, &options_, &result), ATTNGRAPH_ERROR_LIMIT);
    EXPECT_EQ(result, nullptr);
    const std::string needed = "needs max_edges = " + std::to_string(count) + ",";
    EXPECT_NE(std::string(attngraph_last_error()).find(needed), std::string::npos) << attngraph_last_error();
  }
}

TEST_P(EverySink, ACallThatFailsHalfWaySpoilsTheSink) {
  options_.max_edges = 1;
  const Sink sink = make_collect_sink();
  EXPECT_EQ(extract_to(sink.get()), ATTNGRAPH_ERROR_LIMIT);
  options_.max_edges = 0;
  attngraph_result* result = nullptr;
  EXPECT_EQ(extract_to(sink.get()), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_NE(std::string(attngraph_last_error()).find("half way"), std::string::npos) << attngraph_last_error();
  EXPECT_EQ(attngraph_sink_take_result(sink.get(), &result), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_sink_finish(sink.get()), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(result, nullptr);
}

TEST_P(EverySink, ABudgetKeepsTheHeaviestEdgesOfAllCalls) {
  const Result whole = extract_all();
  std::vector<attngraph_edge> best(20);
  std::int64_t count = 0;
  ASSERT_EQ(attngraph_result_top(whole.get(), 10, best.data(), &count), ATTNGRAPH_OK);
  ASSERT_EQ(count, 10);

  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_set_budget(sink.get(), 20, 0), ATTNGRAPH_OK) << attngraph_last_error();
  options_.threads = 3;
  for (options_.layer = 0; options_.layer < 2; ++options_.layer) ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK);
  EXPECT_EQ(attngraph_sink_set_budget(sink.get(), 0, 0), ATTNGRAPH_ERROR_ARGUMENT) << "rows went in";
  const Result few = take(sink);
  ASSERT_EQ(attngraph_result_edge_count(few.get()), 20);
  EXPECT_STREQ(attngraph_result_metadata(few.get(), "budget"), "20");
  std::vector<attngraph_edge> kept(20);
  ASSERT_EQ(attngraph_result_top(few.get(), 20, kept.data(), &count), ATTNGRAPH_OK);
  double mass = 0;
  for (std::size_t i = 0; i < 20; ++i) {  // each edge of the one layer stands beside its twin
    EXPECT_EQ(kept[i].weight, best[i / 2].weight) << i;
    mass += kept[i].weight;
  }
  attngraph_report report, of_all;
  ASSERT_EQ(attngraph_result_report(few.get(), &report), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_result_report(whole.get(), &of_all), ATTNGRAPH_OK);
  std::int64_t rows = -2 * of_all.empty_rows;
  for (std::int64_t s = 0; s < attngraph_result_slice_count(few.get()); ++s) {
    attngraph_csr csr;
    ASSERT_EQ(attngraph_result_csr(few.get(), s, &csr), ATTNGRAPH_OK);
    rows += csr.query_count;
  }
  EXPECT_NEAR(report.kept_mass * static_cast<double>(rows), mass, 1e-6);

  // The sink begins anew, its budget too.
  options_.layer = 0;
  ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK);
  EXPECT_EQ(attngraph_result_edge_count(take(sink).get()), 20);
}

TEST_P(EverySink, ABudgetOfASliceIsKeptByEachOfThem) {
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_set_budget(sink.get(), 0, 3), ATTNGRAPH_OK);
  ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK);
  EXPECT_GT(attngraph_sink_edge_count(sink.get()), 3 * attngraph_result_slice_count(extract_all().get()));
  const Result few = take(sink);
  for (std::int64_t s = 0; s < attngraph_result_slice_count(few.get()); ++s) {
    attngraph_csr csr;
    ASSERT_EQ(attngraph_result_csr(few.get(), s, &csr), ATTNGRAPH_OK);
    EXPECT_EQ(csr.edge_count, 3);
  }
  const double thresholds[] = {0.1};
  attngraph_sink* sweep = nullptr;
  ASSERT_EQ(attngraph_sink_create_sweep(&sweep, thresholds, 1), ATTNGRAPH_OK);
  EXPECT_EQ(attngraph_sink_set_budget(sweep, 5, 0), ATTNGRAPH_ERROR_ARGUMENT) << "it keeps no edge";
  attngraph_sink_destroy(sweep);
}

TEST_P(EverySink, ACallThatIsRefusedLeavesTheSinkAsItWas) {
  const Sink sink = make_collect_sink();
  options_.threshold = 2;
  EXPECT_EQ(extract_to(sink.get()), ATTNGRAPH_ERROR_ARGUMENT);
  options_.threshold = 0.05;
  ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(table_of(take(sink).get()), table_of(extract_all().get()));
}

class EveryFormat : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Api, EveryFormat, testing::Values("csv", "jsonl", "npz", "safetensors", "graphml", "dot"),
                         [](const auto& format) { return std::string(format.param); });

TEST_P(EveryFormat, FilesAppearCompleteOrNotAtAll) {
  const Folder folder;
  const std::string path = folder / "graph.out";
  std::ofstream(path) << "what stood there";
  const attngraph_tensor q = kQ.view(), k = kK.view();
  const Context context = make_context();
  attngraph_options o = default_options();
  attngraph_sink* made = nullptr;

  // Without finish, everything is undone.
  ASSERT_EQ(attngraph_sink_create_file(&made, path.c_str(), GetParam(), nullptr), ATTNGRAPH_OK);
  Sink sink(made);
  ASSERT_EQ(attngraph_extract_to(context.get(), &q, &k, &o, sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(bytes_of(path), "what stood there");
  sink.reset();
  EXPECT_EQ(bytes_of(path), "what stood there");
  EXPECT_EQ(files_in(folder.path()), 1u);

  // After a call that failed half way, too.
  o.max_edges = 1;
  ASSERT_EQ(attngraph_sink_create_file(&made, path.c_str(), GetParam(), nullptr), ATTNGRAPH_OK);
  sink.reset(made);
  EXPECT_EQ(attngraph_extract_to(context.get(), &q, &k, &o, sink.get()), ATTNGRAPH_ERROR_LIMIT);
  EXPECT_EQ(attngraph_sink_finish(sink.get()), ATTNGRAPH_ERROR_ARGUMENT);
  sink.reset();
  EXPECT_EQ(bytes_of(path), "what stood there");
  EXPECT_EQ(files_in(folder.path()), 1u);

  // With finish it is there, and the sink only answers questions.
  o.max_edges = 0;
  ASSERT_EQ(attngraph_sink_create_file(&made, path.c_str(), GetParam(), nullptr), ATTNGRAPH_OK);
  sink.reset(made);
  ASSERT_EQ(attngraph_extract_to(context.get(), &q, &k, &o, sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  ASSERT_EQ(attngraph_sink_finish(sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  const std::string written = bytes_of(path);
  EXPECT_NE(written, "what stood there");
  EXPECT_FALSE(written.empty());
  EXPECT_EQ(attngraph_extract_to(context.get(), &q, &k, &o, sink.get()), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_sink_finish(sink.get()), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_sink_set_metadata(sink.get(), "a", "b"), ATTNGRAPH_ERROR_ARGUMENT);
  attngraph_report report;
  EXPECT_EQ(attngraph_sink_report(sink.get(), &report), ATTNGRAPH_OK);
  EXPECT_GT(attngraph_sink_edge_count(sink.get()), 0);
  sink.reset();
  EXPECT_EQ(bytes_of(path), written);
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST_P(EveryFormat, AGraphWithoutRowsIsAFileToo) {
  const Folder folder;
  const std::string path = folder / "empty.out";
  attngraph_sink* made = nullptr;
  ASSERT_EQ(attngraph_sink_create_file(&made, path.c_str(), GetParam(), nullptr), ATTNGRAPH_OK);
  const Sink sink(made);
  EXPECT_EQ(attngraph_sink_finish(sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(FileSink, FormatsAreToldBySuffixOrName) {
  const Folder folder;
  attngraph_sink* sink = nullptr;
  EXPECT_EQ(attngraph_sink_create_file(&sink, (folder / "graph.xyz").c_str(), nullptr, nullptr),
            ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_NE(std::string(attngraph_last_error()).find("graphml"), std::string::npos) << attngraph_last_error();
  EXPECT_EQ(attngraph_sink_create_file(&sink, (folder / "graph.csv").c_str(), "xyz", nullptr),
            ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(sink, nullptr);
  EXPECT_EQ(files_in(folder.path()), 0u);
}

struct Blocks {
  std::vector<Row> table;
  std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>> rows;  // batch, head, query
  std::int64_t stop_after = -1;

  static int receive(void* user, const attngraph_row_block* block) {
    Blocks& self = *static_cast<Blocks*>(user);
    EXPECT_EQ(block->offsets[0], 0);
    for (std::int64_t r = 0; r < block->row_count; ++r) {
      self.rows.emplace_back(block->batch, block->head, block->query_begin + r);
      double mass = 0;
      for (std::int64_t e = block->offsets[r]; e < block->offsets[r + 1]; ++e) {
        const double weight = static_cast<const float*>(block->weights)[e];
        mass += weight;
        self.table.push_back({block->batch, block->layer, block->head, block->query_begin + r, block->keys[e], weight});
      }
      EXPECT_NEAR(block->rows.kept_mass[r], mass, 1e-5);
      EXPECT_GE(block->rows.max_key[r], 0);
      EXPECT_TRUE(std::isfinite(block->rows.logsumexp[r]) && std::isfinite(block->rows.maximum[r]));
      EXPECT_TRUE(std::isnan(block->rows.entropy[r]));
    }
    EXPECT_EQ(block->key_count, 20);
    EXPECT_EQ(block->weight_dtype, ATTNGRAPH_F32);
    return self.stop_after >= 0 && static_cast<std::int64_t>(self.rows.size()) > self.stop_after ? 42 : 0;
  }
};

TEST_P(EverySink, CallbacksGetEveryRowOnceInOrder) {
  Blocks blocks;
  attngraph_sink* made = nullptr;
  ASSERT_EQ(attngraph_sink_create_callback(&made, Blocks::receive, &blocks), ATTNGRAPH_OK);
  const Sink sink(made);
  ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(blocks.table, table_of(extract_all().get()));
  EXPECT_EQ(blocks.rows.size(), 2u * 3u * 20u);
  EXPECT_TRUE(std::is_sorted(blocks.rows.begin(), blocks.rows.end()));
  EXPECT_EQ(std::adjacent_find(blocks.rows.begin(), blocks.rows.end()), blocks.rows.end());
}

TEST_P(EverySink, ACallbackCanStopTheCall) {
  Blocks blocks;
  blocks.stop_after = 30;
  attngraph_sink* made = nullptr;
  ASSERT_EQ(attngraph_sink_create_callback(&made, Blocks::receive, &blocks), ATTNGRAPH_OK);
  const Sink sink(made);
  EXPECT_EQ(extract_to(sink.get()), ATTNGRAPH_ERROR_CANCELLED);
  EXPECT_NE(std::string(attngraph_last_error()).find("42"), std::string::npos) << attngraph_last_error();
  EXPECT_LT(blocks.rows.size(), 2u * 3u * 20u);
  EXPECT_EQ(extract_to(sink.get()), ATTNGRAPH_ERROR_ARGUMENT);
}

TEST_P(EverySink, SweepsWithoutKeepingAnEdge) {
  const std::vector<double> thresholds{0.2, 0.05, 0.1, 0.2};
  options_.threshold = 0.05;
  attngraph_sink* made = nullptr;
  ASSERT_EQ(attngraph_sink_create_sweep(&made, thresholds.data(), 4), ATTNGRAPH_OK);
  const Sink sink(made);
  ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  attngraph_sweep_row streamed[4], kept[4];
  ASSERT_EQ(attngraph_sink_sweep_rows(sink.get(), streamed), ATTNGRAPH_OK);
  const Result whole = extract_all();
  ASSERT_EQ(attngraph_result_sweep(whole.get(), thresholds.data(), 4, kept), ATTNGRAPH_OK);
  for (std::size_t n = 0; n < thresholds.size(); ++n) {
    options_.threshold = thresholds[n];
    EXPECT_EQ(streamed[n].threshold, thresholds[n]);
    EXPECT_EQ(streamed[n].edges, attngraph_result_edge_count(extract_all().get())) << thresholds[n];
    EXPECT_EQ(streamed[n].edges, kept[n].edges);
    EXPECT_EQ(streamed[n].nodes, kept[n].nodes);
    EXPECT_DOUBLE_EQ(streamed[n].kept_mass, kept[n].kept_mass);
  }
  attngraph_result* result = nullptr;
  EXPECT_EQ(attngraph_sink_take_result(sink.get(), &result), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_sink_sweep_rows(make_collect_sink().get(), streamed), ATTNGRAPH_ERROR_ARGUMENT);
}

TEST_P(EverySink, TokensMustBeAsManyAsKeys) {
  const std::vector<const char*> tokens(19, "t");
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_set_tokens(sink.get(), tokens.data(), nullptr, 19), ATTNGRAPH_OK);
  EXPECT_EQ(extract_to(sink.get()), ATTNGRAPH_ERROR_SHAPE);
  EXPECT_NE(std::string(attngraph_last_error()).find("19 tokens"), std::string::npos) << attngraph_last_error();
  EXPECT_NE(std::string(attngraph_last_error()).find("20 keys"), std::string::npos) << attngraph_last_error();
}

TEST_P(EverySink, TokensAndFactsTravelWithTheGraph) {
  std::vector<const char*> tokens(20, "t");
  std::vector<std::size_t> lengths(20, 1);
  tokens[3] = "a\0b";
  lengths[3] = 3;
  const Sink sink = make_collect_sink();
  ASSERT_EQ(attngraph_sink_set_tokens(sink.get(), tokens.data(), lengths.data(), 20), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_sink_set_metadata(sink.get(), "model", "some model"), ATTNGRAPH_OK);
  options_.threshold = 0.1;
  options_.window = 9;
  ASSERT_EQ(extract_to(sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(attngraph_sink_set_metadata(sink.get(), "late", "x"), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_sink_set_tokens(sink.get(), tokens.data(), nullptr, 20), ATTNGRAPH_ERROR_ARGUMENT);
  const Result result = take(sink);
  const auto fact = [&](const char* name) {
    const char* value = attngraph_result_metadata(result.get(), name);
    return std::string(value != nullptr ? value : "(none)");
  };
  EXPECT_EQ(fact("model"), "some model");
  EXPECT_EQ(fact("threshold"), "0.1");
  EXPECT_EQ(std::stod(fact("scale")), 1 / std::sqrt(8.0)) << "the shortest text that reads back the same";
  EXPECT_EQ(fact("causal"), "true");
  EXPECT_EQ(fact("window"), "9");
  EXPECT_EQ(fact("query_offset"), "0");
  EXPECT_EQ(fact("softcap"), "(none)");
  EXPECT_EQ(fact("late"), "(none)");
  std::size_t length = 0;
  EXPECT_EQ(std::memcmp(attngraph_result_token(result.get(), 3, &length), "a\0b", 4), 0);
  EXPECT_EQ(length, 3u);
}

// Two queries at the end of six positions, aligned bottom right: query i stands at i + 4 in all that follows.
TEST(Positions, GoWithEveryCall) {
  const Context context = make_context();
  const Tensor<float> q{{1, 2, 1}, {1, 1}, ATTNGRAPH_F32}, k{{1, 6, 1}, std::vector<float>(6, 1), ATTNGRAPH_F32};
  const Tensor<float> weights{{1, 2, 6}, {0, 0, 0, 0.25f, 0.75f, 0, 0, 0, 0, 0, 0, 1}, ATTNGRAPH_F32};
  const attngraph_tensor q_view = q.view(), k_view = k.view(), weights_view = weights.view();
  attngraph_options options = default_options();
  options.threshold = 0.125;
  options.causal = 1;

  const Result extracted = extract(context, q_view, k_view, options);
  attngraph_result* filtered_result = nullptr;
  ASSERT_EQ(attngraph_filter_matrix(context.get(), &weights_view, &options, &filtered_result), ATTNGRAPH_OK)
      << attngraph_last_error();
  const Result filtered(filtered_result);
  const Sink extract_sink = make_collect_sink(), filter_sink = make_collect_sink();
  ASSERT_EQ(attngraph_extract_to(context.get(), &q_view, &k_view, &options, extract_sink.get()), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_filter_matrix_to(context.get(), &weights_view, &options, filter_sink.get()), ATTNGRAPH_OK);
  const Result extracted_to = take(extract_sink), filtered_to = take(filter_sink);
  for (const Result* result : {&extracted, &filtered, &extracted_to, &filtered_to})
    EXPECT_STREQ(attngraph_result_metadata(result->get(), "query_offset"), "4");

  attngraph_summary summary;
  ASSERT_EQ(attngraph_result_summary(filtered.get(), -1, &summary), ATTNGRAPH_OK);
  EXPECT_EQ(summary.self_share, 1.75 / 2);
  EXPECT_EQ(summary.previous_share, 0.25 / 2);
  EXPECT_EQ(summary.mean_distance, 0.25 / 2);
  const double thresholds[] = {0.125};
  attngraph_sweep_row swept;
  ASSERT_EQ(attngraph_result_sweep(filtered.get(), thresholds, 1, &swept), ATTNGRAPH_OK);
  EXPECT_EQ(swept.nodes, 3) << "3, 4, 5";
  attngraph_sink* raw = nullptr;
  ASSERT_EQ(attngraph_sink_create_sweep(&raw, thresholds, 1), ATTNGRAPH_OK);
  const Sink sweeping(raw);
  ASSERT_EQ(attngraph_filter_matrix_to(context.get(), &weights_view, &options, sweeping.get()), ATTNGRAPH_OK);
  ASSERT_EQ(attngraph_sink_sweep_rows(sweeping.get(), &swept), ATTNGRAPH_OK);
  EXPECT_EQ(swept.nodes, 3);

  options.query_offset = 0;
  EXPECT_STREQ(attngraph_result_metadata(extract(context, q_view, k_view, options).get(), "query_offset"), "0");
}

TEST(Tokens, FromJsonAndFromFiles) {
  const Folder folder;
  const Sink sink = make_collect_sink();
  EXPECT_EQ(attngraph_sink_parse_tokens(sink.get(), R"(["a", "\u00e9"])"), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(attngraph_sink_parse_tokens(sink.get(), R"(["a", 1])"), ATTNGRAPH_ERROR_FORMAT);
  EXPECT_EQ(attngraph_sink_load_tokens(sink.get(), (folder / "none.txt").c_str()), ATTNGRAPH_ERROR_NOT_FOUND);
  const Result kept = take(sink);
  ASSERT_EQ(attngraph_result_token_count(kept.get()), 2);
  EXPECT_STREQ(attngraph_result_token(kept.get(), 1, nullptr), "\xC3\xA9");
  std::ofstream(folder / "tokens.txt") << "one\ntwo\nthree\n";
  EXPECT_EQ(attngraph_sink_load_tokens(sink.get(), (folder / "tokens.txt").c_str()), ATTNGRAPH_OK);
  EXPECT_EQ(attngraph_result_token_count(take(sink).get()), 3);
}

}  // namespace
}  // namespace attngraph_test
