// SPDX-License-Identifier: Apache-2.0
// The text of each format, and what is on the disk when writing fails.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmath>

#include "io/output_file.hpp"
#include "io_support.hpp"

namespace ag::io_test {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end == std::string::npos ? text.size() : end + 1;
  }
  return lines;
}

// One slice of one row: query 2 with the keys and weights given.
EdgeList one_row(const std::vector<std::int32_t>& keys, const std::vector<float>& weights,
                 const std::vector<std::string>& tokens = {}, std::int64_t batch = 0) {
  CollectSink sink;
  Metadata metadata;
  metadata.tokens = Labels(tokens);
  sink.set_metadata(metadata);
  const std::int64_t offsets[] = {0, static_cast<std::int64_t>(keys.size())};
  const RowColumns stats{RowStats{}};
  sink.begin_slice({{batch, 1, 0}, 2, 1, 3}, DType::kF32);
  sink.rows({2, 1, offsets, keys.data(), weights.data(), DType::kF32, stats.view()});
  sink.end_slice({});
  return sink.take();
}

std::string written(const EdgeList& graph, const std::string& format, const WriteOptions& options = {}) {
  const TempDir dir;
  write_graph(graph, dir.path("g." + format), options);
  return slurp(dir.path("g." + format));
}

TEST(GraphFormat, ComesFromTheNameOrTheSuffix) {
  EXPECT_EQ(graph_format("", "a.b/c.csv"), GraphFormat::kCsv);
  EXPECT_EQ(graph_format("", "x.safetensors"), GraphFormat::kSafetensors);
  EXPECT_EQ(graph_format("dot", "x.csv"), GraphFormat::kDot);
  EXPECT_EQ(graph_format("", "-"), GraphFormat::kCsv);
  EXPECT_EQ(graph_format("jsonl", "-"), GraphFormat::kJsonl);
  expect_error(Status::kArgument, {"'x.txt'", "csv, jsonl, npz, safetensors, graphml, dot and html"},
               [] { graph_format("", "x.txt"); });
  expect_error(Status::kArgument, {"'gexf'", "graphml"}, [] { graph_format("gexf", "x.csv"); });
}

TEST(Csv, HasTheShortestWeightsThatReadBack) {
  const float third = 1.0f / 3;
  EXPECT_EQ(written(one_row({0, 1, 2}, {0.1f, third, 1e-9f}), "csv"),
            "batch,layer,head,query,key,weight\n0,1,0,2,0,0.1\n0,1,0,2,1,0.33333334\n0,1,0,2,2,1e-09\n");
  EXPECT_THAT(lines_of(written(small_graph(DType::kF64), "csv")), testing::Contains("0,4,0,1,3,0.3333333333333333"));
}

TEST(Csv, LabelsAreColumns) {
  WriteOptions options;
  options.labels = true;
  const EdgeList graph = one_row({0, 1, 2}, {0.5f, 0.25f, 0.125f}, {"=1", "a,\"b\"", " x"});
  EXPECT_EQ(written(graph, "csv", options),
            "batch,layer,head,query,key,weight,query_token,key_token\n"
            "0,1,0,2,0,0.5,\" x\",'=1\n0,1,0,2,1,0.25,\" x\",\"a,\"\"b\"\"\"\n0,1,0,2,2,0.125,\" x\",\" x\"\n");
  options.csv_raw = true;
  EXPECT_THAT(written(graph, "csv", options), testing::HasSubstr("0,1,0,2,0,0.5,\" x\",=1\n"));
  EXPECT_EQ(written(one_row({0}, {0.5f}), "csv", options), "batch,layer,head,query,key,weight\n0,1,0,2,0,0.5\n")
      << "no tokens, no label columns";
}

TEST(Jsonl, IsOneObjectPerEdge) {
  WriteOptions options;
  options.labels = true;
  EXPECT_EQ(written(one_row({1}, {0.5f}, {"a", "\"\n", "\xFF"}), "jsonl", options),
            R"({"batch":0,"layer":1,"head":0,"query":2,"key":1,"weight":0.5,"query_token":")"
            "\xEF\xBF\xBD"
            R"(","key_token":"\"\n"})"
            "\n");
}

