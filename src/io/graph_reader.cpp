// SPDX-License-Identifier: Apache-2.0
// Graphs from npz and safetensors. Container, sizes and checksums are the business of the tensor readers; here every
// number is held against every other before anything is indexed with it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "../core/checked.hpp"
#include "escape.hpp"
#include "graph_facts.hpp"
#include "graph_file.hpp"
#include "graph_reader.hpp"
#include "input_file.hpp"
#include "suffix.hpp"
#include "tensor_file.hpp"

namespace ag {
namespace {

constexpr std::int64_t kMaxKeys = std::numeric_limits<std::int32_t>::max();

class CsrReader {
 public:
  CsrReader(TensorFile& file, std::string name) : file_(file), name_(std::move(name)) {}

  EdgeList read() {
    read_facts(facts(), name_, graph_.metadata, graph_.report);
    graph_.offsets = array<std::int64_t>("offsets", DType::kI64);
    graph_.keys = array<std::int32_t>("keys", DType::kI32);
    graph_.weight_dtype = has("weights") && file_.info("weights").dtype == DType::kF64 ? DType::kF64 : DType::kF32;
    if (graph_.weight_dtype == DType::kF64) {
      graph_.weights_f64 = array<double>("weights", DType::kF64);
    } else {
      graph_.weights_f32 = array<float>("weights", DType::kF32);
    }
    graph_.rows.logsumexp = array<double>("logsumexp", DType::kF64);
    graph_.rows.maximum = array<double>("maximum", DType::kF64);
    graph_.rows.max_key = array<std::int32_t>("max_key", DType::kI32);
    graph_.rows.kept_mass = array<double>("kept_mass", DType::kF64);
    graph_.rows.entropy = array<double>("entropy", DType::kF64);
    read_slices();
    check_totals();
    for (std::size_t s = 0; s < graph_.slices.size(); ++s) check_slice(s);
    read_received();
    read_distances();
    read_token_sums();
    return std::move(graph_);
  }

 private:
  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) const {
    fail(Status::kFormat, "{}: {}", name_, fmt::format(format, std::forward<Args>(args)...));
  }

  // From safetensors the metadata of the file, from npz a member of that name.
  Facts facts() {
    if (!file_.metadata().empty()) return file_.metadata();
    if (!has("metadata")) bad("holds no graph: there are no facts in it");
    const TensorView view = file_.info("metadata");
    if (view.dtype != DType::kBool || view.ndim != 1) bad("metadata is no list of bytes");
    const std::vector<char> bytes = array<char>("metadata", DType::kBool);
    return facts_from_json({bytes.begin(), bytes.end()}, fmt::format("{}, metadata", name_));
  }

  bool has(const char* name) const { return std::ranges::find(file_.names(), name) != file_.names().end(); }

  // A row-major array of `columns` columns (1: one dimension) as a vector.
  template <class T>
  std::vector<T> array(const char* name, DType dtype, std::int64_t columns = 1) {
    if (!has(name)) bad("holds no graph: array {} is missing", name);
    const TensorView view = file_.read(name);
    const bool right_shape = columns == 1 ? view.ndim == 1 : view.ndim == 2 && view.shape[1] == columns;
    const bool row_major = view.ndim == 1 || view.strides[1] == 1;
    if (view.dtype != dtype || !right_shape || !row_major) {
      bad("array {} is {} {}; a graph has {} and {}", name, name_of(view.dtype), shape_text(view), name_of(dtype),
          columns == 1 ? "one dimension" : fmt::format("{} columns", columns));
    }
    std::vector<T> values(static_cast<std::size_t>(view.shape[0] * columns));
    if (!values.empty()) std::memcpy(values.data(), view.data, values.size() * sizeof(T));
    file_.release(name);
    return values;
  }

