// SPDX-License-Identifier: Apache-2.0
// GraphML and DOT: nodes and edges for programs that draw. A node is a position of a batch, the same for queries and
// keys, all layers and heads; where queries and keys are different things, each has nodes of its own. Parallel edges
// carry which layer and head they belong to. A node is declared just before the first edge that needs it, so nothing
// but the set of declared nodes is kept.
#include <bitset>
#include <unordered_map>

#include "escape.hpp"
#include "graph_writer.hpp"

namespace ag {
namespace {

// An end of an edge. Side 0 is that of positions, which queries and keys share.
struct Node {
  char side;  // 'q', 'k' or 0
  std::int64_t number;
};

// (batch, number) pairs seen so far, in pages: memory goes with the numbers touched, not with their range.
class NodeSet {
 public:
  // True the first time.
  bool insert(std::int64_t batch, std::int64_t position) {
    // A query may stand before the first key: the shift rounds down there too.
    Page& page = pages_[batch][position >> kPageShift];
    const auto bit = static_cast<std::size_t>(position) % kPageBits;
    if (page[bit]) return false;
    return page[bit] = true;
  }

 private:
  static constexpr int kPageShift = 12;
  static constexpr std::size_t kPageBits = std::size_t{1} << kPageShift;
  using Page = std::bitset<kPageBits>;
  std::unordered_map<std::int64_t, std::unordered_map<std::int64_t, Page>> pages_;
};

class DrawingWriter : public GraphWriter {
 public:
  DrawingWriter(const std::string& path, const WriteOptions& options)
      : GraphWriter(in_quotes(path)), key_to_query_(options.key_to_query), file_(path) {}

 protected:
  BufferedWriter& out() { return file_.out(); }
  template <class... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) {
    line_.clear();
    fmt::format_to(std::back_inserter(line_), format, std::forward<Args>(args)...);
    out().write({line_.data(), line_.size()});
  }

 private:
  virtual void node(const Node& node, const std::string* word) = 0;  // word: null where there is none
  virtual void edge(const Node& source, const Node& target, std::int64_t query, std::int64_t key,
                    std::string_view weight) = 0;
  virtual void close() = 0;

  void declare(const Node& end) {
    NodeSet& nodes = end.side == 'q' ? queries_ : nodes_;
    // A position has the word of its key.
    if (nodes.insert(slice().id.batch, end.number))
      node(end, end.side == 'q' ? query_word(end.number) : key_word(end.number));
  }
  void on_begin_slice(DType) final {}
  void on_rows(const RowBlock& block) final {
    char digits[kNumberChars];
    const bool apart = metadata().two_sided();
    for (std::int64_t r = 0; r < block.row_count; ++r) {
      const std::int64_t query = block.query_begin + r;
      const Node asking = apart ? Node{'q', query} : Node{0, position(query)};
      for (std::int64_t e = block.offsets[r]; e < block.offsets[r + 1]; ++e) {
        const std::int64_t key = block.keys[e];
        const Node asked{apart ? 'k' : '\0', key};
        declare(asking);
        declare(asked);
        const char* end = block.weight_dtype == DType::kF64
                              ? put_number(digits, static_cast<const double*>(block.weights)[e])
                              : put_number(digits, static_cast<const float*>(block.weights)[e]);
        edge(key_to_query_ ? asked : asking, key_to_query_ ? asking : asked, query, key, {digits, end});
      }
    }
  }
  void on_end_slice(const SliceSums&) final {}
  void on_finish(const RunReport&) final {
    close();
    file_.complete();
    file_.publish();
  }

  bool key_to_query_;
  OutputFile file_;
  NodeSet nodes_, queries_;  // of positions or keys; of queries, where those are apart
  fmt::memory_buffer line_;
};

// "b0_7", or "b0_q7" and "b0_k7".
std::string name_of(std::int64_t batch, const Node& node) {
  return fmt::format("b{}_{}{}", batch, std::string_view(&node.side, node.side == 0 ? 0 : 1), node.number);
}

class GraphmlWriter : public DrawingWriter {
 public:
  using DrawingWriter::DrawingWriter;

