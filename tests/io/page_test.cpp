// SPDX-License-Identifier: Apache-2.0
// The viewer's page: its blocks hold the graph, and nothing in a graph becomes markup.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>

#include "../graph/graphs.hpp"
#include "graph/bins.hpp"
#include "graph/operations.hpp"
#include "io/graph_file.hpp"
#include "io/page_blocks.hpp"
#include "io/page_facts.hpp"
#include "io/page_writer.hpp"
#include "io/viewer_assets.hpp"
#include "io_support.hpp"

namespace ag {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = (bits << 6) | static_cast<std::uint32_t>(kDigits.find(c));
    if ((count += 6) >= 8) out += static_cast<char>(bits >> (count -= 8));
  }
  return out;
}

std::string inflated(std::string_view bytes) {
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, -15), Z_OK);
  std::string out(std::size_t{1} << 24, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}
std::string unpacked(std::string_view block) { return inflated(from_base64(block)); }

// The text of <script ... id="ID">.
std::string block_of(const std::string& page, const std::string& id) {
  const std::string mark = "id=\"" + id + "\">";
  const std::size_t at = page.find(mark);
  EXPECT_NE(at, std::string::npos) << id;
  return page.substr(at + mark.size(), page.find("</script>", at) - at - mark.size());
}

TEST(PageBlocks, Base64IsThatOfTheStandard) {
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : cases) EXPECT_EQ(base64(plain), encoded);
}

TEST(PageBlocks, HoldEveryEdge) {
  for (const bool coarse : {false, true}) {
    const EdgeList graph = random_graph(11);
    for (const Slice& slice : graph.slices) {
      const EdgeBlock block = edge_block(graph, slice, coarse);
      const std::string bytes = unpacked(block.text);
      ASSERT_EQ(bytes.size(), block.sizes[0] + block.sizes[1] + block.sizes[2] + block.sizes[3] + block.sizes[4]);
      EXPECT_EQ(block.sizes[3], coarse ? 0u : block.sizes[2]);
      std::size_t at = 0;
      const auto varint = [&] {
        std::uint64_t value = 0;
        for (int shift = 0;; shift += 7) {
          const auto byte = static_cast<unsigned char>(bytes[at++]);
          value |= std::uint64_t{byte & 0x7Fu} << shift;
          if (byte < 0x80) return static_cast<std::int64_t>(value);
        }
      };
      std::vector<std::int64_t> counts;
      for (std::int64_t r = 0; r < slice.info.query_count; ++r) counts.push_back(varint());
      const std::vector<Edge> want = table_of(graph, slice);
      std::size_t e = 0, upper = block.sizes[0] + block.sizes[1];
      for (std::size_t r = 0; r < counts.size(); ++r) {
        std::int64_t next = 0;
        for (std::int64_t n = 0; n < counts[r]; ++n, ++e) {
          const std::int64_t key = next + varint();
          next = key + 1;
          EXPECT_EQ(want[e].key, key);
          EXPECT_EQ(want[e].query, slice.info.query_begin + static_cast<std::int64_t>(r));
          const auto byte = [&](std::size_t p) { return static_cast<unsigned char>(bytes[p]); };
          const int low = coarse ? 128 : byte(upper + want.size() + e);
          const double weight =
              block.scale.weight(static_cast<std::uint16_t>(std::min(65535, byte(upper + e) << 8 | low)));
          EXPECT_NEAR(std::log(weight / want[e].weight), 0, coarse ? 0.012 : 1e-4);
        }
      }
      EXPECT_EQ(e, want.size());
    }
  }
}

TEST(PageBlocks, WeightsOfAnySignHaveCodes) {
  const EdgeList graph = GraphBuilder(DType::kF64).slice({}, 0, 3).row({{0, -2.0}, {1, 0.0}, {2, 6.0}}).build();
  const WeightScale scale = weight_scale(graph, graph.slices[0]);
  EXPECT_FALSE(scale.logarithmic);
  for (const double w : {-2.0, 0.0, 6.0}) EXPECT_NEAR(scale.weight(scale.code(w)), w, 1e-4);
  EXPECT_EQ(weight_scale(GraphBuilder().slice({}, 0, 3).row({{1, 0.5}}).build(), {}).code(0.5), 0);
}

TEST(Page, NothingInAGraphBecomesMarkup) {
  const std::vector<std::string> evil = {
      "</script><script>alert(1)</script>", "<!--",         "\"onload=alert(1) x=\"", "]]>&amp;\u2028",
      std::string("\0\x1b[31m", 6),         "\xff\xfe half"};
  Metadata metadata;
  metadata.tokens = Labels(evil);
  metadata.facts = {{"model", "</title><script>alert(2)</script>"}, {"note</script>", "<img src=x onerror=alert(3)>"}};
  GraphBuilder builder;
  builder.slice({}, 0, 6);
  for (int i = 0; i < 6; ++i) builder.row({{0, 0.5}});
  const std::string page = page_of(builder.build(metadata));
  for (const char* bad : {"alert(1)</script>", "<script>alert", "<img src", "</title><script", "\x1b[31m"})
    EXPECT_THAT(page, Not(HasSubstr(bad)));
  const json facts = json::parse(block_of(page, "graph"));
  EXPECT_EQ(facts["facts"]["note</script>"], "<img src=x onerror=alert(3)>");
  const json words = json::parse(unpacked(block_of(page, "words")));
  ASSERT_EQ(words["keys"][0].size(), evil.size());
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(words["keys"][0][i], evil[i]);
}

