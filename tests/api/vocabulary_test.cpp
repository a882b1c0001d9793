// SPDX-License-Identifier: Apache-2.0
// What the contract lists (dtypes, formats of graph files) is what the library does.
#include <attngraph/attngraph.hpp>

#include <cmath>
#include <fstream>
#include <iterator>

#include "support.hpp"

namespace attngraph_test {
namespace {

using attngraph::write_options;

TEST(DTypes, HaveNamesAndSizes) {
  std::string all;
  for (std::int32_t dtype = ATTNGRAPH_F64; attngraph_dtype_name(dtype) != nullptr; ++dtype)
    all += attngraph_dtype_name(dtype) + std::to_string(attngraph_dtype_size(dtype)) + " ";
  EXPECT_EQ(all, "f648 f324 f162 bf162 bool1 i324 i648 ");
  for (const std::int32_t none : {0, -1, ATTNGRAPH_I64 + 1, INT32_MAX}) {
    EXPECT_EQ(attngraph_dtype_name(none), nullptr);
    EXPECT_EQ(attngraph_dtype_size(none), 0U);
  }
}

TEST(Backends, AreNamedInTheirOrder) {
  const auto names = attngraph::backend_names();
  const auto backends = attngraph::backends();
  ASSERT_EQ(names.size(), backends.size());
  for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(names[i], backends[i].name);
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What a format's abilities promise, against what it does with a graph that has words and three queries among five
// keys.
class Formats : public testing::TestWithParam<attngraph::graph_format> {
 protected:
  static attngraph::result graph() {
    const Tensor<float> q = random_tensor({3, 8}, 1), k = random_tensor({5, 8}, 2);
    auto sink = attngraph::sink::collect();
    sink.set_tokens(std::vector<std::string>{"a", "b", "c", "d", "e"});
    attngraph::context("cpu").extract(attngraph::tensor(q.view()), attngraph::tensor(k.view()),
                                      attngraph::options().threshold(0.1).causal(), sink);
    return sink.take_result();
  }
  static bool can(std::uint32_t ability) { return (GetParam().abilities & ability) != 0; }
  std::string written(const write_options& how) const {
    const std::string path = folder_ / "graph" + GetParam().suffix;
    graph().save(path, {}, how);
    return path;
  }
  static attngraph_status failure_of(const std::function<void()>& work) {
    try {
      work();
    } catch (const attngraph::error& e) {
      return e.status();
    }
    return ATTNGRAPH_OK;
  }

  Folder folder_;
};
INSTANTIATE_TEST_SUITE_P(Api, Formats, testing::ValuesIn(attngraph::graph_formats()),
                         [](const auto& format) { return std::string(format.param.name); });

TEST_P(Formats, AreReadBackAsTheySay) {
  const std::string path = written({});
  const attngraph::result before = graph();
  const attngraph_status status = failure_of([&] {
    const attngraph::result after = attngraph::result::load(path);
    EXPECT_EQ(table_of(after.c()), table_of(before.c()));
    EXPECT_EQ(after.token_count() == 5 && after.query_offset() == 2 && after.report().eps == before.report().eps &&
                  after.slice(0).rows.logsumexp[2] == before.slice(0).rows.logsumexp[2],
              can(ATTNGRAPH_FORMAT_WHOLE));
  });
  EXPECT_EQ(status == ATTNGRAPH_OK, can(ATTNGRAPH_FORMAT_READ)) << attngraph_last_error();
}

TEST_P(Formats, TakeTheOptionsThatTheySay) {
  EXPECT_EQ(failure_of([&] { written({.rows = true}); }),
            can(ATTNGRAPH_FORMAT_ROWS) ? ATTNGRAPH_OK : ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(can(ATTNGRAPH_FORMAT_WHOLE) || std::filesystem::exists(folder_ / "graph.rows" + GetParam().suffix),
            can(ATTNGRAPH_FORMAT_ROWS));
  const std::string plain = bytes_of(written({}));
  EXPECT_EQ(bytes_of(written({.labels = true})) != plain, can(ATTNGRAPH_FORMAT_LABELS));
  EXPECT_EQ(bytes_of(written({.key_to_query = true})) != plain, can(ATTNGRAPH_FORMAT_DIRECTION));
}

TEST_P(Formats, GoToStandardOutputWhereTheySay) {
  EXPECT_EQ(failure_of([] { attngraph::sink::file("-", GetParam().name); }),
            can(ATTNGRAPH_FORMAT_STREAM) ? ATTNGRAPH_OK : ATTNGRAPH_ERROR_ARGUMENT);
}

TEST(Formats, AreRefusedByTheirNames) {
  try {
    attngraph::sink::file("x.gexf");
    FAIL();
  } catch (const attngraph::error& e) {
    for (const auto& format : attngraph::graph_formats())
      EXPECT_NE(std::string(e.what()).find(format.name), std::string::npos) << e.what();
  }
  EXPECT_EQ(attngraph_format_at(-1), nullptr);
  EXPECT_EQ(attngraph_format_at(static_cast<std::int32_t>(attngraph::graph_formats().size())), nullptr);
}

TEST(QueryOffset, IsTheLibrarysWhoeverAsks) {
  const Tensor<float> q = random_tensor({3, 8}, 1);
  for (const auto& [fact, offset] : {std::pair{"-7", -7}, {"12", 12}, {"12 or so", 0}, {"", 0}}) {
    auto sink = attngraph::sink::collect();
    sink.set_metadata("query_offset", fact);
    attngraph::context("cpu").extract(attngraph::tensor(q.view()), attngraph::tensor(q.view()), {}, sink);
    EXPECT_EQ(sink.take_result().query_offset(), offset) << fact;
  }
  EXPECT_EQ(attngraph_result_query_offset(nullptr), 0);
}

TEST(TensorView, HasPartsAndOtherOrders) {
  const std::vector<double> values{0, 1, 2, 3, 4, 5};
  const attngraph::tensor whole(values.data(), {2, 3});
  const attngraph::tensor row = whole.at(1), turned = whole.swapped(0, 1), column = turned.at(2);
  ASSERT_EQ(row.shape().size(), 1U);
  EXPECT_EQ(row.data(), values.data() + 3);
  EXPECT_EQ(turned.shape()[0] * 10 + turned.shape()[1], 32);
  EXPECT_EQ(turned.strides()[0] * 10 + turned.strides()[1], 13);
  EXPECT_EQ(column.data(), values.data() + 2);
  EXPECT_EQ(column.strides()[0], 3);
  EXPECT_EQ(attngraph::tensor(nullptr, ATTNGRAPH_F16, {2, 3}).at(1).data(), nullptr) << "a shape has no memory";
  EXPECT_THROW((void)whole.at(2), attngraph::error);
  EXPECT_THROW((void)column.at(0).at(0), attngraph::error);
  EXPECT_THROW((void)whole.swapped(0, 2), attngraph::error);
}

}  // namespace
}  // namespace attngraph_test
