// SPDX-License-Identifier: Apache-2.0
// Tensor files and saved graphs through the contract; the formats themselves are tested in tests/io.
#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>

#include "support.hpp"

namespace attngraph_test {
namespace {

File open_sample(const char* name) {
  attngraph_file* file = nullptr;
  EXPECT_EQ(attngraph_file_open((std::string(ATTNGRAPH_SOURCE_DIR "/data/") + name).c_str(), &file), ATTNGRAPH_OK)
      << attngraph_last_error();
  return File(file);
}

TEST(TensorFile, SaysWhatItHoldsBeforeItReads) {
  const File file = open_sample("genesis-1k.safetensors");
  ASSERT_EQ(attngraph_file_tensor_count(file.get()), 4);
  EXPECT_EQ(attngraph_file_tensor_name(file.get(), 4), nullptr);
  EXPECT_EQ(attngraph_file_tensor_name(file.get(), -1), nullptr);
  EXPECT_STREQ(attngraph_file_metadata(file.get(), "scale"), "0.125");
  EXPECT_EQ(attngraph_file_metadata(file.get(), "no such name"), nullptr);
  attngraph_tensor info, other, read;
  ASSERT_EQ(attngraph_file_tensor_info(file.get(), "q.5", &info), ATTNGRAPH_OK);
  EXPECT_EQ(info.data, nullptr);
  EXPECT_EQ(info.dtype, ATTNGRAPH_F16);
  ASSERT_EQ(info.ndim, 3);
  ASSERT_EQ(attngraph_file_tensor_info(file.get(), "k.5", &other), ATTNGRAPH_OK);
  EXPECT_EQ(std::vector(info.shape, info.shape + 3), (std::vector<std::int64_t>{9, 1024, 64}));
  EXPECT_EQ(std::vector(other.shape, other.shape + 3), (std::vector<std::int64_t>{3, 1024, 64}));
  ASSERT_EQ(attngraph_file_tensor(file.get(), "q.5", &read), ATTNGRAPH_OK);
  EXPECT_NE(read.data, nullptr);
  EXPECT_EQ(info.data, nullptr);
  EXPECT_EQ(read.shape[1], 1024);
  attngraph_file_release(file.get(), "q.5");
  attngraph_file_release(file.get(), "no such name");
  ASSERT_EQ(attngraph_file_tensor(file.get(), "q.5", &read), ATTNGRAPH_OK) << "released, read again";
  EXPECT_NE(read.data, nullptr);
}

TEST(TensorFile, ARealModelHasItsKnownEdges) {
  const File file = open_sample("genesis-1k.safetensors");
  const Context context = make_context();
  const std::map<int, std::map<double, std::int64_t>> known{
      {5, {{0.01, 113622}, {0.05, 47667}, {0.1, 20784}, {0.5, 883}}}, {12, {{0.05, 28836}, {0.1, 16550}, {0.5, 4322}}}};
  for (const auto& [layer, counts] : known) {
    attngraph_tensor q, k;
    ASSERT_EQ(attngraph_file_tensor(file.get(), ("q." + std::to_string(layer)).c_str(), &q), ATTNGRAPH_OK);
    ASSERT_EQ(attngraph_file_tensor(file.get(), ("k." + std::to_string(layer)).c_str(), &k), ATTNGRAPH_OK);
    attngraph_options o = default_options();
    o.causal = 1;
    o.scale = 0.125;
    o.threshold = counts.begin()->first;
    std::vector<double> thresholds;
    for (const auto& [threshold, count] : counts) thresholds.push_back(threshold);
    attngraph_sink* made = nullptr;
    ASSERT_EQ(attngraph_sink_create_sweep(&made, thresholds.data(), static_cast<std::int64_t>(thresholds.size())),
              ATTNGRAPH_OK);
    const Sink sink(made);
    ASSERT_EQ(attngraph_extract_to(context.get(), &q, &k, &o, sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
    std::vector<attngraph_sweep_row> rows(thresholds.size());
    ASSERT_EQ(attngraph_sink_sweep_rows(sink.get(), rows.data()), ATTNGRAPH_OK);
    for (const attngraph_sweep_row& row : rows)
      EXPECT_EQ(row.edges, counts.at(row.threshold)) << "layer " << layer << ", threshold " << row.threshold;
  }
}

class SavedGraph : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Api, SavedGraph, testing::Values("npz", "safetensors", "csv", "jsonl"),
                         [](const auto& format) { return std::string(format.param); });

TEST_P(SavedGraph, ComesBackAsItWas) {
  const Folder folder;
  const std::string path = folder / "graph.saved";
  const Tensor<float> q = random_tensor({2, 2, 30, 8}, 1);
  // Values that need a double: a table of short decimals would be read as the single-precision numbers they also are.
  Tensor<double> w{{3, 5}, std::vector<double>(15), ATTNGRAPH_F64};
  for (std::size_t n = 0; n < 15; ++n) w.values[n] = static_cast<double>(n) / 37;
  const Context context = make_context();
  for (const bool matrix : {false, true}) {
    attngraph_options o = default_options();
    o.layer = 4;
    o.threshold = 0.2;
    const attngraph_tensor q_view = q.view(), w_view = w.view();
    const Sink collect = make_collect_sink();
    const attngraph_status made_well = matrix
                                           ? attngraph_filter_matrix_to(context.get(), &w_view, &o, collect.get())
                                           : attngraph_extract_to(context.get(), &q_view, &q_view, &o, collect.get());
    ASSERT_EQ(made_well, ATTNGRAPH_OK) << attngraph_last_error();
    const Result result = take(collect);
    attngraph_sink* made = nullptr;
    ASSERT_EQ(attngraph_sink_create_file(&made, path.c_str(), GetParam(), nullptr), ATTNGRAPH_OK);
    const Sink sink(made);
    ASSERT_EQ(attngraph_result_write(result.get(), sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
    EXPECT_EQ(attngraph_sink_edge_count(sink.get()), attngraph_result_edge_count(result.get()));
    ASSERT_EQ(attngraph_sink_finish(sink.get()), ATTNGRAPH_OK) << attngraph_last_error();
    attngraph_result* raw = nullptr;
    ASSERT_EQ(attngraph_result_load(path.c_str(), &raw), ATTNGRAPH_OK) << attngraph_last_error();
    const Result loaded(raw);
    EXPECT_EQ(table_of(loaded.get()), table_of(result.get()));
    attngraph_summary before, after;
    ASSERT_EQ(attngraph_result_summary(result.get(), -1, &before), ATTNGRAPH_OK);
    ASSERT_EQ(attngraph_result_summary(loaded.get(), -1, &after), ATTNGRAPH_OK);
    EXPECT_EQ(after.edges, before.edges);
    EXPECT_EQ(after.weight_max, before.weight_max);
    EXPECT_EQ(after.weight_min, before.weight_min);
    const char* const offset = attngraph_result_metadata(loaded.get(), "query_offset");
    if (GetParam() == std::string("csv") || GetParam() == std::string("jsonl")) {
      EXPECT_EQ(offset, nullptr) << "a table holds no facts: where the queries of 3 x 5 stand is lost with them";
    } else {
      EXPECT_STREQ(offset, matrix ? "2" : "0");
    }
    if (!matrix || offset != nullptr) {
      EXPECT_NEAR(after.self_share, before.self_share, 1e-12);
    }
  }
}

TEST(SavedGraph, ThatIsNoneIsRefused) {
  const Folder folder;
  attngraph_result* result = nullptr;
  EXPECT_EQ(attngraph_result_load((folder / "none.npz").c_str(), &result), ATTNGRAPH_ERROR_NOT_FOUND);
  std::ofstream(folder / "noise.npz") << "PK\x03\x04 and then nothing of use";
  EXPECT_EQ(attngraph_result_load((folder / "noise.npz").c_str(), &result), ATTNGRAPH_ERROR_FORMAT);
  EXPECT_EQ(result, nullptr);
}

// Standard output pointed elsewhere for a while.
class Redirected {
 public:
  explicit Redirected(int target) : saved_(dup(STDOUT_FILENO)) {
    std::fflush(stdout);
    if (target >= 0) {
      dup2(target, STDOUT_FILENO);
    } else {
      close(STDOUT_FILENO);
    }
  }
  ~Redirected() {
    dup2(saved_, STDOUT_FILENO);
    close(saved_);
  }
  Redirected(const Redirected&) = delete;
  Redirected& operator=(const Redirected&) = delete;

 private:
  int saved_;
};

attngraph_status write_to_stdout(const Result& result) {
  attngraph_sink* made = nullptr;
  attngraph_status status = attngraph_sink_create_file(&made, "-", "csv", nullptr);
  const Sink sink(made);
  if (status == ATTNGRAPH_OK) status = attngraph_result_write(result.get(), sink.get());
  if (status == ATTNGRAPH_OK) status = attngraph_sink_finish(sink.get());
  return status;
}

TEST(FileSink, AFullDiskAndAClosedOutputAreStatuses) {
  const Tensor<float> q = random_tensor({40, 8}, 1);
  const Result result = extract(make_context(), q.view(), q.view(), default_options());
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) GTEST_SKIP() << "no /dev/full here";
  attngraph_status on_full, on_closed;
  {
    const Redirected redirected(full);
    on_full = write_to_stdout(result);
  }
  close(full);
  EXPECT_EQ(on_full, ATTNGRAPH_ERROR_NO_SPACE) << attngraph_last_error();
  {
    const Redirected redirected(-1);
    on_closed = write_to_stdout(result);
  }
  EXPECT_EQ(on_closed, ATTNGRAPH_ERROR_IO) << attngraph_last_error();
}

}  // namespace
}  // namespace attngraph_test