TEST(Page, AsksTheNetworkForNothingAndRunsItsOwnScriptOnly) {
  const std::string page = page_of(random_graph(3));
  EXPECT_THAT(page, HasSubstr("default-src 'none'; script-src 'sha256-"));
  EXPECT_THAT(page, Not(HasSubstr("unsafe")));
  // Addresses are there as names of SVG's and HTML's formats only.
  const std::regex address("https?://[^\"'` )]+");
  for (std::sregex_iterator it(page.begin(), page.end(), address), end; it != end; ++it)
    EXPECT_EQ(it->str(), "http://www.w3.org/2000/svg");
  EXPECT_THAT(page, Not(HasSubstr("src=\"")));
  EXPECT_THAT(page, HasSubstr("<script type=\"text/plain\" id=\"whole\"></script>"));
  for (const std::string_view code : {viewer::app, viewer::engine})
    for (const char* ends : {"</script", "<!--"}) EXPECT_EQ(code.find(ends), std::string_view::npos);
}

TEST(Page, LongWordsAreCutAtAWholeCharacter) {
  Metadata metadata;
  std::string word;
  for (int i = 0; i < 500'000; ++i) word += "\u00e9";
  metadata.tokens = Labels({word, "short"});
  const json words = json::parse(unpacked(words_block(metadata)));
  EXPECT_LT(words["keys"][0][0].get<std::string>().size(), 410u);
  EXPECT_THAT(words["keys"][0][0].get<std::string>(), testing::EndsWith("\u00e9\u2026"));
  EXPECT_EQ(words["keys"][0][1], "short");
}

TEST(Page, FiguresOfHeadsAreThoseOfTheSummary) {
  const EdgeList graph = random_graph(5);
  for (const HeadColumn& column : head_columns(graph)) {
    ASSERT_EQ(column.figures.size(), graph.slices.size());
    for (std::size_t i = 0; i < graph.slices.size(); ++i) {
      const Summary s = summarise(graph, i);
      if (column.name == "first") {
        EXPECT_EQ(column.figures[i], s.first_share);
      }
      if (column.name == "kept") {
        EXPECT_EQ(column.figures[i], s.kept_mass_mean);
      }
    }
  }
}

TEST(Page, ThumbnailsAreBinsOnOneByte) {
  const EdgeList graph = random_graph(5);
  const Thumbnails pictures = thumbnails(graph);
  const std::string bytes = unpacked(pictures.text);
  std::size_t at = 0;
  for (const Slice& slice : graph.slices) {
    const std::int64_t rows = slice.info.query_count, columns = slice.info.key_count;  // smaller than the pictures
    std::vector<double> cells(static_cast<std::size_t>(rows * columns));
    bin_edges(graph, slice, {.rows = rows, .columns = columns, .value = BinValue::kMax}, cells);
    for (const double cell : cells) {
      const double code = static_cast<unsigned char>(bytes[at++]);
      EXPECT_EQ(code, std::ceil(255 * std::sqrt(cell / pictures.high)));
    }
    at += cells.size();  // by share
  }
  EXPECT_EQ(at, bytes.size());
}

TEST(Page, HasTwoTextsWhereQueriesAreAnotherTextThanKeys) {
  EdgeList graph = GraphBuilder().slice({}, 0, 2).row({{0, 0.5}}).row({{1, 0.5}}).build();
  const auto two = [&] { return page_of(graph).find("\"twoTexts\":true") != std::string::npos; };
  EXPECT_FALSE(two());
  graph.metadata.facts["query_offset"] = "1";  // the second query stands after the last key
  EXPECT_TRUE(two());
  graph.metadata.facts["query_offset"] = "-1";  // the first stands before the first
  EXPECT_TRUE(two());
  graph.metadata.facts["query_offset"] = "0";
  graph.metadata.facts["attention"] = "cross";
  EXPECT_TRUE(two());
}

TEST(Page, OfOddGraphsIsAPageToo) {
  EXPECT_THAT(page_of({}), HasSubstr("\"slices\":[]"));
  EXPECT_THAT(page_of(GraphBuilder().slice({}, 0, 5).build()), HasSubstr("\"queries\":0,\"keys\":5"));
  EXPECT_THAT(page_of(GraphBuilder().slice({}, 0, 1).row({}).build()), HasSubstr("\"edges\":0"));
  EXPECT_EQ(page_of(random_graph(9)), page_of(random_graph(9)));
}

}  // namespace
}  // namespace ag