TEST(Tables, RowStatisticsAndSumsGoToFilesBesideThem) {
  const TempDir dir;
  WriteOptions options;
  options.rows = true;
  write_graph(small_graph(), dir.path("e.csv"), options);
  EXPECT_THAT(dir.names(), testing::UnorderedElementsAre("e.csv", "e.rows.csv", "e.columns.csv", "e.distances.csv"));
  const auto rows = lines_of(slurp(dir.path("e.rows.csv")));
  EXPECT_THAT(rows,
              testing::ElementsAre("batch,layer,head,query,edges,logsumexp,maximum,max_key,kept_mass,entropy",
                                   "0,4,0,1,2,1.25,0.75,3,0.43333333333333335,nan", "0,4,0,2,0,-inf,-inf,-1,0,nan",
                                   "0,4,0,3,3,0.1,0.2,5,1.5,0.3", testing::_, testing::_, testing::_));
  EXPECT_EQ(lines_of(slurp(dir.path("e.columns.csv")))[6], "0,4,1,5,0.6");
  EXPECT_EQ(slurp(dir.path("e.distances.csv")), "batch,layer,head,distance,mass\n0,4,1,-1,1\n0,4,1,0,2.5\n");
  write_graph(small_graph(), dir.path("e.jsonl"), options);
  EXPECT_EQ(
      lines_of(slurp(dir.path("e.rows.jsonl")))[1],
      R"({"batch":0,"layer":4,"head":0,"query":2,"edges":0,"logsumexp":null,"maximum":null,"max_key":-1,"kept_mass":0,"entropy":null})");
  EXPECT_EQ(lines_of(slurp(dir.path("e.distances.jsonl")))[1],
            R"({"batch":0,"layer":4,"head":1,"distance":0,"mass":2.5})");
}

TEST(Tables, RowStatisticsNeedAPlaceOfTheirOwn) {
  WriteOptions options;
  options.rows = true;
  expect_error(Status::kArgument, {"standard output"}, [&] { open_graph_writer("-", GraphFormat::kCsv, options); });
  const TempDir dir;
  for (const GraphFormat format : {GraphFormat::kDot, GraphFormat::kGraphml}) {
    expect_error(Status::kArgument, {"x'", "npz"}, [&] { open_graph_writer(dir.path("x"), format, options); });
  }
  EXPECT_TRUE(dir.names().empty());
}

TEST(Graphml, DeclaresNodesBeforeTheirEdges) {
  const std::string text = written(one_row({0, 2}, {0.5f, 0.25f}, {"a", "b", "]]><&"}, 3), "graphml");
  EXPECT_THAT(text, testing::StartsWith("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<graphml"));
  EXPECT_THAT(text, testing::EndsWith("</graph>\n</graphml>\n"));
  const std::size_t node =
      text.find(R"(<node id="b3_2"><data key="node_batch">3</data><data key="position">2</data>)"
                R"(<data key="token">]]&gt;&lt;&amp;</data><data key="label">]]&gt;&lt;&amp;</data>)"
                "</node>");
  const std::size_t edge = text.find(R"( source="b3_2" target="b3_0"><data key="edge_batch">3</data>)"
                                     R"(<data key="layer">1</data><data key="head">0</data><data key="query">2</data>)"
                                     R"(<data key="key">0</data><data key="weight">0.5</data></edge>)");
  ASSERT_NE(node, std::string::npos) << text;
  ASSERT_NE(edge, std::string::npos) << text;
  EXPECT_LT(node, edge);
  EXPECT_EQ(text.find("b3_1"), std::string::npos) << "a position without an edge is no node";
  EXPECT_EQ(text.find("for=\"all\""), std::string::npos) << "igraph drops what is declared for all";
  EXPECT_EQ(text.find(R"(<node id="b3_2">)", node + 1), std::string::npos) << "a node is declared once";
}

TEST(Drawings, PointWhereTheyAreTold) {
  WriteOptions options;
  options.key_to_query = true;
  const EdgeList graph = one_row({0}, {0.5f});
  EXPECT_THAT(written(graph, "graphml", options), testing::HasSubstr(R"(source="b0_0" target="b0_2")"));
  EXPECT_THAT(written(graph, "dot", options), testing::HasSubstr("b0_0 -> b0_2 ["));
  EXPECT_THAT(written(graph, "dot"), testing::HasSubstr("b0_2 -> b0_0 ["));
}

TEST(Dot, QuotesItsLabels) {
  EXPECT_EQ(written(one_row({0}, {0.5f}, {"\"];", "", "\\N"}), "dot"),
            "digraph attention {\n"
            "  b0_2 [label=\"\\\\N\"];\n"
            "  b0_0 [label=\"\\\"];\"];\n"
            "  b0_2 -> b0_0 [batch=0, layer=1, head=0, query=2, key=0, weight=0.5];\n"
            "}\n");
  EXPECT_THAT(written(one_row({0}, {0.5f}), "dot"), testing::HasSubstr("b0_2 [label=\"2\"];"));
}