  void read_slices() {
    constexpr std::size_t kColumns = 8;
    const std::vector<std::int64_t> table = array<std::int64_t>("slices", DType::kI64, kColumns);
    std::set<SliceId> seen;
    std::int64_t rows = 0, offsets = 0;
    for (std::size_t at = 0; at < table.size(); at += kColumns) {
      const std::size_t number = graph_.slices.size();
      Slice slice;
      slice.info = {{table[at], table[at + 1], table[at + 2]}, table[at + 3], table[at + 4], table[at + 5]};
      slice.first_row = rows;
      slice.first_offset = table[at + 6];
      slice.first_edge = table[at + 7];
      const SliceInfo& info = slice.info;
      std::int64_t end = 0;
      if (info.id.batch < 0 || info.id.layer < 0 || info.id.head < 0 || info.query_begin < 0 || info.query_count < 0 ||
          info.key_count < 0 || info.key_count > kMaxKeys ||
          __builtin_add_overflow(info.query_begin, info.query_count, &end)) {
        bad("slice {} has a negative or too large number", number);
      }
      if (!seen.insert(info.id).second) {
        bad("slice {} is a second one of batch {}, layer {}, head {}", number, info.id.batch, info.id.layer,
            info.id.head);
      }
      const auto count = static_cast<std::int64_t>(graph_.offsets.size());
      if (slice.first_offset != offsets || info.query_count >= count - offsets) {
        bad("slice {} has its offsets at {} to {}, but {} of {} follow the slice before it", number, slice.first_offset,
            fmt::format("{} + {}", slice.first_offset, info.query_count), count - offsets, count);
      }
      offsets += info.query_count + 1;
      rows += info.query_count;
      graph_.slices.push_back(std::move(slice));
    }
    if (offsets != static_cast<std::int64_t>(graph_.offsets.size())) {
      bad("the slices account for {} offsets of {}", offsets, graph_.offsets.size());
    }
    rows_ = rows;
  }

  void check_totals() const {
    const std::size_t edges = graph_.keys.size();
    if (std::max(graph_.weights_f32.size(), graph_.weights_f64.size()) != edges) {
      bad("there are {} keys and {} weights", edges, std::max(graph_.weights_f32.size(), graph_.weights_f64.size()));
    }
    const auto rows = static_cast<std::size_t>(rows_);
    const RowColumns& columns = graph_.rows;
    for (const std::size_t size : {columns.logsumexp.size(), columns.maximum.size(), columns.max_key.size(),
                                   columns.kept_mass.size(), columns.entropy.size()}) {
      if (size != rows) bad("a statistic has {} entries for {} rows", size, rows);
    }
  }

  void check_slice(std::size_t number) {
    Slice& slice = graph_.slices[number];
    const auto total = static_cast<std::int64_t>(graph_.keys.size());
    const bool last = number + 1 == graph_.slices.size();
    const std::int64_t begin =
        number == 0 ? 0 : graph_.slices[number - 1].first_edge + graph_.slices[number - 1].edge_count;
    const std::int64_t* offsets = graph_.offsets.data() + slice.first_offset;
    slice.edge_count = offsets[slice.info.query_count];
    if (offsets[0] != 0 || slice.first_edge != begin || slice.edge_count < 0 || slice.edge_count > total - begin ||
        (last && slice.edge_count != total - begin)) {
      bad("slice {} claims edges {} to {} + {} of {}; the slice before it ends at {}", number, slice.first_edge,
          slice.first_edge, slice.edge_count, total, begin);
    }
    for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
      if (offsets[r + 1] < offsets[r] || offsets[r + 1] > slice.edge_count) {
        bad("slice {}, row {}: the offsets {} and {} do not ascend to {}", number, r, offsets[r], offsets[r + 1],
            slice.edge_count);
      }
      const std::int32_t max_key = graph_.rows.max_key[static_cast<std::size_t>(slice.first_row + r)];
      if (max_key < -1 || max_key >= slice.info.key_count) {
        bad("slice {}, row {}: max_key {} is no key of {}", number, r, max_key, slice.info.key_count);
      }
      std::int64_t before = -1;
      for (std::int64_t e = begin + offsets[r]; e < begin + offsets[r + 1]; ++e) {
        const std::int64_t key = graph_.keys[static_cast<std::size_t>(e)];
        if (key <= before || key >= slice.info.key_count) {
          bad("slice {}, row {}: key {} after key {} of {} keys; keys ascend", number, r, key, before,
              slice.info.key_count);
        }
        if (!std::isfinite(graph_.weight(e)))
          bad("slice {}, row {}: the weight of key {} is not finite", number, r, key);
        before = key;
      }
    }
  }

