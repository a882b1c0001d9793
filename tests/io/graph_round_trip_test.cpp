// SPDX-License-Identifier: Apache-2.0
// What is written is read back: all of it from npz and safetensors, the edges from csv and jsonl.
#include <cmath>

#include "io/array_archive.hpp"
#include "io_support.hpp"

namespace ag::io_test {
namespace {

void expect_same_doubles(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t n = 0; n < a.size(); ++n) {
    EXPECT_TRUE(a[n] == b[n] || (std::isnan(a[n]) && std::isnan(b[n]))) << n << ": " << a[n] << " " << b[n];
  }
}

void expect_same_edges(const EdgeList& a, const EdgeList& b) {
  EXPECT_EQ(a.keys, b.keys);
  EXPECT_EQ(static_cast<int>(a.weight_dtype), static_cast<int>(b.weight_dtype));
  EXPECT_EQ(a.weights_f32, b.weights_f32);
  EXPECT_EQ(a.weights_f64, b.weights_f64);
}

void expect_same_graph(const EdgeList& a, const EdgeList& b) {
  expect_same_edges(a, b);
  EXPECT_EQ(a.offsets, b.offsets);
  ASSERT_EQ(a.slices.size(), b.slices.size());
  for (std::size_t s = 0; s < a.slices.size(); ++s) {
    EXPECT_EQ(a.slices[s].info, b.slices[s].info);
    EXPECT_EQ(a.slices[s].first_row, b.slices[s].first_row);
    EXPECT_EQ(a.slices[s].first_offset, b.slices[s].first_offset);
    EXPECT_EQ(a.slices[s].first_edge, b.slices[s].first_edge);
    EXPECT_EQ(a.slices[s].edge_count, b.slices[s].edge_count);
    EXPECT_EQ(a.slices[s].sums.received, b.slices[s].sums.received);
    EXPECT_EQ(a.slices[s].sums.distances, b.slices[s].sums.distances);
    EXPECT_EQ(a.slices[s].sums.tokens, b.slices[s].sums.tokens);
    EXPECT_EQ(a.slices[s].sums.distance_begin, b.slices[s].sums.distance_begin);
  }
  expect_same_doubles(a.rows.logsumexp, b.rows.logsumexp);
  expect_same_doubles(a.rows.maximum, b.rows.maximum);
  expect_same_doubles(a.rows.kept_mass, b.rows.kept_mass);
  expect_same_doubles(a.rows.entropy, b.rows.entropy);
  EXPECT_EQ(a.rows.max_key, b.rows.max_key);
  EXPECT_EQ(a.metadata.facts, b.metadata.facts);
  EXPECT_EQ(a.metadata.tokens, b.metadata.tokens);
  EXPECT_EQ(a.report.eps, b.report.eps);
  EXPECT_EQ(a.report.borderline, b.report.borderline);
  EXPECT_EQ(a.report.empty_rows, b.report.empty_rows);
  EXPECT_EQ(a.report.kept_mass_sum, b.report.kept_mass_sum);
  EXPECT_EQ(a.report.rows_with_keys, b.report.rows_with_keys);
  EXPECT_EQ(a.report.backend, b.report.backend);
  EXPECT_EQ(a.report.target, b.report.target);
  EXPECT_EQ(a.report.threads, b.report.threads);
}

TEST(RoundTrip, NpzAndSafetensorsKeepEverything) {
  const TempDir dir;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const std::string format : {"npz", "safetensors"}) {
      SCOPED_TRACE(format);
      const EdgeList graph = small_graph(dtype);
      write_graph(graph, dir.path("g." + format));
      const EdgeList back = read_graph(dir.path("g." + format));
      expect_same_graph(graph, back);
      // Written again it is the same file.
      write_graph(back, dir.path("h." + format));
      EXPECT_EQ(slurp(dir.path("g." + format)), slurp(dir.path("h." + format)));
    }
  }
}

TEST(RoundTrip, AGraphWithoutSlicesIsAGraph) {
  const TempDir dir;
  for (const std::string format : {"npz", "safetensors", "csv", "jsonl"}) {
    SCOPED_TRACE(format);
    write_graph({}, dir.path("g." + format));
    EXPECT_TRUE(read_graph(dir.path("g." + format)).slices.empty());
  }
}

