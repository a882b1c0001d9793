// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

#include "../core/checked.hpp"
#include "escape.hpp"
#include "graph_reader.hpp"
#include "input_file.hpp"
#include "json_text.hpp"

namespace ag {
namespace {

constexpr std::array<std::string_view, 6> kColumns = {"batch", "layer", "head", "query", "key", "weight"};
constexpr std::string_view kHeader = "batch,layer,head,query,key,weight";
constexpr std::string_view kLabels = ",query_token,key_token";

// A line may claim any query number, and queries up to it become rows without edges: memory must go with the file, not
// with what it claims. A wider gap is left out: the slice goes on, as a part of its own, at the query that comes next.
constexpr std::int64_t kFreeRows = std::int64_t{1} << 18;
constexpr std::int64_t kRowsPerEdge = 16;

// Records of a table: lines, whose quoted cells may hold line ends (CSV).
class RecordReader {
 public:
  RecordReader(const InputFile& file, bool quotes) : file_(file), quotes_(quotes) {}

  // The next record without its line end, or none. Valid until the next call.
  std::optional<std::string_view> next() {
    offset_ = file_at_ - (buffer_.size() - at_);
    std::size_t end = find_end();
    while (end == std::string::npos && file_at_ < file_.size()) {
      if (buffer_.size() - at_ > kMaxRecord) {
        fail_at(Status::kLimit, file_.name(), offset_, "a line of more than {} bytes", kMaxRecord);
      }
      fill();
      end = find_end();
    }
    if (end == std::string::npos) {
      if (at_ == buffer_.size()) return std::nullopt;
      end = buffer_.size();
      complete_ = false;
    }
    std::string_view record = std::string_view(buffer_).substr(at_, end - at_);
    at_ = std::min(end + 1, buffer_.size());
    scanned_ = at_;
    in_quotes_ = false;
    if (record.ends_with('\r')) record.remove_suffix(1);
    return record;
  }
  std::uint64_t offset() const { return offset_; }  // of the record that next() gave
  bool complete() const { return complete_; }       // it had a line end

 private:
  static constexpr std::size_t kChunk = std::size_t{1} << 20;
  static constexpr std::size_t kMaxRecord = std::size_t{2} << 20;  // two tokens of 64 KiB, each byte escaped

  std::size_t find_end() {
    for (; scanned_ < buffer_.size(); ++scanned_) {
      if (!quotes_) {
        scanned_ = std::min(buffer_.find('\n', scanned_), buffer_.size());
        if (scanned_ == buffer_.size()) break;
        return scanned_;
      }
      const char c = buffer_[scanned_];
      if (c == '"') in_quotes_ = !in_quotes_;
      if (c == '\n' && !in_quotes_) return scanned_;
    }
    return std::string::npos;
  }
  void fill() {
    buffer_.erase(0, at_);
    scanned_ -= at_;
    at_ = 0;
    const std::size_t have = buffer_.size();
    const auto more = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, file_.size() - file_at_));
    buffer_.resize(have + more);
    file_.read(file_at_, buffer_.data() + have, more, "the table");
    file_at_ += more;
  }

  const InputFile& file_;
  bool quotes_;
  std::string buffer_;
  std::size_t at_ = 0, scanned_ = 0;  // within the buffer: next record, end of what was searched
  std::uint64_t file_at_ = 0, offset_ = 0;
  bool in_quotes_ = false, complete_ = true;
};

struct Line {
  SliceId id;
  std::int64_t query = 0, key = 0;
  double weight = 0;
};

// One line of JSONL. Members beside the columns may hold anything.
class JsonLine : public JsonVisitor {
 public:
  Line read(std::string_view text, const std::string& where, std::uint64_t base) {
    seen_ = 0;
    parse(text, where, base);
    if (seen_ != (1u << kColumns.size()) - 1) fail_at(Status::kFormat, where, base, "a line needs {}", kHeader);
    return line_;
  }