  // Lines of an index: slice number, ..., first, count. The values of the slices follow one another without a gap.
  template <class Store>
  void read_sums(const char* name, std::int64_t columns, Store&& store) {
    if (!has(name)) return;
    const std::vector<double> values = array<double>(name, DType::kF64);
    const std::string index_name = fmt::format("{}_slices", name);
    const std::vector<std::int64_t> index = array<std::int64_t>(index_name.c_str(), DType::kI64, columns);
    const auto total = static_cast<std::int64_t>(values.size());
    std::int64_t end = 0, previous = -1;
    for (auto line = index.begin(); line != index.end(); line += columns) {
      const std::int64_t slice = line[0], first = line[columns - 2], count = line[columns - 1];
      if (slice <= previous || slice >= static_cast<std::int64_t>(graph_.slices.size()) || first != end || count < 0 ||
          count > total - end) {
        bad("{}: slice {} claims {} values from {} of {}", index_name, slice, count, first, total);
      }
      const auto begin = values.begin() + first;
      store(graph_.slices[static_cast<std::size_t>(slice)], line[1], std::vector<double>(begin, begin + count));
      end += count;
      previous = slice;
    }
    if (end != total) bad("{} accounts for {} values of {}", index_name, end, total);
  }

  void read_received() {
    read_sums("received", 3, [&](Slice& slice, std::int64_t, std::vector<double> values) {
      if (static_cast<std::int64_t>(values.size()) != slice.info.key_count) {
        bad("received has {} values for {} keys", values.size(), slice.info.key_count);
      }
      slice.sums.received = std::move(values);
    });
  }

  void read_distances() {
    read_sums("distances", 4, [&](Slice& slice, std::int64_t first_distance, std::vector<double> values) {
      constexpr std::int64_t kFarthest = std::int64_t{1} << 62;
      if (first_distance < -kFarthest || first_distance > kFarthest) {
        bad("distances_slices: the distance {} is out of range", first_distance);
      }
      slice.sums.distance_begin = first_distance;
      slice.sums.distances = std::move(values);
    });
  }

  void read_token_sums() {
    read_sums("token_mass", 3, [&](Slice& slice, std::int64_t, std::vector<double> values) {
      if (values.size() != kTokenRelations)
        bad("token_mass has {} values for a slice; there are {} relations", values.size(), kTokenRelations);
      slice.sums.tokens = std::move(values);
    });
  }

  TensorFile& file_;
  std::string name_;
  EdgeList graph_;
  std::int64_t rows_ = 0;
};

}  // namespace

EdgeList read_graph(const std::string& path) {
  bool is_table = false, is_json = false;
  {
    const InputFile file(path);
    char bytes[16] = {};
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), sizeof bytes));
    file.read(0, bytes, count, "the first bytes");
    std::string_view head(bytes, count);
    if (head.starts_with("\xEF\xBB\xBF")) head.remove_prefix(3);
    const bool is_safetensors = count > 8 && bytes[8] == '{';
    // A graph without an edge is a JSONL file without a byte.
    is_json = (head.starts_with('{') && !is_safetensors) || (count == 0 && has_suffix(path, ".jsonl"));
    is_table = is_json || head.starts_with("batch,");
  }
  if (is_table) return read_table(path, is_json);
  for (const char* const drawn : {".graphml", ".dot", ".html"}) {
    if (has_suffix(path, drawn))
      fail(Status::kUnsupported, "{}: {} files are written for other programs, and not read; keep an .npz beside it",
           in_quotes(path), drawn);
  }
  const auto file =
      open_tensor_file(path,
                       "neither a graph (.npz, .safetensors) nor a table of edges "
                       "(batch,layer,head,query,key,weight, or lines of {\"batch\": ...}) begins like this");
  if (file->names() == std::vector<std::string>{""}) {
    fail(Status::kFormat, "{}: an .npy file holds a matrix, not a graph; filter it first", in_quotes(path));
  }
  return CsrReader(*file, in_quotes(path)).read();
}

}  // namespace ag