TEST(RoundTrip, SlicesWithoutRowsOrKeysSurvive) {
  const TempDir dir;
  CollectSink sink;
  sink.begin_slice({{0, 0, 0}, 5, 0, 7}, DType::kF32);
  sink.end_slice({});
  const std::int64_t offsets[] = {0, 0};
  const RowColumns stats{RowStats{}};
  sink.begin_slice({{0, 0, 1}, 0, 1, 0}, DType::kF32);
  sink.rows({0, 1, offsets, nullptr, nullptr, DType::kF32, stats.view()});
  sink.end_slice({});
  const EdgeList graph = sink.take();
  for (const std::string format : {"npz", "safetensors"}) {
    write_graph(graph, dir.path("g." + format));
    expect_same_graph(graph, read_graph(dir.path("g." + format)));
  }
}

TEST(RoundTrip, MillionsOfEdgesGoThroughTemporaryFiles) {
  const TempDir dir;
  constexpr std::int64_t kRows = 2000, kPerRow = 500;
  std::vector<std::int64_t> offsets = {0};
  std::vector<std::int32_t> keys;
  std::vector<float> weights;
  RowColumns stats;
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int32_t k = 0; k < kPerRow; ++k) {
      keys.push_back(2 * k);
      weights.push_back(1.0f / static_cast<float>(1 + k + r));
    }
    offsets.push_back(offsets.back() + kPerRow);
    stats.push_back({});
  }
  CollectSink sink;
  sink.begin_slice({{0, 0, 0}, 0, kRows, 1000}, DType::kF32);
  sink.rows({0, kRows, offsets.data(), keys.data(), weights.data(), DType::kF32, stats.view()});
  sink.end_slice({});
  const EdgeList graph = sink.take();
  for (const std::string format : {"npz", "safetensors", "csv", "jsonl"}) {
    SCOPED_TRACE(format);
    write_graph(graph, dir.path("g." + format));
    expect_same_edges(graph, read_graph(dir.path("g." + format)));
  }
  EXPECT_EQ(dir.names().size(), 4u) << "no temporary file stays";
}

TEST(RoundTrip, AnEntropyThatNobodyAskedForIsNaN) {
  const TempDir dir;
  const std::int64_t offsets[] = {0, 1, 1};
  const std::int32_t keys[] = {2};
  const float weights[] = {0.5f};
  const RowColumns columns{{1, 2, 0.5, 0.25, 2}, {}};
  RowStatsView stats = columns.view();
  stats.entropy = nullptr;
  for (const std::string format : {"npz", "safetensors"}) {
    const std::string path = dir.path("g." + format);
    CollectSink expected;
    const auto writer = open_graph_writer(path, graph_format("", path), {});
    for (RowSink* sink : std::initializer_list<RowSink*>{&expected, writer.get()}) {
      sink->begin_slice({{0, 0, 0}, 0, 2, 3}, DType::kF32);
      sink->rows({0, 2, offsets, keys, weights, DType::kF32, stats});
      sink->end_slice({});
    }
    writer->finish({});
    const EdgeList graph = read_graph(path);
    expect_same_graph(expected.take(), graph);
    ASSERT_EQ(graph.rows.size(), 2u);
    EXPECT_TRUE(std::isnan(graph.rows.entropy[0]) && std::isnan(graph.rows.entropy[1]));
    EXPECT_EQ(graph.rows.logsumexp[0], 1);
  }
}