 private:
  void scalar(Json value) override {
    if (nesting() != "{") return;
    const auto column = static_cast<std::size_t>(std::ranges::find(kColumns, name(0)) - kColumns.begin());
    if (column == kColumns.size()) return;
    seen_ |= 1u << column;
    if (column == 5) {
      if (!value.is_number()) bad("weight is {}, which is no finite number", in_quotes(value.dump(), 40));
      line_.weight = value.get<double>();
      return;
    }
    const std::uint64_t limit = column == 4 ? INT32_MAX - 1 : INT64_MAX - 1;
    if (!value.is_number_unsigned() || value > limit) {
      bad("{} is {}; it is a whole number, and the limit is {}", name(0), in_quotes(value.dump(), 40), limit);
    }
    std::int64_t* const fields[] = {&line_.id.batch, &line_.id.layer, &line_.id.head, &line_.query, &line_.key};
    *fields[column] = value.get<std::int64_t>();
  }

  Line line_;
  unsigned seen_ = 0;  // a bit for each column
};

class TableReader {
 public:
  TableReader(const std::string& path, bool json) : file_(path), json_(json), records_(file_, !json) {}

  EdgeList read() {
    graph_.report.forget_decisions();  // a table does not say
    if (!json_) read_header();
    while (const auto record = records_.next()) {
      if (record->empty()) {
        // A last empty line does no harm; anywhere else something is missing.
        if (records_.next()) file_.bad(records_.offset(), "an empty line within the table");
        break;
      }
      add(json_ ? json_line_.read(*record, file_.name(), records_.offset()) : parse_csv(*record));
    }
    end_slice();
    finish_weights();
    return std::move(graph_);
  }

 private:
  void read_header() {
    std::string_view header = records_.next().value_or("");
    if (header.starts_with("\xEF\xBB\xBF")) header.remove_prefix(3);
    labels_ = header.size() > kHeader.size();
    if (!records_.complete() || !header.starts_with(kHeader) || (labels_ && header.substr(kHeader.size()) != kLabels)) {
      file_.bad(0, "the first line should be {} or {}{}", kHeader, kHeader, kLabels);
    }
  }