// Two queries that are the last of six positions: query i stands at i + 4.
EdgeList last_two_of_six(const char* query_offset, bool tokens = true) {
  CollectSink sink;
  Metadata metadata;
  metadata.facts["query_offset"] = query_offset;
  if (tokens) metadata.tokens = Labels({"t0", "t1", "t2", "t3", "t4", "t5"});
  sink.set_metadata(metadata);
  const std::int64_t offsets[] = {0, 2, 3};
  const std::int32_t keys[] = {0, 4, 4};
  const float weights[] = {0.25f, 0.75f, 0.5f};
  const RowColumns stats{RowStats{}, RowStats{}};
  sink.begin_slice({{0, 0, 0}, 0, 2, 6}, DType::kF32);
  sink.rows({0, 2, offsets, keys, weights, DType::kF32, stats.view()});
  sink.end_slice({});
  return sink.take();
}

TEST(Positions, LabelTheQueriesThatStandThere) {
  WriteOptions options;
  options.labels = true;
  EXPECT_EQ(lines_of(written(last_two_of_six("4"), "csv", options)),
            (std::vector<std::string>{"batch,layer,head,query,key,weight,query_token,key_token", "0,0,0,0,0,0.25,t4,t0",
                                      "0,0,0,0,4,0.75,t4,t4", "0,0,0,1,4,0.5,t5,t4"}));
  EXPECT_THAT(written(last_two_of_six("4"), "jsonl", options),
              testing::HasSubstr(R"("query":1,"key":4,"weight":0.5,"query_token":"t5","key_token":"t4"})"));
}

TEST(Positions, OutsideTheTokensHaveAnEmptyLabel) {
  WriteOptions options;
  options.labels = true;
  for (const char* offset : {"5", "-1"}) {
    SCOPED_TRACE(offset);
    const std::string lines = written(last_two_of_six(offset), "csv", options);
    const bool beyond = offset[0] == '5';
    EXPECT_THAT(lines, testing::HasSubstr(beyond ? "0,0,0,0,0,0.25,t5,t0\n" : "0,0,0,0,0,0.25,,t0\n"));
    EXPECT_THAT(lines, testing::HasSubstr(beyond ? "0,0,0,1,4,0.5,,t4\n" : "0,0,0,1,4,0.5,t0,t4\n"));
    EXPECT_THAT(written(last_two_of_six(offset), "jsonl", options),
                testing::HasSubstr(R"("query_token":"","key_token":"t4"})"));
  }
  EXPECT_THAT(written(last_two_of_six("5"), "graphml"),
              testing::HasSubstr(R"(<node id="b0_6"><data key="node_batch">0</data><data key="position">6</data>)"
                                 R"(<data key="label">6</data></node>)"));
  EXPECT_THAT(written(last_two_of_six("-1"), "graphml"), testing::HasSubstr(R"(<node id="b0_-1">)"));
  EXPECT_THAT(written(last_two_of_six("-1"), "dot"), testing::HasSubstr("  \"b0_-1\" [label=\"-1\"];\n"));
  EXPECT_THAT(written(last_two_of_six("-1"), "dot"), testing::HasSubstr("  \"b0_-1\" -> b0_4 [batch=0, layer=0, "
                                                                        "head=0, query=0, key=4"));
}

TEST(Positions, AreTheNodesOfDrawings) {
  EXPECT_EQ(written(last_two_of_six("4", false), "dot"),
            "digraph attention {\n"
            "  b0_4 [label=\"4\"];\n"
            "  b0_0 [label=\"0\"];\n"
            "  b0_4 -> b0_0 [batch=0, layer=0, head=0, query=0, key=0, weight=0.25];\n"
            "  b0_4 -> b0_4 [batch=0, layer=0, head=0, query=0, key=4, weight=0.75];\n"
            "  b0_5 [label=\"5\"];\n"
            "  b0_5 -> b0_4 [batch=0, layer=0, head=0, query=1, key=4, weight=0.5];\n"
            "}\n");
  const std::string graphml = written(last_two_of_six("4"), "graphml");
  EXPECT_THAT(graphml,
              testing::HasSubstr(R"(<node id="b0_5"><data key="node_batch">0</data><data key="position">5</data>)"
                                 R"(<data key="token">t5</data><data key="label">t5</data></node>)"));
  EXPECT_THAT(graphml, testing::HasSubstr(R"( source="b0_5" target="b0_4">)"));
  EXPECT_THAT(graphml, testing::HasSubstr(R"(<data key="query">1</data><data key="key">4</data>)"));
}

