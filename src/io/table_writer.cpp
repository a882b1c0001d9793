// SPDX-License-Identifier: Apache-2.0
// CSV and JSONL: one line per edge. The two differ in a few literals, so one writer serves both.
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "escape.hpp"
#include "graph_writer.hpp"

namespace ag {
namespace {

// One line of any of the tables. Cells are numbers or text; the writer of CSV puts commas, that of JSONL names.
class LineWriter {
 public:
  LineWriter(BufferedWriter& out, bool json) : out_(out), json_(json) {}

  void header(std::string_view columns) {
    if (json_) return;
    out_.write(columns);
    out_.write("\n");
  }
  void begin() { first_ = true; }
  template <class T>
  void number(const char* column, T value) {
    separate(column);
    char* to = out_.room(kNumberChars);
    if constexpr (std::is_floating_point_v<T>) {
      // JSON has no word for them.
      if (json_ && !std::isfinite(value)) {
        out_.write("null");
        return;
      }
      if (std::isnan(value)) value = std::numeric_limits<T>::quiet_NaN();  // without a sign
    }
    out_.advance(put_number(to, value));
  }
  void slice(const SliceId& id) {
    number("batch", id.batch);
    number("layer", id.layer);
    number("head", id.head);
  }
  void end() { out_.write(json_ ? "}\n" : "\n"); }

 private:
  void separate(const char* column) {
    if (json_) {
      out_.write(first_ ? "{\"" : ",\"");
      out_.write(column);
      out_.write("\":");
    } else if (!first_) {
      out_.write(",");
    }
    first_ = false;
  }

  BufferedWriter& out_;
  bool json_;
  bool first_ = true;
};

// edges.csv -> edges.rows.csv
std::string sibling(const std::string& path, const char* part) {
  const std::size_t slash = path.rfind('/');
  const std::size_t dot = path.rfind('.');
  const bool has_suffix = dot != std::string::npos && (slash == std::string::npos || dot > slash + 1) && dot > 0;
  const std::size_t at = has_suffix ? dot : path.size();
  return path.substr(0, at) + "." + part + path.substr(at);
}

class TableWriter : public GraphWriter {
 public:
  TableWriter(const std::string& path, bool json, const WriteOptions& options)
      : GraphWriter(in_quotes(path)), path_(path), json_(json), options_(options), edges_(path) {
    if (!options.rows) return;
    if (!edges_.is_replaced()) {
      fail(Status::kArgument, "{}: row statistics go to a second file beside the table; write the table to a file",
           edges_.name());
    }
    rows_.emplace(sibling(path, "rows"));
    line(*rows_).header("batch,layer,head,query,edges,logsumexp,maximum,max_key,kept_mass,entropy");
  }

 private:
  LineWriter line(OutputFile& file) const { return {file.out(), json_}; }

  void start() override {
    labels_ = options_.labels && !(metadata().tokens.empty() && metadata().query_tokens.empty());
    no_cell_ = cell("");
    if (!json_) edges_.out().write("batch,layer,head,query,key,weight");
    if (!json_ && labels_) edges_.out().write(",query_token,key_token");
    if (!json_) edges_.out().write("\n");
  }

  // A label as it stands in every line, without the name that JSON puts before it.
  std::string cell(const std::string& token) const {
    std::string text;
    if (json_) {
      append_json(text, token);
    } else {
      append_csv(text, token, options_.csv_raw);
    }
    return text;
  }

  // Keys have a label in many lines: those of a sequence are made once.
  void on_begin_slice(DType) override {
    if (!labels_) return;
    const std::size_t list = metadata().tokens.list_of(slice().id.batch);
    if (list != cells_of_ || cells_.empty()) {
      cells_.clear();
      const std::int64_t count = metadata().tokens.count(slice().id.batch);
      for (std::int64_t key = 0; key < count; ++key) cells_.push_back(cell(*key_word(key)));
      cells_of_ = list;
    }
    // Keys without words, beside queries that have some.
    if (metadata().tokens.empty()) cells_.assign(static_cast<std::size_t>(slice().key_count), no_cell_);
  }

  void on_rows(const RowBlock& block) override {
    if (block.weight_dtype == DType::kF64) {
      write_edges(block, static_cast<const double*>(block.weights));
    } else {
      write_edges(block, static_cast<const float*>(block.weights));
    }
    if (rows_) write_rows(block);
  }

