// SPDX-License-Identifier: Apache-2.0
#include "page_writer.hpp"

#include <fmt/format.h>

#include "../core/error.hpp"
#include "../graph/operations.hpp"
#include "escape.hpp"
#include "graph_writer.hpp"
#include "output_file.hpp"
#include "page_facts.hpp"
#include "viewer_assets.hpp"

namespace ag {
namespace {

constexpr std::int64_t kMostFineEdges = 1'000'000;  // with more, a weight is told to a hundredth of itself
constexpr std::int64_t kMostTableRows = 4000;

[[noreturn]] void too_many(std::int64_t edges) {
  fail(Status::kLimit,
       "a page holds at most {} edges, and this graph has {}{}; raise the threshold or take fewer layers and heads",
       kMostPageEdges, edges > kMostPageEdges ? "" : "at least ", edges);
}

std::string hash_source(std::string_view sha256_hex) {
  std::string bytes;
  for (std::size_t at = 0; at + 1 < sha256_hex.size(); at += 2)
    bytes += static_cast<char>(std::stoi(std::string(sha256_hex.substr(at, 2)), nullptr, 16));
  return fmt::format("'sha256-{}'", base64(bytes));
}

// For whoever has no JavaScript or no eyes for pictures: the figures of every head and its heaviest edge, as a table.
std::string heads_table(const EdgeList& graph) {
  std::string out = "<table><caption>Heads of this graph</caption><thead><tr><th>batch<th>layer<th>head";
  const std::vector<HeadColumn> columns = head_columns(graph);
  for (const HeadColumn& column : columns) out += fmt::format("<th>{}", column.title);
  out += "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < graph.slices.size() && i < kMostTableRows; ++i) {
    const SliceId& id = graph.slices[i].info.id;
    fmt::format_to(std::back_inserter(out), "<tr><td>{}<td>{}<td>{}", id.batch, id.layer, id.head);
    for (const HeadColumn& column : columns) {
      const double figure = column.figures[i];
      out += figure != figure ? "<td>"
             : column.share   ? fmt::format("<td>{:.1f} %", 100 * figure)
                              : fmt::format("<td>{:.{}f}", figure, column.digits);
    }
    out += "</tr>\n";
  }
  out += "</tbody></table>\n";
  if (graph.slices.size() > kMostTableRows)
    out += fmt::format("<p>The first {} of {} heads.</p>\n", kMostTableRows, graph.slices.size());
  return out;
}

void put_block(std::string& out, std::string_view id, std::string_view text) {
  fmt::format_to(std::back_inserter(out), "<script type=\"text/plain\" id=\"{}\">{}</script>\n", id, text);
}

// Fills the marks of viewer/page.html, <!--name-->, in order.
template <class Fill>
std::string filled(std::string_view page, Fill&& fill) {
  constexpr std::string_view kBegin = "<!--@", kEnd = "-->";
  std::string out;
  while (true) {
    const std::size_t mark = page.find(kBegin);
    out += page.substr(0, mark);
    if (mark == std::string_view::npos) return out;
    const std::size_t end = page.find(kEnd, mark);
    fill(page.substr(mark + kBegin.size(), end - mark - kBegin.size()), out);
    page.remove_prefix(end + kEnd.size());
  }
}

class PageWriter : public GraphSink {
 public:
  explicit PageWriter(const std::string& path) : file_(path) {}
  void set_metadata(const Metadata& metadata) override { graph_.set_metadata(metadata); }
  void begin_slice(const SliceInfo& slice, DType weight_dtype) override { graph_.begin_slice(slice, weight_dtype); }
  void rows(const RowBlock& block) override {
    const std::int64_t edges = graph_.graph().edge_count() + block.edge_count();
    if (edges > kMostPageEdges) too_many(edges);
    graph_.rows(block);
  }
  void end_slice(const SliceSums& sums) override { graph_.end_slice(sums); }
  void finish(const RunReport& report) override {
    graph_.finish(report);
    file_.out().write(page_of(graph_.graph()));
    file_.complete();
    file_.publish();
  }

 private:
  OutputFile file_;
  CollectSink graph_;
};

}  // namespace

std::string page_of(const EdgeList& graph) {
  if (graph.edge_count() > kMostPageEdges) too_many(graph.edge_count());
  const bool coarse = graph.edge_count() > kMostFineEdges;
  std::vector<EdgeBlock> blocks;
  for (const Slice& slice : graph.slices) blocks.push_back(edge_block(graph, slice, coarse));
  const Thumbnails pictures = thumbnails(graph);

  return filled(viewer::page, [&](std::string_view mark, std::string& out) {
    if (mark == "policy") {
      out += fmt::format(
          "default-src 'none'; script-src {}; style-src {}; img-src blob: data:; worker-src blob:; base-uri 'none'; "
          "form-action 'none'",
          hash_source(viewer::app_sha256), hash_source(viewer::style_sha256));
    } else if (mark == "title") {
      append_xml(out, page_title(graph));
    } else if (mark == "name") {
      append_xml(out, page_name(graph));
    } else if (mark == "style") {
      out += viewer::style;
    } else if (mark == "app") {
      out += viewer::app;
    } else if (mark == "table") {
      out += heads_table(graph);
    } else if (mark == "data") {
      fmt::format_to(std::back_inserter(out), "<script type=\"application/json\" id=\"graph\">{}</script>\n",
                     page_json(graph, blocks, pictures));
      put_block(out, "engine", viewer::engine);
      put_block(out, "words", words_block(graph.metadata));
      put_block(out, "thumbnails", pictures.text);
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        put_block(out, fmt::format("edges-{}", i), blocks[i].text);
        std::string().swap(blocks[i].text);
      }
    }
  });
}

std::unique_ptr<GraphSink> open_page_writer(const std::string& path) { return std::make_unique<PageWriter>(path); }

}  // namespace ag