// Two sequences of one query and two keys; each query sees its second key.
EdgeList two_sequences(Metadata metadata) {
  CollectSink sink;
  sink.set_metadata(metadata);
  for (std::int64_t batch = 0; batch < 2; ++batch) {
    const std::int64_t offsets[] = {0, 1};
    const std::int32_t keys[] = {1};
    const float weights[] = {0.5f};
    const RowColumns stats{RowStats{}};
    sink.begin_slice({{batch, 0, 0}, 0, 1, 2}, DType::kF32);
    sink.rows({0, 1, offsets, keys, weights, DType::kF32, stats.view()});
    sink.end_slice({});
  }
  return sink.take();
}

TEST(Words, OfEachSequenceAreItsOwn) {
  Metadata metadata;
  metadata.tokens.lists = {{"a", "b"}, {"x", "y"}};
  WriteOptions options;
  options.labels = true;
  const EdgeList graph = two_sequences(metadata);
  EXPECT_EQ(lines_of(written(graph, "csv", options)),
            (std::vector<std::string>{"batch,layer,head,query,key,weight,query_token,key_token", "0,0,0,0,1,0.5,a,b",
                                      "1,0,0,0,1,0.5,x,y"}));
  EXPECT_THAT(written(graph, "dot"), testing::HasSubstr("b1_1 [label=\"y\"];"));
  const TempDir dir;
  for (const char* name : {"g.npz", "g.safetensors"}) {
    write_graph(graph, dir.path(name));
    EXPECT_EQ(read_graph(dir.path(name)).metadata.tokens, metadata.tokens) << name;
  }
  metadata.tokens.lists.pop_back();
  metadata.tokens.lists.push_back({"x"});
  expect_error(Status::kShape, {"1 tokens for 2 keys of sequence 1"}, [&] { written(two_sequences(metadata), "csv"); });
}

TEST(Words, OfQueriesStandApartFromThoseOfKeys) {
  Metadata metadata;
  metadata.tokens = Labels({"E0", "E1"});
  metadata.query_tokens = Labels({"D0"});
  WriteOptions options;
  options.labels = true;
  const EdgeList graph = two_sequences(metadata);
  EXPECT_THAT(written(graph, "csv", options), testing::HasSubstr("1,0,0,0,1,0.5,D0,E1\n"));
  EXPECT_EQ(written(graph, "dot"),
            "digraph attention {\n"
            "  b0_q0 [label=\"D0\"];\n"
            "  b0_k1 [label=\"E1\"];\n"
            "  b0_q0 -> b0_k1 [batch=0, layer=0, head=0, query=0, key=1, weight=0.5];\n"
            "  b1_q0 [label=\"D0\"];\n"
            "  b1_k1 [label=\"E1\"];\n"
            "  b1_q0 -> b1_k1 [batch=1, layer=0, head=0, query=0, key=1, weight=0.5];\n"
            "}\n");
  EXPECT_THAT(written(graph, "graphml"),
              testing::HasSubstr(R"(<node id="b0_q0"><data key="node_batch">0</data><data key="position">0</data>)"
                                 R"(<data key="side">query</data><data key="token">D0</data>)"));
  const TempDir dir;
  write_graph(graph, dir.path("g.npz"));
  EXPECT_EQ(read_graph(dir.path("g.npz")).metadata.query_tokens, metadata.query_tokens);
}

TEST(Words, OfKeysAreNotThoseOfQueriesUnderCrossAttention) {
  Metadata metadata;
  metadata.tokens = Labels({"E0", "E1"});
  metadata.facts["attention"] = "cross";
  WriteOptions options;
  options.labels = true;
  EXPECT_THAT(written(two_sequences(metadata), "csv", options), testing::HasSubstr("0,0,0,0,1,0.5,,E1\n"));
  EXPECT_THAT(written(two_sequences(metadata), "dot"), testing::HasSubstr("b0_q0 -> b0_k1"));
}

TEST(Positions, SurviveAFile) {
  const TempDir dir;
  for (const std::string format : {"npz", "safetensors"}) {
    write_graph(last_two_of_six("4"), dir.path("g." + format));
    EXPECT_EQ(query_offset(read_graph(dir.path("g." + format)).metadata), 4);
  }
}

