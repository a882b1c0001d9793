// SPDX-License-Identifier: Apache-2.0
// Graph files that lie.
#include <cmath>

#include "graph/operations.hpp"
#include "io/escape.hpp"
#include "io_support.hpp"

namespace ag::io_test {
namespace {

struct Array {
  std::string dtype, shape, data;
};
using Arrays = std::map<std::string, Array>;

template <class T>
Array array(const std::string& dtype, const std::vector<T>& values) {
  return {dtype, fmt::format("{}", values.size()), raw(values)};
}

// Two slices: rows 1..2 of 3 keys with edges {0, 2}, {1}; row 0 with edge {0}.
Arrays sound() {
  const double nan = NAN;
  return {{"slices", {"I64", "2,8", raw(std::vector<std::int64_t>{0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 1, 0, 1, 3, 3, 3})}},
          {"offsets", array<std::int64_t>("I64", {0, 2, 3, 0, 1})},
          {"keys", array<std::int32_t>("I32", {0, 2, 1, 0})},
          {"weights", array<float>("F32", {0.5f, 0.25f, 1.0f, 0.75f})},
          {"logsumexp", array<double>("F64", {0, 0, 0})},
          {"maximum", array<double>("F64", {0, 0, nan})},
          {"max_key", array<std::int32_t>("I32", {0, 1, -1})},
          {"kept_mass", array<double>("F64", {0.75, 1, 0.75})},
          {"entropy", array<double>("F64", {nan, nan, nan})}};
}

std::string build(const Arrays& arrays,
                  const std::string& facts = R"("format":"attngraph-graph","format_version":"1")") {
  std::string header = R"({"__metadata__":{)" + facts + "}", data;
  for (const auto& [name, a] : arrays) {
    header += fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name, a.dtype, a.shape,
                          data.size(), data.size() + a.data.size());
    data += a.data;
  }
  return safetensors(header + "}", data);
}

TEST(GraphReader, ReadsWhatIsSound) {
  const TempDir dir;
  Arrays arrays = sound();
  arrays["received"] = array<double>("F64", {1, 2, 3});
  arrays["received_slices"] = {"I64", "1,3", raw(std::vector<std::int64_t>{1, 0, 3})};
  const EdgeList graph = read_graph(dir.write("g", build(arrays)));
  EXPECT_EQ(graph.slices[1].first_row, 2);
  EXPECT_EQ(graph.slices[1].edge_count, 1);
  EXPECT_EQ(graph.slices[1].sums.received, (std::vector<double>{1, 2, 3}));
  EXPECT_TRUE(graph.slices[0].sums.received.empty());
}

TEST(GraphReader, RefusesArraysThatDisagree) {
  const TempDir dir;
  struct Case {
    const char* what;
    std::function<void(Arrays&)> change;
    std::string text;
  };
  const auto slices = [](std::size_t at, std::int64_t value) {
    return [=](Arrays& a) { a["slices"].data.replace(8 * at, 8, raw(value)); };
  };
  const auto set = [](const std::string& name, const auto& values) {
    return [=](Arrays& a) {
      a[name].data = raw(values);
      a[name].shape = fmt::format("{}", values.size());
    };
  };
  using I64 = std::vector<std::int64_t>;
  using I32 = std::vector<std::int32_t>;
  using F32 = std::vector<float>;
  const std::int64_t huge = INT64_MAX;
  const std::vector<Case> cases = {
      {"offsets descend", set("offsets", I64{0, 3, 2, 0, 1}), "ascend"},
      {"offset beyond its slice", set("offsets", I64{0, 9, 3, 0, 1}), "ascend"},
      {"negative offset", set("offsets", I64{0, -1, 3, 0, 1}), "ascend"},
      {"first offset not 0", set("offsets", I64{1, 2, 3, 0, 1}), "slice 0"},
      {"more edges than there are", set("offsets", I64{0, 2, 3, 0, 2}), "slice 1"},
      {"edges left over", set("offsets", I64{0, 2, 3, 0, 0}), "slice 1"},
      {"huge last offset", set("offsets", I64{0, 2, huge, 0, 1}), "slice 0"},
      {"offsets missing", set("offsets", I64{0, 2, 3, 0}), "offsets"},
      {"offsets left over", set("offsets", I64{0, 2, 3, 0, 1, 1}), "offsets"},
      {"key beyond the end", set("keys", I32{0, 3, 1, 0}), "key 3"},
      {"negative key", set("keys", I32{-1, 2, 1, 0}), "key -1"},
      {"keys descend", set("keys", I32{2, 0, 1, 0}), "ascend"},
      {"key twice", set("keys", I32{2, 2, 1, 0}), "ascend"},
      {"too few weights", set("weights", F32{1, 1, 1}), "3 weights"},
      {"too many weights", set("weights", F32{1, 1, 1, 1, 1}), "5 weights"},
      {"weight NaN", set("weights", F32{1, NAN, 1, 1}), "not finite"},
      {"weight infinite", set("weights", F32{1, 1, INFINITY, 1}), "not finite"},
      {"weights of the wrong type",
       [](Arrays& a) {
         a["weights"] = array<std::int32_t>("I32", {1, 1, 1, 1});
       },
       "weights"},
      {"keys of the wrong type", [](Arrays& a) { a["keys"].dtype = "F32"; }, "keys"},
      {"keys of two dimensions", [](Arrays& a) { a["keys"].shape = "2,2"; }, "keys"},
      {"slices of seven columns",
       [](Arrays& a) {
         a["slices"] = {"I64", "2,7", std::string(112, '\0')};
       },
       "8 columns"},
      {"max_key beyond the keys", set("max_key", I32{0, 3, -1}), "max_key 3"},
      {"max_key below -1", set("max_key", I32{0, -2, -1}), "max_key -2"},
      {"statistic too short", set("kept_mass", std::vector<double>{1}), "1 entries for 3 rows"},
      {"negative head", slices(2, -1), "slice 0"},
      {"negative count", slices(4, -1), "slice 0"},
      {"huge count", slices(4, huge), "slice 0"},
      {"count and begin overflow", slices(3, huge), "slice 0"},
      {"key count beyond int32", slices(5, std::int64_t{1} << 31), "slice 0"},
      {"first_offset elsewhere", slices(14, 2), "slice 1"},
      {"first_edge elsewhere", slices(15, 2), "slice 1"},
      {"the same slice twice", slices(10, 0), "second one"},
      {"sums without index",
       [](Arrays& a) {
         a["received"] = array<double>("F64", {1, 2, 3});
       },
       "received_slices"},
      {"sums of the wrong length",
       [](Arrays& a) {
         a["received"] = array<double>("F64", {1, 2});
         a["received_slices"] = {"I64", "1,3", raw(I64{1, 0, 2})};
       },
       "2 values for 3 keys"},
      {"sums of no slice",
       [](Arrays& a) {
         a["received"] = array<double>("F64", {1, 2, 3});
         a["received_slices"] = {"I64", "1,3", raw(I64{2, 0, 3})};
       },
       "slice 2"},
      {"sums beyond the end",
       [](Arrays& a) {
         a["distances"] = array<double>("F64", {1, 2, 3});
         a["distances_slices"] = {"I64", "1,4", raw(I64{0, 0, 0, 4})};
       },
       "4 values"},
      {"sums left over",
       [](Arrays& a) {
         a["distances"] = array<double>("F64", {1, 2, 3});
         a["distances_slices"] = {"I64", "1,4", raw(I64{0, 0, 0, 2})};
       },
       "2 values of 3"},
      {"distance out of range",
       [=](Arrays& a) {
         a["distances"] = array<double>("F64", {1});
         a["distances_slices"] = {"I64", "1,4", raw(I64{0, huge, 0, 1})};
       },
       "out of range"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    Arrays arrays = sound();
    c.change(arrays);
    const std::string path = dir.write("bad.graph", build(arrays));
    expect_error(Status::kFormat, {"bad.graph'", c.text}, [&] { read_graph(path); });
  }
  for (const auto& [name, unused] : sound()) {
    Arrays arrays = sound();
    arrays.erase(name);
    expect_error(Status::kFormat, {"bad.graph'", name + " is missing"},
                 [&] { read_graph(dir.write("bad.graph", build(arrays))); });
  }
}

TEST(GraphReader, RefusesFactsThatAreNone) {
  const TempDir dir;
  const auto read = [&](const std::string& facts) { read_graph(dir.write("g.x", build(sound(), facts))); };
  const std::string good = R"("format":"attngraph-graph","format_version":"1")";
  expect_error(Status::kFormat, {"g.x'", "no graph"}, [&] { read(""); });
  expect_error(Status::kFormat, {"no graph"}, [&] { read(R"("scale":"1")"); });
  expect_error(Status::kUnsupported, {"version '2'"},
               [&] { read(R"("format":"attngraph-graph","format_version":"2")"); });
  expect_error(Status::kFormat, {"report.eps", "'small'"}, [&] { read(good + R"(,"report.eps":"small")"); });
  expect_error(Status::kFormat, {"report.threads", "'99999999999'"},
               [&] { read(good + R"(,"report.threads":"99999999999")"); });
  expect_error(Status::kFormat, {"tokens"}, [&] { read(good + R"(,"tokens":"[1]")"); });
  expect_error(Status::kFormat, {"tokens", "surrogate"}, [&] { read(good + R"(,"tokens":"[\"\\udc80\"]")"); });
}

TEST(GraphReader, OtherFilesAreNoGraphs) {
  const TempDir dir;
  const std::string matrix = npy(npy_dict("<f4", "(1,)"), "aaaa");
  expect_error(Status::kFormat, {"m.npy'", "filter"}, [&] { read_graph(dir.write("m.npy", matrix)); });
  expect_error(Status::kFormat, {"m.npz'", "no graph"},
               [&] { read_graph(dir.write("m.npz", zip({ZipPart::stored("a.npy", matrix)}))); });
  expect_error(Status::kFormat, {"e.csv'", "empty"}, [&] { read_graph(dir.write("e.csv", "")); });
  expect_error(Status::kFormat, {"t.csv'"}, [&] { read_graph(dir.write("t.csv", "source,target\n")); });
  expect_error(Status::kNotFound, {"absent'"}, [&] { read_graph(dir.path("absent")); });
  const std::string facts = R"(["not an object"])";
  expect_error(Status::kFormat, {"f.npz'", "metadata"}, [&] {
    read_graph(dir.write(
        "f.npz",
        zip({ZipPart::stored("metadata.npy", npy(npy_dict("|u1", fmt::format("({},)", facts.size())), facts))})));
  });
}

TEST(GraphReader, EveryTruncationAndEveryChangedByteIsSurvived) {
  const TempDir dir;
  for (const std::string format : {"npz", "safetensors", "csv", "jsonl"}) {
    SCOPED_TRACE(format);
    write_graph(small_graph(), dir.path("g." + format));
    const std::string bytes = slurp(dir.path("g." + format));
    const bool binary = format == "npz" || format == "safetensors";
    const auto try_read = [&](const std::string& changed) {
      try {
        read_graph(dir.write("t." + format, changed));
        return true;
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("t." + format + "'"));
        return false;
      }
    };
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      const bool read = try_read(bytes.substr(0, n));
      if (binary) {
        EXPECT_FALSE(read) << "cut at byte " << n;
      }
      // A table cut between two lines is a shorter table; a line cut in two is none. JSON may lose its last line end.
      const bool whole = n == 0 ? format == "jsonl" : bytes[n - 1] == '\n' || (format == "jsonl" && bytes[n] == '\n');
      if (!binary) {
        EXPECT_EQ(read, whole) << "cut at byte " << n;
      }
      std::string changed = bytes;
      changed[n] = static_cast<char>(changed[n] ^ 0x41);
      try_read(changed);
    }
  }
}

TEST(TableReader, RefusesBrokenLines) {
  const TempDir dir;
  struct Case {
    std::string lines;
    std::string text;
  };
  const std::vector<Case> csv = {
      {"0,0,0,0,0\n", "fewer"},
      {"0,0,0,0,0,1,2\n", "more"},
      {"0,0,0,0,0,\n", "no number"},
      {"0,0,0,0,0,0.5x\n", "no number"},
      {"0,0,0,0,0,0.5", "truncated"},
      {"0,0,0,0,0,nan\n", "finite"},
      {"0,0,0,0,0,inf\n", "finite"},
      {"0,0,0,0,0,1e999\n", "no number"},
      {"0,0,0,-1,0,1\n", "query"},
      {"0,0,0,0,2147483647,1\n", "key"},
      {"0,0,99999999999999999999,0,0,1\n", "head"},
      {" 0,0,0,0,0,1\n", "batch"},
      {"0,0,0,1,0,1\n0,0,0,0,0,1\n", "sorted"},
      {"0,0,0,0,1,1\n0,0,0,0,0,1\n", "sorted"},
      {"0,0,0,0,0,1\n0,0,0,0,0,1\n", "sorted"},
      {"0,0,0,0,0,1\n0,0,1,0,0,1\n0,0,0,1,0,1\n", "stand together"},
      {"0,0,0,0,0,1\n\n0,0,0,1,0,1\n", "empty line"},
  };
  for (const Case& c : csv) {
    SCOPED_TRACE(c.lines);
    const std::string path = dir.write("t.csv", "batch,layer,head,query,key,weight\n" + c.lines);
    expect_error(Status::kFormat, {"t.csv'", c.text, "byte"}, [&] { read_graph(path); });
  }
  const std::vector<Case> jsonl = {
      {R"({"batch":0})", "needs"},
      {R"({"batch":0,"batch":0})", "second"},
      {R"({"batch":0.5})", "0.5"},
      {R"({"batch":-1})", "-1"},
      {R"({"batch":"0"})", "number"},
      {R"({"batch":[0],"layer":0,"head":0,"query":0,"key":0,"weight":1})", "needs"},
      {R"({"key":2147483647})", "limit"},
      {R"({"x":[[[[[[[[[1]]]]]]]]]})", "deeper"},
      {R"({"batch":0,"layer":0,"head":0,"query":0,"key":0,"weight":null})", "finite"},
      {R"({"batch":0,"layer":0,"head":0,"query":0,"key":0,"weight":1}})", "end of input"},
      {R"({"batch":0,"layer":0,"head":0,"query":0,"key":0,"weight":1,"weight":1})", "second"},
      {R"({"batch":0,"layer":0,"head":0,"query":0,"key":0,"weight":1e999})", "overflow"},
      {R"({"key":1,"x":{"key":1,"key":1}})", "second"},
      {"{}\n[]", "needs"},
  };
  for (const Case& c : jsonl) {
    SCOPED_TRACE(c.lines);
    const std::string path = dir.write("t.jsonl", c.lines);
    expect_error(Status::kFormat, {"t.jsonl'", c.text, "byte"}, [&] { read_graph(path); });
  }
}

TEST(TableReader, MemoryGoesWithTheFileAndNotWithWhatItClaims) {
  const TempDir dir;
  const std::string head = "batch,layer,head,query,key,weight\n";
  for (const std::int64_t query :
       {std::int64_t{9223372036854775806}, std::int64_t{1000000000000}, std::int64_t{300000}}) {
    const std::string number = std::to_string(query);
    // Before the gap, after it, and once more: the rows between are left out, the slice goes on behind them.
    const EdgeList graph = read_graph(dir.write("t.csv", head + "0,0,0,2,0,0.25\n0,0,0," + number + ",0,1\n0,0,0," +
                                                             number + ",7,0.5\n0,0,1," + number + ",3,1\n"));
    ASSERT_EQ(graph.slices.size(), 3u);
    EXPECT_EQ(graph.slices[0].info, (SliceInfo{{0, 0, 0}, 0, 3, 1}));
    EXPECT_EQ(graph.slices[1].info, (SliceInfo{{0, 0, 0}, query, 1, 8}));
    EXPECT_EQ(graph.slices[2].info, (SliceInfo{{0, 0, 1}, query, 1, 4}));
    EXPECT_EQ(graph.offsets, (std::vector<std::int64_t>{0, 0, 0, 1, 0, 2, 0, 1}));
    EXPECT_EQ(graph.keys, (std::vector<std::int32_t>{0, 0, 7, 3}));
    EXPECT_EQ(graph.rows.size(), 5u);
    EXPECT_EQ(diff(graph, graph, 0).common, 4);
  }
  // Every line with a gap before it: rows stay in proportion to lines.
  std::string gaps = head;
  for (std::int64_t n = 0; n < 1000; ++n) gaps += "0,0,0," + std::to_string(n * 200'000) + ",0,1\n";
  EXPECT_LE(read_graph(dir.write("t.csv", gaps)).rows.size(), (std::size_t{1} << 18) + 16 * 1001);
  const std::string line = head + "0,0,0,0,0,\"" + std::string(std::size_t{3} << 20, 'x');
  expect_error(Status::kLimit, {"t.csv'", "2097152"}, [&] { read_graph(dir.write("t.csv", line)); });
}

TEST(TableReader, AcceptsWhatOtherProgramsWrite) {
  const TempDir dir;
  const std::string csv =
      "\xEF\xBB\xBF"
      "batch,layer,head,query,key,weight,query_token,key_token\r\n"
      "0,1,2,3,4,5.0E-1,\"a\nb, \"\"c\"\"\",x\r\n\r\n";
  const EdgeList a = read_graph(dir.write("a.csv", csv));
  EXPECT_EQ(a.slices.at(0).info, (SliceInfo{{0, 1, 2}, 0, 4, 5}));
  EXPECT_EQ(a.weight(0), 0.5);
  const EdgeList b = read_graph(
      dir.write("b.jsonl", R"({"weight": 5e-1, "key":4,"query":3, "head":2,"layer":1,"batch":0, "note":{"a":[1]}})"));
  EXPECT_EQ(b.slices.at(0).info, a.slices.at(0).info);
  expect_error(Status::kFormat, {"a.csv'", "two labels"}, [&] {
    read_graph(dir.write("a.csv", "batch,layer,head,query,key,weight,query_token,key_token\n0,0,0,0,0,1,x\n"));
  });
}

}  // namespace
}  // namespace ag::io_test
