// SPDX-License-Identifier: Apache-2.0
// GraphML and DOT: nodes and edges for programs that draw. A node is a position of a batch, the same for queries and
// keys, all layers and heads; parallel edges carry which one they belong to. A node is declared just before the first
// edge that needs it, so nothing but the set of declared nodes is kept.
#include <bitset>
#include <unordered_map>

#include "escape.hpp"
#include "graph_writer.hpp"

namespace ag {
namespace {

// (batch, position) pairs seen so far, in pages: memory goes with the positions touched, not with their range.
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
      : GraphWriter(in_quotes(path)), key_to_query_(options.key_to_query), file_(path) {
    if (options.rows) {
      fail(Status::kArgument,
           "{}: GraphML and DOT have no place for row statistics; write csv, jsonl, npz or safetensors", file_.name());
    }
  }

 protected:
  BufferedWriter& out() { return file_.out(); }
  template <class... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) {
    line_.clear();
    fmt::format_to(std::back_inserter(line_), format, std::forward<Args>(args)...);
    out().write({line_.data(), line_.size()});
  }

 private:
  virtual void node(std::int64_t position) = 0;
  virtual void edge(std::int64_t source, std::int64_t target, std::int64_t query, std::int64_t key,
                    std::string_view weight) = 0;
  virtual void close() = 0;

  void declare(std::int64_t position) {
    if (nodes_.insert(slice().id.batch, position)) node(position);
  }
  void on_begin_slice(DType) final {}
  void on_rows(const RowBlock& block) final {
    char digits[kNumberChars];
    for (std::int64_t r = 0; r < block.row_count; ++r) {
      const std::int64_t query = block.query_begin + r, stands_at = position(query);
      for (std::int64_t e = block.offsets[r]; e < block.offsets[r + 1]; ++e) {
        const std::int64_t key = block.keys[e];
        declare(stands_at);
        declare(key);
        const char* end = block.weight_dtype == DType::kF64
                              ? put_number(digits, static_cast<const double*>(block.weights)[e])
                              : put_number(digits, static_cast<const float*>(block.weights)[e]);
        edge(key_to_query_ ? key : stands_at, key_to_query_ ? stands_at : key, query, key, {digits, end});
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
  NodeSet nodes_;
  fmt::memory_buffer line_;
};

class GraphmlWriter : public DrawingWriter {
 public:
  using DrawingWriter::DrawingWriter;

 private:
  void start() override {
    out().write(R"(<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="batch" for="all" attr.name="batch" attr.type="long"/>
<key id="position" for="node" attr.name="position" attr.type="long"/>
<key id="token" for="node" attr.name="token" attr.type="string"/>
<key id="layer" for="edge" attr.name="layer" attr.type="long"/>
<key id="head" for="edge" attr.name="head" attr.type="long"/>
<key id="query" for="edge" attr.name="query" attr.type="long"/>
<key id="key" for="edge" attr.name="key" attr.type="long"/>
<key id="weight" for="edge" attr.name="weight" attr.type="double"/>
<graph id="attention" edgedefault="directed">
)");
  }
  void node(std::int64_t position) override {
    const std::int64_t batch = slice().id.batch;
    print(R"(<node id="b{}_{}"><data key="batch">{}</data><data key="position">{}</data>)", batch, position, batch,
          position);
    if (!metadata().tokens.empty()) {
      std::string text;
      append_xml(text, token(position));
      print(R"(<data key="token">{}</data>)", text);
    }
    out().write("</node>\n");
  }
  void edge(std::int64_t source, std::int64_t target, std::int64_t query, std::int64_t key,
            std::string_view weight) override {
    const SliceId& id = slice().id;
    // With an id of their own, parallel edges stay apart in readers that would take a datum named `key` for one.
    print(R"(<edge id="e{}" source="b{}_{}" target="b{}_{}"><data key="batch">{}</data><data key="layer">{}</data>)"
          R"(<data key="head">{}</data><data key="query">{}</data><data key="key">{}</data>)"
          R"(<data key="weight">{}</data></edge>)"
          "\n",
          edges_++, id.batch, source, id.batch, target, id.batch, id.layer, id.head, query, key, weight);
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
  static std::string_view quote(std::int64_t position) { return position < 0 ? "\"" : ""; }
  void node(std::int64_t position) override {
    std::string label;
    append_dot(label, metadata().tokens.empty() ? std::to_string(position) : token(position));
    print("  {0}b{1}_{2}{0} [label={3}];\n", quote(position), slice().id.batch, position, label);
  }
  void edge(std::int64_t source, std::int64_t target, std::int64_t query, std::int64_t key,
            std::string_view weight) override {
    const SliceId& id = slice().id;
    print("  {0}b{2}_{3}{0} -> {1}b{2}_{4}{1} [batch={2}, layer={5}, head={6}, query={7}, key={8}, weight={9}];\n",
          quote(source), quote(target), id.batch, source, target, id.layer, id.head, query, key, weight);
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