TEST(Writers, WantOneTokenPerKey) {
  expect_error(Status::kShape, {"g.csv'", "2 tokens for 3 keys"}, [] {
    written(one_row({0}, {1}, {"a", "b"}), "csv");
  });
}

TEST(Writers, HoldTheirCallerToTheOrderOfCalls) {
  const TempDir dir;
  const std::int64_t offsets[] = {0, 0};
  const RowColumns stats{RowStats{}};
  const auto writer = [&] { return open_graph_writer(dir.path("g.csv"), GraphFormat::kCsv, {}); };
  const SliceInfo two_rows{{0, 0, 0}, 0, 2, 3};
  expect_error(Status::kInternal, {"g.csv'"}, [&] {
    auto w = writer();
    w->begin_slice(two_rows, DType::kF32);
    w->rows({1, 1, offsets, nullptr, nullptr, DType::kF32, stats.view()});
  });
  expect_error(Status::kInternal, {"ended at row 1"}, [&] {
    auto w = writer();
    w->begin_slice(two_rows, DType::kF32);
    w->rows({0, 1, offsets, nullptr, nullptr, DType::kF32, stats.view()});
    w->end_slice({});
  });
  expect_error(Status::kArgument, {"before the first row"}, [&] {
    auto w = writer();
    w->begin_slice(two_rows, DType::kF32);
    w->set_metadata({});
  });
  expect_error(Status::kArgument, {"finished"}, [&] {
    auto w = writer();
    w->finish({});
    w->begin_slice(two_rows, DType::kF32);
  });
}

TEST(Writers, WhatIsNotFinishedLeavesNoTrace) {
  for (const std::string format : {"csv", "jsonl", "npz", "safetensors", "graphml", "dot"}) {
    const TempDir dir;
    const std::string path = dir.write("g." + format, "what stood here");
    {
      WriteOptions options;
      options.rows = format == "csv" || format == "jsonl";
      const auto writer = open_graph_writer(path, graph_format("", path), options);
      const std::vector<std::int64_t> offsets = {0, 1000000};
      const std::vector<std::int32_t> keys(1000000, 1);
      const std::vector<float> weights(1000000, 0.5f);
      const RowColumns stats{RowStats{}};
      writer->begin_slice({{0, 0, 0}, 0, 2, 3}, DType::kF32);
      writer->rows({0, 1, offsets.data(), keys.data(), weights.data(), DType::kF32, stats.view()});
      EXPECT_EQ(slurp(path), "what stood here") << "the name keeps its file until the end";
    }
    EXPECT_EQ(dir.names(), std::vector<std::string>{"g." + format});
    EXPECT_EQ(slurp(path), "what stood here");
  }
}

TEST(Writers, ReplaceAFileAndKeepItsPermissions) {
  const TempDir dir;
  const std::string path = dir.write("g.csv", "old");
  ASSERT_EQ(::chmod(path.c_str(), 0640), 0);
  write_graph(one_row({0}, {1}), path);
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777u, 0640u);
  EXPECT_EQ(lines_of(slurp(path)).size(), 2u);
}

TEST(Writers, ReplaceALinkAndNotWhatItPointsTo) {
  const TempDir dir;
  dir.write("elsewhere", "precious");
  ASSERT_EQ(::symlink(dir.path("elsewhere").c_str(), dir.path("g.csv").c_str()), 0);
  write_graph(one_row({0}, {1}), dir.path("g.csv"));
  EXPECT_EQ(slurp(dir.path("elsewhere")), "precious");
  EXPECT_FALSE(std::filesystem::is_symlink(dir.path("g.csv")));
}

TEST(Writers, OutputMayReplaceTheInput) {
  const TempDir dir;
  write_graph(small_graph(), dir.path("g.npz"));
  const std::string before = slurp(dir.path("g.npz"));
  write_graph(read_graph(dir.path("g.npz")), dir.path("g.npz"));
  EXPECT_EQ(slurp(dir.path("g.npz")), before);
}