TEST(RoundTrip, AnF64SliceAfterF32SlicesWidensThem) {
  const TempDir dir;
  constexpr std::int64_t kEdges = 100000;  // more than a writer keeps in memory
  std::vector<std::int32_t> keys(kEdges);
  std::vector<float> narrow(kEdges);
  for (std::int64_t n = 0; n < kEdges; ++n) {
    keys[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(n);
    narrow[static_cast<std::size_t>(n)] = 1.0f / static_cast<float>(n + 1);
  }
  const std::vector<double> wide(kEdges, 0.1);
  const std::int64_t offsets[] = {0, kEdges};
  const RowColumns stats{RowStats{}};
  for (const std::string format : {"npz", "safetensors"}) {
    const std::string path = dir.path("g." + format);
    CollectSink expected;
    const auto writer = open_graph_writer(path, graph_format("", path), {});
    for (RowSink* sink : std::initializer_list<RowSink*>{&expected, writer.get()}) {
      std::int64_t head = 0;
      for (const DType dtype : {DType::kF32, DType::kF64, DType::kF32}) {
        const void* data = dtype == DType::kF64 ? static_cast<const void*>(wide.data()) : narrow.data();
        sink->begin_slice({{0, 0, head++}, 0, 1, kEdges}, dtype);
        sink->rows({0, 1, offsets, keys.data(), data, dtype, stats.view()});
        sink->end_slice({});
      }
    }
    writer->finish({});
    expect_same_graph(expected.take(), read_graph(path));
  }
}

TEST(RoundTrip, TablesKeepTheEdges) {
  const TempDir dir;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const std::string format : {"csv", "jsonl"}) {
      for (const bool labels : {false, true}) {
        SCOPED_TRACE(format);
        WriteOptions options;
        options.labels = labels;
        const EdgeList graph = small_graph(dtype);
        write_graph(graph, dir.path("g." + format), options);
        const EdgeList back = read_graph(dir.path("g." + format));
        expect_same_edges(graph, back);
        ASSERT_EQ(back.slices.size(), 2u);
        EXPECT_EQ(back.slices[1].info, (SliceInfo{{0, 4, 1}, 0, 4, 6})) << "rows from 0, keys to the last one seen";
        EXPECT_EQ(back.offsets, (std::vector<std::int64_t>{0, 0, 2, 2, 5, 0, 0, 2, 2, 5}));
        EXPECT_EQ(back.slices[1].first_edge, 5);
        EXPECT_EQ(back.slices[1].edge_count, 5);
        EXPECT_EQ(back.rows.max_key, (std::vector<std::int32_t>{-1, 3, -1, 5, -1, 3, -1, 5}));
        EXPECT_NEAR(back.rows.kept_mass[1], 0.1 + 1.0 / 3, 1e-7);
        EXPECT_EQ(back.rows.kept_mass[2], 0);
        EXPECT_TRUE(std::isnan(back.rows.maximum[1]));
        // And through npz on to the same table.
        write_graph(back, dir.path("h.npz"));
        write_graph(read_graph(dir.path("h.npz")), dir.path("h." + format));
        if (!labels) {
          EXPECT_EQ(slurp(dir.path("g." + format)), slurp(dir.path("h." + format)));
        }
      }
    }
  }
}

TEST(RoundTrip, Zip64RecordsAreWrittenAndRead) {
  const TempDir dir;
  const std::string path = dir.path("g.npz");
  {
    OutputFile file(path);
    std::vector<StoredArray> arrays;
    for (const char* name : {"a", "b"}) {
      arrays.push_back({name, DType::kI64, 2, std::make_unique<SpoolFile>(file, true)});
      const std::int64_t values[] = {1, 2, 3, 4};
      arrays.back().append(values, 4);
    }
    // Everything from byte 100 on counts as too large for 32 bits.
    write_npz(file, arrays, {{"x", "y"}}, 100);
    file.complete();
    file.publish();
  }
  const std::string bytes = slurp(path);
  EXPECT_NE(bytes.find("PK\x06\x06"), std::string::npos);
  const auto file = open_tensor_file(path);
  EXPECT_EQ(file->names(), (std::vector<std::string>{"a", "b", "metadata"}));
  for (const std::string name : {"a", "b"}) {
    const TensorView view = file->read(name);
    EXPECT_EQ(shape_text(view), "[2, 2]");
    EXPECT_EQ(load_double(DType::kI64, view.at(1, 1)), 4);
  }
  // Each byte of the two zip64 end records matters.
  const std::size_t end = bytes.find("PK\x06\x06");
  int refused = 0;
  for (std::size_t n = end; n < end + 76; ++n) {
    std::string broken = bytes;
    broken[n] = static_cast<char>(broken[n] ^ 0x40);
    try {
      open_tensor_file(dir.write("broken.npz", broken));
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("broken.npz'"));
      ++refused;
    }
  }
  EXPECT_EQ(refused, 76 - 4) << "all but the two version numbers, which say nothing";
}

}  // namespace
}  // namespace ag::io_test