 private:
  void start() override {
    out().write(R"(<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="node_batch" for="node" attr.name="batch" attr.type="long"/>
<key id="position" for="node" attr.name="position" attr.type="long"/>
<key id="side" for="node" attr.name="side" attr.type="string"/>
<key id="token" for="node" attr.name="token" attr.type="string"/>
<key id="label" for="node" attr.name="label" attr.type="string"/>
<key id="edge_batch" for="edge" attr.name="batch" attr.type="long"/>
<key id="layer" for="edge" attr.name="layer" attr.type="long"/>
<key id="head" for="edge" attr.name="head" attr.type="long"/>
<key id="query" for="edge" attr.name="query" attr.type="long"/>
<key id="key" for="edge" attr.name="key" attr.type="long"/>
<key id="weight" for="edge" attr.name="weight" attr.type="double"/>
<graph id="attention" edgedefault="directed">
)");
  }
  // Each attribute is declared for nodes or for edges: igraph knows no other. `label` is what Gephi shows.
  void node(const Node& node, const std::string* word) override {
    const std::int64_t batch = slice().id.batch;
    print(R"(<node id="{}"><data key="node_batch">{}</data><data key="position">{}</data>)", name_of(batch, node),
          batch, node.number);
    if (node.side != 0) print(R"(<data key="side">{}</data>)", node.side == 'q' ? "query" : "key");
    std::string text;
    append_xml(text, word != nullptr ? *word : std::to_string(node.number));
    if (word != nullptr) print(R"(<data key="token">{}</data>)", text);
    print("<data key=\"label\">{}</data></node>\n", text);
  }
  void edge(const Node& source, const Node& target, std::int64_t query, std::int64_t key,
            std::string_view weight) override {
    const SliceId& id = slice().id;
    // With an id of their own, parallel edges stay apart in readers that would take a datum named `key` for one.
    print(R"(<edge id="e{}" source="{}" target="{}"><data key="edge_batch">{}</data><data key="layer">{}</data>)"
          R"(<data key="head">{}</data><data key="query">{}</data><data key="key">{}</data>)"
          R"(<data key="weight">{}</data></edge>)"
          "\n",
          edges_++, name_of(id.batch, source), name_of(id.batch, target), id.batch, id.layer, id.head, query, key,
          weight);
  }
  void close() override { out().write("</graph>\n</graphml>\n"); }

  std::int64_t edges_ = 0;  // written so far
};

class DotWriter : public DrawingWriter {
 public:
  using DrawingWriter::DrawingWriter;

 private:
  void start() override { out().write("digraph attention {\n"); }
  // A minus would end a name that is not quoted.
  static std::string quoted_name(std::int64_t batch, const Node& node) {
    const char* const quote = node.number < 0 ? "\"" : "";
    return fmt::format("{0}{1}{0}", quote, name_of(batch, node));
  }
  void node(const Node& node, const std::string* word) override {
    std::string label;
    append_dot(label, word != nullptr ? *word : std::to_string(node.number));
    print("  {} [label={}];\n", quoted_name(slice().id.batch, node), label);
  }
  void edge(const Node& source, const Node& target, std::int64_t query, std::int64_t key,
            std::string_view weight) override {
    const SliceId& id = slice().id;
    print("  {} -> {} [batch={}, layer={}, head={}, query={}, key={}, weight={}];\n", quoted_name(id.batch, source),
          quoted_name(id.batch, target), id.batch, id.layer, id.head, query, key, weight);
  }
  void close() override { out().write("}\n"); }
};

}  // namespace

std::unique_ptr<GraphSink> open_drawing_writer(const std::string& path, GraphFormat format,
                                               const WriteOptions& options) {
  if (format == GraphFormat::kGraphml) return std::make_unique<GraphmlWriter>(path, options);
  return std::make_unique<DotWriter>(path, options);
}

}  // namespace ag