TEST(Writers, RefuseWhatIsNoFile) {
  const TempDir dir;
  const auto open = [](const std::string& path) { open_graph_writer(path, GraphFormat::kCsv, {}); };
  std::filesystem::create_directory(dir.path("d.csv"));
  expect_error(Status::kIo, {"d.csv'", "is a directory"}, [&] { open(dir.path("d.csv")); });
  expect_error(Status::kIo, {"new/'", "is a directory"}, [&] { open(dir.path("new/")); });
  expect_error(Status::kIo, {"a/b.csv'", "No such file"}, [&] { open(dir.path("a/b.csv")); });
  expect_error(Status::kArgument, {"path"}, [&] { open(""); });
  expect_error(Status::kArgument, {"standard output"}, [] { open_graph_writer("-", GraphFormat::kNpz, {}); });
}

// A graph of more bytes than a writer buffers.
EdgeList large_graph() {
  const std::vector<std::int32_t> keys(400000, 1);
  return one_row(keys, std::vector<float>(keys.size(), 0.5f));
}

TEST(Writers, AFullDeviceIsAnError) {
  const EdgeList graph = large_graph();
  for (const GraphFormat format : {GraphFormat::kCsv, GraphFormat::kJsonl, GraphFormat::kNpz, GraphFormat::kSafetensors,
                                   GraphFormat::kGraphml, GraphFormat::kDot, GraphFormat::kHtml}) {
    for (const EdgeList& g : {graph, one_row({0}, {1})}) {
      expect_error(Status::kNoSpace, {"'/dev/full'", "No space left"},
                   [&] { replay(g, *open_graph_writer("/dev/full", format, {})); });
    }
  }
}

TEST(Writers, AWriteThatFailsLeavesTheTargetAsItWas) {
  for (const std::string format : {"csv", "jsonl", "npz", "safetensors", "graphml", "dot", "html"}) {
    SCOPED_TRACE(format);
    const TempDir dir;
    const std::string path = dir.write("g." + format, "what stood here");
    // In a process of its own: the limit on file sizes holds for all of it.
    const pid_t child = ::fork();
    if (child == 0) {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{100000, 100000};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      int code = 1;
      try {
        write_graph(large_graph(), path);
      } catch (const Error& error) {
        const std::string message = error.what();
        code = error.status() == Status::kIo && message.find("g." + format + "'") != std::string::npos ? 0 : 2;
      }
      ::_exit(code);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_EQ(dir.names(), std::vector<std::string>{"g." + format}) << "no temporary file stays";
    EXPECT_EQ(slurp(path), "what stood here");
  }
}

TEST(Writers, APipeIsWrittenAsItIs) {
  const TempDir dir;
  const std::string path = dir.path("pipe.npz");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  write_graph(small_graph(), path);
  std::string bytes(65536, '\0');
  const ssize_t got = ::read(reader, bytes.data(), bytes.size());
  ::close(reader);
  ASSERT_GT(got, 0);
  bytes.resize(static_cast<std::size_t>(got));
  EXPECT_EQ(read_graph(dir.write("copy.npz", bytes)).keys, small_graph().keys);
}

TEST(Writers, ABrokenPipeIsAnErrorAndNoSignal) {
  const TempDir dir;
  const std::string path = dir.path("pipe.csv");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  const auto writer = open_graph_writer(path, GraphFormat::kCsv, {});
  ::close(reader);
  expect_error(Status::kIo, {"pipe.csv'", "Broken pipe"}, [&] { replay(small_graph(), *writer); });
  sigset_t pending;
  ::sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
}

TEST(Writers, DescriptorsAreWrittenInPlace) {
  const TempDir dir;
  const int fd = ::open(dir.path("out").c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, "before\n", 7), 7);
  replay(one_row({0}, {1}), *open_graph_writer(fmt::format("/dev/fd/{}", fd), GraphFormat::kCsv, {}));
  ASSERT_EQ(::write(fd, "after\n", 6), 6) << "the descriptor stays open";
  ::close(fd);
  EXPECT_EQ(slurp(dir.path("out")), "before\nbatch,layer,head,query,key,weight\n0,1,0,2,0,1\nafter\n");
  EXPECT_EQ(dir.names(), std::vector<std::string>{"out"});
}

TEST(Writers, SafetensorsSaysEarlyThatItsHeaderIsTooSmall) {
  const TempDir dir;
  Metadata metadata;
  metadata.facts["text"] = std::string(std::size_t{17} << 20, 'x');
  const auto writer = open_graph_writer(dir.path("g.safetensors"), GraphFormat::kSafetensors, {});
  writer->set_metadata(metadata);
  expect_error(Status::kLimit, {"g.safetensors'", "write npz"}, [&] {
    writer->begin_slice({{0, 0, 0}, 0, 1, 1}, DType::kF32);
  });
}

}  // namespace
}  // namespace ag::io_test