  // The loop that writes tens of millions of lines: what a row's lines share is copied, only key and weight are
  // formatted.
  template <class Weight>
  void write_edges(const RowBlock& block, const Weight* weights) {
    const SliceId& id = slice().id;
    const std::string_view after_key = json_ ? ",\"weight\":" : ",";
    const std::string_view before_key_label = json_ ? ",\"key_token\":" : ",";
    const std::string_view end = json_ ? "}\n" : "\n";
    const auto put = [](char* to, std::string_view text) {
      std::memcpy(to, text.data(), text.size());
      return to + text.size();
    };
    for (std::int64_t r = 0; r < block.row_count; ++r) {
      const std::int64_t first = block.offsets[r], last = block.offsets[r + 1];
      if (first == last) continue;
      const std::int64_t query = block.query_begin + r;
      const std::string start = json_ ? fmt::format(R"({{"batch":{},"layer":{},"head":{},"query":{},"key":)", id.batch,
                                                    id.layer, id.head, query)
                                      : fmt::format("{},{},{},{},", id.batch, id.layer, id.head, query);
      std::string label;
      if (labels_) {
        const std::string* const word = query_word(query);
        label = (json_ ? ",\"query_token\":" : ",") + (word != nullptr ? cell(*word) : no_cell_);
      }
      const std::size_t room = start.size() + label.size() + 2 * kNumberChars + 64;
      for (std::int64_t e = first; e < last; ++e) {
        const auto key = static_cast<std::size_t>(block.keys[e]);
        char* to = edges_.out().room(labels_ ? room + cells_[key].size() : room);
        to = put(to, start);
        to = put_number(to, block.keys[e]);
        to = put(to, after_key);
        to = put_number(to, weights[e]);
        if (labels_) {
          to = put(to, label);
          to = put(to, before_key_label);
          to = put(to, cells_[key]);
        }
        edges_.out().advance(put(to, end));
      }
    }
  }

  void write_rows(const RowBlock& block) {
    LineWriter out = line(*rows_);
    for (std::int64_t r = 0; r < block.row_count; ++r) {
      const RowStats stats = block.stats[r];
      out.begin();
      out.slice(slice().id);
      out.number("query", block.query_begin + r);
      out.number("edges", block.offsets[r + 1] - block.offsets[r]);
      out.number("logsumexp", stats.logsumexp);
      out.number("maximum", stats.maximum);
      out.number("max_key", stats.max_key);
      out.number("kept_mass", stats.kept_mass);
      out.number("entropy", stats.entropy);
      out.end();
    }
  }

  // Files of their own, from the first slice on that has such sums; standard output has no place for them.
  void on_end_slice(const SliceSums& sums) override {
    if (!edges_.is_replaced()) return;
    if (!sums.received.empty()) {
      if (!columns_) line(columns_.emplace(sibling(path_, "columns"))).header("batch,layer,head,key,received");
      write_sums(line(*columns_), "key", 0, "received", sums.received);
    }
    if (!sums.distances.empty()) {
      if (!distances_) line(distances_.emplace(sibling(path_, "distances"))).header("batch,layer,head,distance,mass");
      write_sums(line(*distances_), "distance", sums.distance_begin, "mass", sums.distances);
    }
  }

  void write_sums(LineWriter out, const char* index_name, std::int64_t index, const char* name,
                  const std::vector<double>& values) {
    for (const double value : values) {
      out.begin();
      out.slice(slice().id);
      out.number(index_name, index++);
      out.number(name, value);
      out.end();
    }
  }

  void on_finish(const RunReport&) override {
    std::vector<OutputFile*> files;
    for (auto* file : {&rows_, &columns_, &distances_}) {
      if (*file) files.push_back(&**file);
    }
    files.push_back(&edges_);  // last: who sees the table sees what belongs to it
    for (OutputFile* file : files) file->complete();
    OutputFile::publish_all(files);
  }

  std::string path_;
  bool json_;
  WriteOptions options_;
  OutputFile edges_;
  std::optional<OutputFile> rows_, columns_, distances_;
  bool labels_ = false;
  std::vector<std::string> cells_;  // of the keys of a sequence, as they stand in a line
  std::size_t cells_of_ = 0;        // which list they are of
  std::string no_cell_;             // of a query that stands where no token is
};

}  // namespace

std::unique_ptr<GraphSink> open_table_writer(const std::string& path, GraphFormat format, const WriteOptions& options) {
  return std::make_unique<TableWriter>(path, format == GraphFormat::kJsonl, options);
}

}  // namespace ag