  std::int64_t parse_integer(std::string_view text, std::string_view column, std::int64_t limit) const {
    std::int64_t value = -1;
    const char* end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || last != end || value < 0 || value > limit) {
      file_.bad(records_.offset(), "{} is {}; it is an integer from 0 to {}", column, in_quotes(text, 40), limit);
    }
    return value;
  }

  Line parse_csv(std::string_view record) const {
    if (!records_.complete()) {
      // Half a weight looks like a weight.
      file_.bad(records_.offset(), "the last line has no line end; the file may be truncated");
    }
    std::array<std::string_view, kColumns.size()> cells;
    for (std::size_t n = 0; n < cells.size(); ++n) {
      const std::size_t comma = record.find(',');
      const bool more = comma != std::string_view::npos;
      if (more != (n + 1 < cells.size() || labels_)) {
        file_.bad(records_.offset(), "a line of the table has {} cells than its header", more ? "more" : "fewer");
      }
      cells[n] = record.substr(0, comma);
      record.remove_prefix(more ? comma + 1 : record.size());
    }
    if (labels_) check_labels(record);
    constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max() - 1;
    Line line;
    line.id.batch = parse_integer(cells[0], kColumns[0], kAny);
    line.id.layer = parse_integer(cells[1], kColumns[1], kAny);
    line.id.head = parse_integer(cells[2], kColumns[2], kAny);
    line.query = parse_integer(cells[3], kColumns[3], kAny);
    line.key = parse_integer(cells[4], kColumns[4], std::numeric_limits<std::int32_t>::max() - 1);
    const char* end = cells[5].data() + cells[5].size();
    const auto [last, error] = std::from_chars(cells[5].data(), end, line.weight);
    if (error != std::errc{} || last != end) {
      file_.bad(records_.offset(), "weight is {}, which is no number", in_quotes(cells[5], 40));
    }
    return line;
  }

  // Two cells. What they say is not kept: a label may have been changed for a spreadsheet's sake.
  void check_labels(std::string_view rest) const {
    int cells = 1;
    bool within = false;
    for (const char c : rest) {
      if (c == '"') within = !within;
      if (c == ',' && !within) ++cells;
    }
    if (cells != 2 || within) file_.bad(records_.offset(), "a line of the table needs two labels");
  }

  void add(const Line& line) {
    if (!std::isfinite(line.weight)) file_.bad(records_.offset(), "a weight is not finite");
    if (!in_slice_ || graph_.slices.back().info.id != line.id) begin_slice(line.id);
    const Slice& slice = graph_.slices.back();
    if (line.query < query_ || (line.query == query_ && line.key <= key_)) {
      file_.bad(records_.offset(), "query {}, key {} after query {}, key {}; the lines of a slice are sorted by them",
                line.query, line.key, query_, key_);
    }
    if (is_wide_gap(line.query)) {
      if (query_ < slice.info.query_begin) {  // it has no row yet
        graph_.slices.pop_back();
        graph_.offsets.pop_back();
      } else {
        end_slice();
      }
      open_part(line.id, line.query);
    }
    while (query_ < line.query) begin_row();
    key_ = line.key;
    std::int64_t& keys = graph_.slices.back().info.key_count;
    keys = std::max(keys, line.key + 1);
    graph_.keys.push_back(static_cast<std::int32_t>(line.key));
    add_weight(line.weight);
    const std::size_t row = graph_.rows.size() - 1;
    graph_.rows.kept_mass[row] += line.weight;
    // The heaviest key of a row is among its edges whatever selected them.
    if (graph_.rows.max_key[row] < 0 || line.weight > heaviest_) {
      heaviest_ = line.weight;
      graph_.rows.max_key[row] = static_cast<std::int32_t>(line.key);
    }
  }

  void begin_slice(const SliceId& id) {
    end_slice();
    if (!seen_.insert(id).second) {
      file_.bad(records_.offset(), "batch {}, layer {}, head {} come back; the lines of a slice stand together",
                id.batch, id.layer, id.head);
    }
    open_part(id, 0);
    query_ = key_ = -1;
  }

  // The slice's rows from `query` on; none of them is there yet.
  void open_part(const SliceId& id, std::int64_t query) {
    Slice slice;
    slice.info.id = id;
    slice.info.query_begin = query;
    slice.first_row = static_cast<std::int64_t>(graph_.rows.size());
    slice.first_offset = static_cast<std::int64_t>(graph_.offsets.size());
    slice.first_edge = graph_.edge_count();
    graph_.slices.push_back(std::move(slice));
    graph_.offsets.push_back(0);
    in_slice_ = true;
    query_ = query - 1;
    key_ = -1;
  }

  bool is_wide_gap(std::int64_t query) const {
    const auto rows = static_cast<std::int64_t>(graph_.rows.size());
    return query - query_ > 1 && query - query_ > kFreeRows + kRowsPerEdge * (graph_.edge_count() + 1) - rows;
  }

  // The next row, without edges so far.
  void begin_row() {
    end_row();
    ++query_;
    constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
    RowStats stats;
    stats.logsumexp = stats.maximum = kUnknown;
    graph_.rows.push_back(stats);
    key_ = -1;
  }

  void end_row() {
    if (query_ < graph_.slices.back().info.query_begin) return;
    graph_.offsets.push_back(graph_.edge_count() - graph_.slices.back().first_edge);
  }

  void end_slice() {
    if (!in_slice_) return;
    end_row();
    Slice& slice = graph_.slices.back();
    slice.info.query_count = query_ + 1 - slice.info.query_begin;
    slice.edge_count = graph_.edge_count() - slice.first_edge;
    in_slice_ = false;
  }

  // The text of an f32 weight is the shortest that reads back as that f32. As long as every weight could be one, they
  // are taken for f32; the first that could not makes the graph one of f64.
  void add_weight(double weight) {
    graph_.weights_f64.push_back(weight);
    if (!all_f32_) return;
    const bool fits = std::abs(weight) <= std::numeric_limits<float>::max();
    const float narrow = fits ? static_cast<float>(weight) : 0;
    char digits[32];
    double back = 0;
    std::from_chars(digits, std::to_chars(digits, digits + sizeof digits, narrow).ptr, back);
    all_f32_ = back == weight;
    graph_.weights_f32.push_back(narrow);
  }

  void finish_weights() {
    graph_.weight_dtype = all_f32_ ? DType::kF32 : DType::kF64;
    if (all_f32_) {
      graph_.weights_f64 = {};
    } else {
      graph_.weights_f32 = {};
    }
  }

  InputFile file_;
  bool json_;
  RecordReader records_;
  JsonLine json_line_;
  bool labels_ = false;
  EdgeList graph_;
  std::set<SliceId> seen_;
  bool in_slice_ = false, all_f32_ = true;
  std::int64_t query_ = -1, key_ = -1;
  double heaviest_ = 0;
};

}  // namespace

EdgeList read_table(const std::string& path, bool json) { return TableReader(path, json).read(); }

}  // namespace ag
