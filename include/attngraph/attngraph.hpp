// SPDX-License-Identifier: Apache-2.0
/**
 * attngraph in C++20: a header-only face on attngraph.h, where every shape, unit and rule is written down.
 *
 *     attngraph::context context;
 *     attngraph::result graph = context.extract({q, {heads, n, 64}}, {k, {heads, n, 64}},
 *                                               attngraph::options().threshold(0.01).causal());
 *     for (const attngraph::edge& e : graph.top(5)) std::cout << e.query << " -> " << e.key << '\n';
 *
 * What it adds: handles that own and move but do not copy; spans instead of pointer and length; exceptions instead of
 * statuses; options that own what the C struct points at. Every view (slice, row_statistics, column_sums, string_view)
 * lives as long as the object that gave it. A moved-from handle may only be destroyed or assigned to.
 */
#ifndef ATTNGRAPH_HPP
#define ATTNGRAPH_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "attngraph.h"

namespace attngraph {

// ---------------------------------------------------------------------------------------------------------------------
// errors

/// What every failure throws: the status, and the library's sentence (what, where, the limit, the remedy).
class error : public std::runtime_error {
 public:
  error(attngraph_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  attngraph_status status() const noexcept { return status_; }

 private:
  attngraph_status status_;
};

/// Throw this thread's latest failure unless the status is ATTNGRAPH_OK.
inline void check(attngraph_status status) {
  if (status != ATTNGRAPH_OK) throw error(status, attngraph_last_error());
}

// ---------------------------------------------------------------------------------------------------------------------
// plain structs of the C interface, under their short names

using edge = attngraph_edge;
using summary = attngraph_summary;
using report = attngraph_report;
using sweep_row = attngraph_sweep_row;
using head_figures = attngraph_head;
using head_difference = attngraph_head_difference;
using moved = attngraph_moved;
using difference = attngraph_difference;
using graph_format = attngraph_format;

namespace detail {

template <class T, void (*Destroy)(T*)>
struct destroyer {
  void operator()(T* p) const noexcept { Destroy(p); }
};
template <class T, void (*Destroy)(T*)>
using handle = std::unique_ptr<T, destroyer<T, Destroy>>;

template <class T>
std::span<const T> view(const T* data, std::int64_t count) {
  return data == nullptr ? std::span<const T>() : std::span<const T>(data, static_cast<std::size_t>(count));
}

inline std::optional<std::string_view> text(const char* s) {
  return s == nullptr ? std::nullopt : std::optional<std::string_view>(s);
}

template <class T>
constexpr attngraph_dtype dtype_of() {
  if constexpr (std::is_same_v<T, double>) return ATTNGRAPH_F64;
  if constexpr (std::is_same_v<T, float>) return ATTNGRAPH_F32;
  if constexpr (std::is_same_v<T, bool>) return ATTNGRAPH_BOOL;
  if constexpr (std::is_same_v<T, std::int32_t>) return ATTNGRAPH_I32;
  if constexpr (std::is_same_v<T, std::int64_t>) return ATTNGRAPH_I64;
}

}  // namespace detail

// ---------------------------------------------------------------------------------------------------------------------
// tensors

/// A view of memory that the caller owns. Unlike attngraph_tensor it keeps shape and strides itself, so it can be
/// copied and outlive the list it was made from; the data must outlive the calls that read them.
class tensor {
 public:
  using dims = std::span<const std::int64_t>;

  /// @param strides in elements; empty means row-major
  tensor(const void* data, attngraph_dtype dtype, dims shape, dims strides = {}) {
    if (shape.size() > shape_.size() || (!strides.empty() && strides.size() != shape.size()))
      throw error(ATTNGRAPH_ERROR_SHAPE, "a tensor has at most 8 dimensions, and as many strides or none");
    std::copy(shape.begin(), shape.end(), shape_.begin());
    std::copy(strides.begin(), strides.end(), strides_.begin());
    c_.data = data;
    c_.device_type = ATTNGRAPH_DEVICE_CPU;
    c_.dtype = dtype;
    c_.ndim = static_cast<std::int32_t>(shape.size());
    point(!strides.empty());
  }
  tensor(const void* data, attngraph_dtype dtype, std::initializer_list<std::int64_t> shape,
         std::initializer_list<std::int64_t> strides = {})
      : tensor(data, dtype, dims(shape.begin(), shape.size()), dims(strides.begin(), strides.size())) {}
  /// From float, double, bool, int32_t or int64_t; f16 and bf16 by the constructor that names the dtype.
  template <class T>
  requires(!std::is_void_v<T>)
      tensor(const T* data, std::initializer_list<std::int64_t> shape, std::initializer_list<std::int64_t> strides = {})
      : tensor(data, detail::dtype_of<T>(), shape, strides) {}
  explicit tensor(const attngraph_tensor& c)
      : tensor(c.data, static_cast<attngraph_dtype>(c.dtype), detail::view(c.shape, c.ndim),
               c.strides == nullptr ? dims() : detail::view(c.strides, c.ndim)) {
    c_.device_type = c.device_type;
    c_.device_id = c.device_id;
  }
  tensor(const tensor& other) { *this = other; }
  tensor& operator=(const tensor& other) {
    shape_ = other.shape_;
    strides_ = other.strides_;
    c_ = other.c_;
    point(other.c_.strides != nullptr);
    return *this;
  }

  const void* data() const noexcept { return c_.data; }
  attngraph_dtype dtype() const noexcept { return static_cast<attngraph_dtype>(c_.dtype); }
  dims shape() const noexcept { return detail::view(c_.shape, c_.ndim); }
  dims strides() const noexcept { return detail::view(c_.strides, c_.ndim); }  ///< empty: row-major
  tensor& on_device(attngraph_device_type type, std::int32_t id) noexcept {
    c_.device_type = type;
    c_.device_id = id;
    return *this;
  }
  const attngraph_tensor* c() const noexcept { return &c_; }

  /// Element i of the first axis; a view of the same memory.
  tensor at(std::int64_t i) const {
    if (c_.ndim == 0 || i < 0 || i >= shape_[0])
      throw error(ATTNGRAPH_ERROR_SHAPE, "the tensor has no element " + std::to_string(i) + " on its first axis");
    tensor element = *this;
    element.set_strides();
    const std::int64_t offset = i * element.strides_[0] * static_cast<std::int64_t>(attngraph_dtype_size(c_.dtype));
    if (c_.data != nullptr) element.c_.data = static_cast<const char*>(c_.data) + offset;
    std::copy(shape_.begin() + 1, shape_.end(), element.shape_.begin());
    std::copy(element.strides_.begin() + 1, element.strides_.end(), element.strides_.begin());
    --element.c_.ndim;
    return element;
  }
  /// With axes a and b exchanged; a view of the same memory.
  tensor swapped(std::size_t a, std::size_t b) const {
    const auto ndim = static_cast<std::size_t>(c_.ndim);
    if (a >= ndim || b >= ndim)
      throw error(ATTNGRAPH_ERROR_SHAPE, "the tensor has " + std::to_string(ndim) +
                                             " dimensions; too few to exchange " + std::to_string(a) + " and " +
                                             std::to_string(b));
    tensor other = *this;
    other.set_strides();
    std::swap(other.shape_[a], other.shape_[b]);
    std::swap(other.strides_[a], other.strides_[b]);
    return other;
  }

 private:
  // Row-major strides are written out.
  void set_strides() noexcept {
    std::int64_t stride = 1;
    for (auto d = static_cast<std::size_t>(c_.ndim); c_.strides == nullptr && d-- > 0;) {
      strides_[d] = stride;
      stride *= std::max<std::int64_t>(shape_[d], 1);
    }
    point(true);
  }
  void point(bool has_strides) noexcept {
    c_.shape = shape_.data();
    c_.strides = has_strides ? strides_.data() : nullptr;
  }
  std::array<std::int64_t, 8> shape_{}, strides_{};
  attngraph_tensor c_{};
};

// ---------------------------------------------------------------------------------------------------------------------
// options

/// attngraph_options, one method per field under the same name; not named, a field keeps the C default. Owns the text,
/// lists and callables given to it; tensors stay views.
class options {
 public:
  options() { attngraph_options_init(&c_); }

  // what is an edge
  options& threshold(double t) { return set(c_.threshold, t); }
  options& top_k(std::int64_t n) { return set(c_.top_k, n); }
  options& mass(double p) { return set(c_.mass, p); }
  options& max_edges(std::uint64_t n) { return set(c_.max_edges, n); }
  options& allow_dense(bool on = true) { return set(c_.allow_dense, on); }
  options& decision(attngraph_decision d) { return set(c_.decision, d); }
  // the scores
  options& scale(double s) { return set(c_.scale, s); }
  options& softcap(double s) { return set(c_.softcap, s); }
  options& alibi(const tensor& slopes) { return set(alibi_, slopes); }  ///< [Hq] or [B, Hq]
  // which keys a query may see
  options& causal(bool on = true) { return set(c_.causal, on); }
  options& query_offset(std::int64_t offset) { return set(c_.query_offset, offset); }
  options& window(std::int64_t n) { return set(c_.window, n); }
  options& nonfinite(attngraph_nonfinite rule) { return set(c_.nonfinite, rule); }
  options& key_lengths(std::vector<std::int64_t> lengths) { return set(key_lengths_, std::move(lengths)); }
  options& mask(const tensor& t) { return set(mask_, t); }
  options& sinks(const tensor& t) { return set(sinks_, t); }
  options& lse(const tensor& t, attngraph_lse_base base = ATTNGRAPH_LSE_BASE_E) {
    c_.lse_base = base;
    return set(lse_, t);
  }
  options& stats(std::uint32_t bits) { return set(c_.stats, bits); }  ///< ATTNGRAPH_STATS_*
  options& token_ids(const tensor& t) { return set(token_ids_, t); }
  options& word_ids(const tensor& t) { return set(word_ids_, t); }
  // which part
  options& query_range(std::int64_t begin, std::int64_t end) {
    c_.query_begin = begin;
    return set(c_.query_end, end);
  }
  options& heads(std::vector<std::int64_t> list) { return set(heads_, std::move(list)); }  ///< empty: all
  options& layer(std::int64_t label) { return set(c_.layer, label); }
  // how
  options& backend(std::string_view name) { return set(backend_, std::string(name)); }  ///< "": the best
  options& threads(std::int32_t n) { return set(c_.threads, n); }
  options& products(attngraph_products p) { return set(c_.products, p); }
  options& stream(void* cuda_stream) { return set(c_.stream, cuda_stream); }
  options& workspace_bytes(std::size_t n) { return set(c_.workspace_bytes, n); }
  /// Called from the calling thread, at least every 50 ms. An exception stops the call and comes out of it.
  options& cancelled(std::function<bool()> f) { return set(cancelled_, std::move(f)); }
  options& progress(std::function<void(double)> f) { return set(progress_, std::move(f)); }

 private:
  friend class context;
  friend class session;
  friend std::vector<attngraph_task> plan_tasks(const tensor& q, const tensor& k, const options& how,
                                                std::int64_t pairs_per_task);

  template <class Field, class Value>
  options& set(Field& field, Value&& value) {
    field = static_cast<Field>(std::forward<Value>(value));
    return *this;
  }
  options& set(std::optional<tensor>& field, const tensor& value) {
    field = value;
    return *this;
  }

  // One call with these options: the C struct with its pointers set, and what a callback threw.
  struct call {
    // `of`: queries or a matrix; the first of four dimensions counts the sequences.
    call(const options& o, const tensor& of) : from(o), c(o.c_) {
      if (o.key_lengths_) {
        const std::size_t entries = o.key_lengths_->size();
        const auto sequences = static_cast<std::size_t>(of.shape().size() == 4 ? of.shape()[0] : 1);
        if (entries != sequences)
          throw error(ATTNGRAPH_ERROR_SHAPE, "key_lengths has " + std::to_string(entries) + " entries; there are " +
                                                 std::to_string(sequences) + " sequences, and each has one");
        c.key_lengths = o.key_lengths_->data();
      }
      if (o.mask_) c.mask = o.mask_->c();
      if (o.sinks_) c.sinks = o.sinks_->c();
      if (o.lse_) c.lse = o.lse_->c();
      if (o.token_ids_) c.token_ids = o.token_ids_->c();
      if (o.word_ids_) c.word_ids = o.word_ids_->c();
      if (o.alibi_) c.alibi = o.alibi_->c();
      if (!o.heads_.empty()) c.heads = o.heads_.data();
      c.head_count = static_cast<std::int64_t>(o.heads_.size());
      if (!o.backend_.empty()) c.backend = o.backend_.c_str();
      c.user = this;
      if (o.cancelled_ || o.progress_) c.cancelled = &call::on_cancelled;
      if (o.progress_) c.progress = &call::on_progress;
    }
    call(const call&) = delete;
    call& operator=(const call&) = delete;

    // No exception may travel through the C library: it is kept here, the call is cancelled, and finish() rethrows.
    static int on_cancelled(void* user) {
      auto& self = *static_cast<call*>(user);
      self.guard([&] { self.stop = self.stop || (self.from.cancelled_ && self.from.cancelled_()); });
      return self.stop ? 1 : 0;
    }
    static void on_progress(void* user, double fraction) {
      auto& self = *static_cast<call*>(user);
      self.guard([&] { self.from.progress_(fraction); });
    }
    template <class F>
    void guard(F&& f) noexcept {
      if (thrown) return;
      try {
        f();
      } catch (...) {
        thrown = std::current_exception();
        stop = true;
      }
    }
    void finish(attngraph_status status) const {
      if (thrown) std::rethrow_exception(thrown);
      check(status);
    }

    const options& from;
    attngraph_options c;
    std::exception_ptr thrown;
    bool stop = false;
  };

  attngraph_options c_;
  std::optional<std::vector<std::int64_t>> key_lengths_;
  std::vector<std::int64_t> heads_;
  std::optional<tensor> mask_, sinks_, lse_, token_ids_, word_ids_, alibi_;
  std::string backend_;
  std::function<bool()> cancelled_;
  std::function<void(double)> progress_;
};

/// attngraph_alibi_slopes: what options::alibi takes for a model of so many query heads.
inline std::vector<double> alibi_slopes(std::int64_t heads, double max_bias = 8) {
  std::vector<double> slopes(static_cast<std::size_t>(std::clamp<std::int64_t>(heads, 1, std::int64_t{1} << 20)));
  check(attngraph_alibi_slopes(heads, max_bias, slopes.data()));  // which refuses what is outside
  return slopes;
}

/// attngraph_write_options.
struct write_options {
  bool key_to_query = false;  ///< direction of the formats with a source and a target
  bool labels = false;        ///< query_token and key_token columns
  bool csv_raw = false;       ///< no guard against spreadsheet formulas
  bool rows = false;          ///< row statistics too
};

/// attngraph_part; empty lists mean all.
struct part {
  double threshold = 0;
  std::int64_t top_k = 0;
  std::vector<std::int64_t> layers = {}, heads = {};
  std::vector<std::array<std::int64_t, 2>> layer_heads = {};  ///< pairs of (layer, head)
  std::int64_t query_begin = 0, query_end = 0;                ///< both 0: all
  std::int64_t key_begin = 0, key_end = 0;                    ///< both 0: all
  std::int64_t distance_min = INT64_MIN, distance_max = INT64_MAX;
  std::vector<std::int64_t> query_positions = {}, key_positions = {};
};

/// attngraph_group; no labels: the tokens of each span.
struct spans {
  std::vector<std::int64_t> begins = {}, ends = {};
  attngraph_rest rest = ATTNGRAPH_REST_ERROR;
  std::vector<std::string> labels = {};
};

namespace detail {

// The C struct of a part, pointing into it.
struct part_struct {
  explicit part_struct(const part& p) {
    for (const auto& pair : p.layer_heads) pairs.insert(pairs.end(), pair.begin(), pair.end());
    c.threshold = p.threshold;
    c.top_k = p.top_k;
    c.layers = p.layers.data();
    c.layer_count = static_cast<std::int64_t>(p.layers.size());
    c.heads = p.heads.data();
    c.head_count = static_cast<std::int64_t>(p.heads.size());
    c.layer_heads = pairs.data();
    c.layer_head_count = static_cast<std::int64_t>(p.layer_heads.size());
    c.query_begin = p.query_begin;
    c.query_end = p.query_end;
    c.key_begin = p.key_begin;
    c.key_end = p.key_end;
    c.distance_min = p.distance_min;
    c.distance_max = p.distance_max;
    c.query_positions = p.query_positions.data();
    c.query_position_count = static_cast<std::int64_t>(p.query_positions.size());
    c.key_positions = p.key_positions.data();
    c.key_position_count = static_cast<std::int64_t>(p.key_positions.size());
  }
  part_struct(const part_struct&) = delete;
  part_struct& operator=(const part_struct&) = delete;
  std::vector<std::int64_t> pairs;
  attngraph_part c = ATTNGRAPH_PART_INIT;
};

}  // namespace detail

/// attngraph_join; empty lists: as they are.
struct join_options {
  std::vector<std::int64_t> query_begins = {}, key_begins = {};
  std::vector<std::string> tokens = {};
  std::vector<std::string> fact_names = {}, fact_values = {};
};

/// attngraph_bins: a window of a slice as a grid; both ends 0 mean all.
struct bins {
  std::int64_t rows = 0, columns = 0;
  attngraph_bin_value value = ATTNGRAPH_BIN_MAX;
  std::int64_t query_begin = 0, query_end = 0, key_begin = 0, key_end = 0;
};

// ---------------------------------------------------------------------------------------------------------------------
// results

/// Statistics of the rows of one slice or block; row r is query query_begin + r.
struct row_statistics {
  std::span<const double> logsumexp, maximum, kept_mass, entropy;
  std::span<const std::int32_t> max_key;

  row_statistics() = default;
  row_statistics(const attngraph_rows& c, std::int64_t count)
      : logsumexp(detail::view(c.logsumexp, count)),
        maximum(detail::view(c.maximum, count)),
        kept_mass(detail::view(c.kept_mass, count)),
        entropy(detail::view(c.entropy, count)),
        max_key(detail::view(c.max_key, count)) {}
};

/// Sums over the queries of one slice; empty spans unless ATTNGRAPH_STATS_COLUMNS or _DISTANCES was asked for.
struct column_sums {
  std::span<const double> received;   ///< by key
  std::span<const double> distances;  ///< by distance query + query_offset - key, from distance_begin on
  std::int64_t distance_begin = 0;
};

/// Rows of one (batch, layer, head) as CSR, zero copy: row r is query query_begin + r and has the edges
/// [offsets[r], offsets[r + 1]). A whole slice of a result, or a block of one in a sink's callback.
struct slice {
  std::int64_t batch = 0, layer = 0, head = 0;
  std::int64_t query_begin = 0, query_count = 0, key_count = 0;
  std::span<const std::int64_t> offsets;
  std::span<const std::int32_t> keys;
  std::span<const float> weights_f32;   ///< one of the two is filled,
  std::span<const double> weights_f64;  ///< as the data were
  row_statistics rows;

  /// CSR is attngraph_csr or attngraph_row_block: the same arrays under the same names.
  template <class Csr>
  slice(const Csr& c, std::int64_t row_count, const row_statistics& statistics)
      : batch(c.batch),
        layer(c.layer),
        head(c.head),
        query_begin(c.query_begin),
        query_count(row_count),
        key_count(c.key_count),
        offsets(detail::view(c.offsets, row_count + 1)),
        rows(statistics) {
    const std::int64_t edges = offsets.empty() ? 0 : offsets.back();
    keys = detail::view(c.keys, edges);
    if (c.weight_dtype == ATTNGRAPH_F64)
      weights_f64 = detail::view(static_cast<const double*>(c.weights), edges);
    else
      weights_f32 = detail::view(static_cast<const float*>(c.weights), edges);
  }

  std::size_t size() const noexcept { return keys.size(); }  ///< edges
  double weight(std::size_t e) const { return weights_f64.empty() ? double{weights_f32[e]} : weights_f64[e]; }
  /// f(query, key, weight) for every edge, in table order.
  template <class F>
  void each_edge(F&& f) const {
    for (std::int64_t r = 0; r < query_count; ++r) {
      const auto begin = static_cast<std::size_t>(offsets[static_cast<std::size_t>(r)]);
      const auto end = static_cast<std::size_t>(offsets[static_cast<std::size_t>(r) + 1]);
      for (std::size_t e = begin; e < end; ++e) f(query_begin + r, std::int64_t{keys[e]}, weight(e));
    }
  }
};

class sink;

/// A graph in memory.
class result {
 public:
  /// Read a graph that this library wrote, in a format with ATTNGRAPH_FORMAT_READ.
  static result load(std::string_view path) {
    attngraph_result* r = nullptr;
    check(attngraph_result_load(std::string(path).c_str(), &r));
    return result(r);
  }
  explicit result(attngraph_result* owned) noexcept : c_(owned) {}

  std::int64_t slice_count() const noexcept { return attngraph_result_slice_count(c()); }
  std::int64_t edge_count() const noexcept { return attngraph_result_edge_count(c()); }
  attngraph::slice slice(std::int64_t i) const {
    attngraph_csr csr{};
    attngraph_rows rows{};
    check(attngraph_result_csr(c(), i, &csr));
    check(attngraph_result_rows(c(), i, &rows));
    return {csr, csr.query_count, row_statistics(rows, csr.query_count)};
  }
  column_sums columns(std::int64_t i) const {
    attngraph_csr csr{};
    attngraph_columns columns{};
    check(attngraph_result_csr(c(), i, &csr));
    check(attngraph_result_columns(c(), i, &columns));
    return {detail::view(columns.received, csr.key_count), detail::view(columns.distances, columns.distance_count),
            columns.distance_begin};
  }
  attngraph::report report() const {
    attngraph::report r{};
    check(attngraph_result_report(c(), &r));
    return r;
  }

  /// The bytes of the word of key i, or of query i, of a sequence; nothing when it has none.
  std::optional<std::string_view> label(attngraph_side side, std::int64_t batch, std::int64_t i) const noexcept {
    std::size_t length = 0;
    const char* s = attngraph_result_label(c(), side, batch, i, &length);
    return s == nullptr ? std::nullopt : std::optional(std::string_view(s, length));
  }
  /// Lists of words that a side has of its own: 0 none, 1 for all sequences, otherwise one for each.
  std::int64_t label_lists(attngraph_side side) const noexcept { return attngraph_result_label_lists(c(), side); }
  std::int64_t label_count(attngraph_side side, std::int64_t batch) const noexcept {
    return attngraph_result_label_count(c(), side, batch);
  }
  /// Whether queries and keys are different things, as in cross attention.
  bool two_sided() const noexcept { return attngraph_result_two_sided(c()) != 0; }
  std::int64_t token_count() const noexcept { return attngraph_result_token_count(c()); }
  /// The bytes of the token at a position; nothing when it has none.
  std::optional<std::string_view> token(std::int64_t position) const noexcept {
    std::size_t length = 0;
    const char* s = attngraph_result_token(c(), position, &length);
    return s == nullptr ? std::nullopt : std::optional(std::string_view(s, length));
  }
  /// Query i stands at position i + query_offset(), where its token is. 0 when the graph does not say.
  std::int64_t query_offset() const noexcept { return attngraph_result_query_offset(c()); }
  std::optional<std::string_view> metadata(std::string_view name) const {
    return detail::text(attngraph_result_metadata(c(), std::string(name).c_str()));
  }

  /// Names of all facts, in order.
  std::vector<std::string> metadata_names() const {
    std::vector<std::string> names;
    while (const char* name = attngraph_result_metadata_name(c(), static_cast<std::int64_t>(names.size())))
      names.emplace_back(name);
    return names;
  }

  /// The n heaviest edges, heaviest first; fewer when the graph has fewer.
  std::vector<edge> top(std::int64_t n) const {
    std::vector<edge> edges(static_cast<std::size_t>(std::clamp<std::int64_t>(n, 0, edge_count())));
    std::int64_t count = 0;
    check(attngraph_result_top(c(), static_cast<std::int64_t>(edges.size()), edges.data(), &count));
    edges.resize(static_cast<std::size_t>(count));
    return edges;
  }
  std::vector<sweep_row> sweep(std::span<const double> thresholds) const {
    std::vector<sweep_row> rows(thresholds.size());
    check(attngraph_result_sweep(c(), thresholds.data(), static_cast<std::int64_t>(rows.size()), rows.data()));
    return rows;
  }
  /// Of one slice; -1: of all.
  attngraph::summary summary(std::int64_t slice = -1) const {
    attngraph::summary s{};
    check(attngraph_result_summary(c(), slice, &s));
    return s;
  }
  /// The table of heads: one line per slice. @param window in positions
  std::vector<head_figures> heads(std::int64_t window) const {
    std::vector<head_figures> table(static_cast<std::size_t>(slice_count()));
    check(attngraph_result_heads(c(), window, table.data()));
    return table;
  }
  /// The number of the word that every token belongs to.
  std::vector<std::int64_t> words() const {
    std::vector<std::int64_t> words(static_cast<std::size_t>(token_count()));
    check(attngraph_result_words(c(), words.data()));
    return words;
  }
  /// A window of a slice as a grid, row-major: rows * columns cells.
  std::vector<double> bins(std::int64_t i, const attngraph::bins& how) const {
    attngraph_bins b = ATTNGRAPH_BINS_INIT;
    b.rows = how.rows;
    b.columns = how.columns;
    b.query_begin = how.query_begin;
    b.query_end = how.query_end;
    b.key_begin = how.key_begin;
    b.key_end = how.key_end;
    b.value = how.value;
    const bool sensible = how.rows > 0 && how.columns > 0 && how.rows <= (std::int64_t{1} << 28) / how.columns;
    std::vector<double> cells(sensible ? static_cast<std::size_t>(how.rows * how.columns) : 1);
    check(attngraph_result_bins(c(), i, &b, cells.data()));
    return cells;
  }
  difference diff(const result& other, double band) const {
    difference d{};
    check(attngraph_result_diff(c(), other.c(), band, &d));
    return d;
  }
  /// One graph out of several. @param how empty lists: as they are
  static result join(std::span<const attngraph_result* const> graphs, const join_options& how = {}) {
    const auto texts = [](const std::vector<std::string>& strings) {
      std::vector<const char*> pointers;
      for (const std::string& s : strings) pointers.push_back(s.c_str());
      return pointers;
    };
    for (const auto* begins : {&how.query_begins, &how.key_begins})
      if (!begins->empty() && begins->size() != graphs.size())
        throw error(ATTNGRAPH_ERROR_ARGUMENT, "join needs one place for every graph, or none");
    if (how.fact_names.size() != how.fact_values.size())
      throw error(ATTNGRAPH_ERROR_ARGUMENT, "join needs as many values as names of facts");
    const auto tokens = texts(how.tokens), names = texts(how.fact_names), values = texts(how.fact_values);
    std::vector<std::size_t> lengths;
    for (const std::string& token : how.tokens) lengths.push_back(token.size());
    attngraph_join j = ATTNGRAPH_JOIN_INIT;
    if (!how.query_begins.empty()) j.query_begins = how.query_begins.data();
    if (!how.key_begins.empty()) j.key_begins = how.key_begins.data();
    if (!how.tokens.empty()) j.tokens = tokens.data();
    j.token_lengths = lengths.data();
    j.token_count = static_cast<std::int64_t>(tokens.size());
    j.fact_names = names.data();
    j.fact_values = values.data();
    j.fact_count = static_cast<std::int64_t>(names.size());
    attngraph_result* r = nullptr;
    check(attngraph_results_join(graphs.data(), static_cast<std::int64_t>(graphs.size()), &j, &r));
    return result(r);
  }
  result part(const attngraph::part& p) const {
    const detail::part_struct part(p);
    attngraph_result* r = nullptr;
    check(attngraph_result_part(c(), &part.c, &r));
    return result(r);
  }
  /// The n heaviest edges of a part.
  std::vector<edge> top(std::int64_t n, const attngraph::part& p) const {
    const detail::part_struct part(p);
    std::vector<edge> edges(static_cast<std::size_t>(std::clamp<std::int64_t>(n, 0, edge_count())));
    std::int64_t count = 0;
    check(attngraph_result_top_of(c(), &part.c, static_cast<std::int64_t>(edges.size()), edges.data(), &count));
    edges.resize(static_cast<std::size_t>(count));
    return edges;
  }
  /// The graph between spans: sums over keys, means over queries.
  result group(const spans& s) const {
    if (s.begins.size() != s.ends.size() || (!s.labels.empty() && s.labels.size() != s.begins.size()))
      throw error(ATTNGRAPH_ERROR_ARGUMENT, "group needs as many ends as begins, and as many labels or none");
    std::vector<const char*> labels;
    std::vector<std::size_t> lengths;
    for (const std::string& label : s.labels) {
      labels.push_back(label.data());
      lengths.push_back(label.size());
    }
    attngraph_group g = ATTNGRAPH_GROUP_INIT;
    g.begins = s.begins.data();
    g.ends = s.ends.data();
    g.count = static_cast<std::int64_t>(s.begins.size());
    g.rest = s.rest;
    if (!labels.empty()) g.labels = labels.data();
    g.label_lengths = lengths.data();
    attngraph_result* r = nullptr;
    check(attngraph_result_group(c(), &g, &r));
    return result(r);
  }
  /// How far every head is from itself in another graph. @param alignment empty: positions are the same
  std::vector<head_difference> diff_heads(const result& b, std::span<const std::int64_t> alignment = {}) const {
    std::vector<head_difference> rows(static_cast<std::size_t>(slice_count()));
    std::int64_t count = 0;
    check(attngraph_result_diff_heads(c(), b.c(), alignment.data(), static_cast<std::int64_t>(alignment.size()),
                                      rows.data(), &count));
    rows.resize(static_cast<std::size_t>(count));
    return rows;
  }
  /// The n pairs that moved most.
  std::vector<moved> diff_pairs(const result& b, std::int64_t n, std::span<const std::int64_t> alignment = {}) const {
    std::vector<moved> rows(static_cast<std::size_t>(std::clamp<std::int64_t>(n, 0, edge_count() + b.edge_count())));
    std::int64_t count = 0;
    check(attngraph_result_diff_pairs(c(), b.c(), alignment.data(), static_cast<std::int64_t>(alignment.size()),
                                      static_cast<std::int64_t>(rows.size()), rows.data(), &count));
    rows.resize(static_cast<std::size_t>(count));
    return rows;
  }
  /// The position in b of every token, -1 for none.
  std::vector<std::int64_t> align(const result& b) const {
    std::vector<std::int64_t> positions(static_cast<std::size_t>(token_count()));
    check(attngraph_results_align(c(), b.c(), positions.data()));
    return positions;
  }
  /// Through a sink, with tokens and facts; the caller finishes the sink.
  void write(sink& to) const;
  /// Into a file, whole or not at all. @param format "": by the suffix of path
  void save(std::string_view path, std::string_view format = {}, const write_options& how = {}) const;

  const attngraph_result* c() const noexcept { return c_.get(); }

 private:
  detail::handle<attngraph_result, attngraph_result_destroy> c_;
};

// ---------------------------------------------------------------------------------------------------------------------
// sinks

/// Where rows go as they are finished, in the order (slice, query).
class sink {
 public:
  /// Return true to go on. An exception stops the call that feeds the sink and comes out of it.
  using row_callback = std::function<bool(const slice& block)>;

  /// Keeps the rows of any number of calls; take_result() hands them out.
  static sink collect() {
    attngraph_sink* s = nullptr;
    check(attngraph_sink_create_collect(&s));
    return sink(s);
  }
  /// Writes a file that appears, complete, at finish(). @param path "-": standard output @param format "": by suffix
  static sink file(std::string_view path, std::string_view format = {}, const write_options& how = {}) {
    attngraph_write_options o = ATTNGRAPH_WRITE_OPTIONS_INIT;
    o.direction = how.key_to_query ? ATTNGRAPH_KEY_TO_QUERY : ATTNGRAPH_QUERY_TO_KEY;
    o.labels = how.labels;
    o.csv_raw = how.csv_raw;
    o.rows = how.rows;
    const std::string name(format);
    attngraph_sink* s = nullptr;
    check(attngraph_sink_create_file(&s, std::string(path).c_str(), name.empty() ? nullptr : name.c_str(), &o));
    return sink(s);
  }
  /// Hands every block to a function; the block is valid during the call only.
  static sink rows(row_callback f) {
    auto state = std::make_unique<callback_state>(callback_state{std::move(f), nullptr});
    attngraph_sink* s = nullptr;
    check(attngraph_sink_create_callback(&s, &callback_state::on_rows, state.get()));
    sink made(s);
    made.callback_ = std::move(state);
    return made;
  }
  /// Counts for each threshold without keeping an edge; sweep_rows() answers.
  static sink sweep(std::span<const double> thresholds) {
    attngraph_sink* s = nullptr;
    check(attngraph_sink_create_sweep(&s, thresholds.data(), static_cast<std::int64_t>(thresholds.size())));
    sink made(s);
    made.sweep_size_ = thresholds.size();
    return made;
  }

  // Labels and facts, before the first row.
  void set_tokens(std::span<const std::string> tokens) { set_labels(ATTNGRAPH_KEYS, -1, tokens); }
  /// @param batch -1: for all sequences
  void set_labels(attngraph_side side, std::int64_t batch, std::span<const std::string> tokens) {
    std::vector<const char*> texts;
    std::vector<std::size_t> lengths;
    for (const std::string& t : tokens) {
      texts.push_back(t.data());
      lengths.push_back(t.size());
    }
    check(attngraph_sink_set_labels(c(), side, batch, texts.data(), lengths.data(),
                                    static_cast<std::int64_t>(texts.size())));
  }
  void load_labels(attngraph_side side, std::string_view path) {
    check(attngraph_sink_load_labels(c(), side, std::string(path).c_str()));
  }
  void parse_labels(attngraph_side side, std::string_view json) {
    check(attngraph_sink_parse_labels(c(), side, std::string(json).c_str()));
  }
  void load_tokens(std::string_view path) { check(attngraph_sink_load_tokens(c(), std::string(path).c_str())); }
  void parse_tokens(std::string_view json) { check(attngraph_sink_parse_tokens(c(), std::string(json).c_str())); }
  /// Keep the heaviest edges: of all that goes in, and of each slice. 0: all. Before the first row.
  void set_budget(std::uint64_t edges, std::uint64_t slice_edges = 0) {
    check(attngraph_sink_set_budget(c(), edges, slice_edges));
  }
  void set_metadata(std::string_view name, std::string_view value) {
    check(attngraph_sink_set_metadata(c(), std::string(name).c_str(), std::string(value).c_str()));
  }

  /// A slice of the caller's own, as CSR. @param rows null: its statistics are unknown
  void add_slice(const attngraph_csr& slice, const attngraph_rows* rows = nullptr) {
    const attngraph_status status = attngraph_sink_add_slice(c(), &slice, rows);
    rethrow();
    check(status);
  }

  /// How the slices of add_slice() were made.
  void set_report(const attngraph::report& report) { check(attngraph_sink_set_report(c(), &report)); }

  std::int64_t edge_count() const noexcept { return attngraph_sink_edge_count(c_.get()); }
  attngraph::report report() const {
    attngraph::report r{};
    check(attngraph_sink_report(c_.get(), &r));
    return r;
  }
  result take_result() {
    attngraph_result* r = nullptr;
    check(attngraph_sink_take_result(c(), &r));
    return result(r);
  }
  std::vector<sweep_row> sweep_rows() const {
    std::vector<sweep_row> rows(sweep_size_);
    check(attngraph_sink_sweep_rows(c_.get(), rows.data()));
    return rows;
  }
  void finish() { check(attngraph_sink_finish(c())); }

  attngraph_sink* c() noexcept { return c_.get(); }
  /// Throw what the row callback threw, if it did. The calls that feed a sink do so themselves.
  void rethrow() {
    if (callback_ && callback_->thrown) std::rethrow_exception(std::exchange(callback_->thrown, nullptr));
  }

 private:
  struct callback_state {
    row_callback f;
    std::exception_ptr thrown;
    static int on_rows(void* user, const attngraph_row_block* block) {
      auto& self = *static_cast<callback_state*>(user);
      try {
        return self.f(slice(*block, block->row_count, row_statistics(block->rows, block->row_count))) ? 0 : 1;
      } catch (...) {
        self.thrown = std::current_exception();
        return 1;
      }
    }
  };
  explicit sink(attngraph_sink* owned) noexcept : c_(owned) {}

  std::unique_ptr<callback_state> callback_;  // outlives the C sink, which points at it
  detail::handle<attngraph_sink, attngraph_sink_destroy> c_;
  std::size_t sweep_size_ = 0;
};

inline void result::write(sink& to) const {
  const attngraph_status status = attngraph_result_write(c(), to.c());
  to.rethrow();
  check(status);
}

inline void result::save(std::string_view path, std::string_view format, const write_options& how) const {
  sink to = sink::file(path, format, how);
  write(to);
  to.finish();
}

// ---------------------------------------------------------------------------------------------------------------------
// context

/// A graph whose edges are in the memory of a CUDA device.
class device_result {
 public:
  explicit device_result(attngraph_device_result* owned) noexcept : c_(owned) {}
  /// Pointers into device memory; they live as long as this.
  attngraph_device_csr csr() const {
    attngraph_device_csr csr{};
    check(attngraph_device_result_csr(c_.get(), &csr));
    return csr;
  }
  /// Arrays are complete for work queued on the stream from now on; null: for the caller, who waits.
  void wait(void* stream = nullptr) const { check(attngraph_device_result_wait(c_.get(), stream)); }
  result to_host() const {
    attngraph_result* r = nullptr;
    check(attngraph_device_result_to_host(c_.get(), &r));
    return result(r);
  }

 private:
  detail::handle<attngraph_device_result, attngraph_device_result_destroy> c_;
};

/// Runs extractions; one thread at a time.
class context {
 public:
  /// @param device "auto", "cpu", "cuda", "cuda:N"
  explicit context(std::string_view device = "auto") {
    attngraph_context* made = nullptr;
    check(attngraph_context_create(&made, std::string(device).c_str()));
    c_.reset(made);
  }

  /// Edges of softmax(scale * q k^T). @param q [B, Hq, Nq, D] @param k [B, Hkv, Nk, D]
  result extract(const tensor& q, const tensor& k, const options& how = {}) {
    options::call call(how, q);
    attngraph_result* r = nullptr;
    call.finish(attngraph_extract(c_.get(), q.c(), k.c(), &call.c, &r));
    return result(r);
  }
  void extract(const tensor& q, const tensor& k, const options& how, sink& to) {
    options::call call(how, q);
    const attngraph_status status = attngraph_extract_to(c_.get(), q.c(), k.c(), &call.c, to.c());
    to.rethrow();
    call.finish(status);
  }
  /// Edges of a ready attention matrix. @param weights [B, H, Nq, Nk]
  result filter(const tensor& weights, const options& how = {}) {
    options::call call(how, weights);
    attngraph_result* r = nullptr;
    call.finish(attngraph_filter_matrix(c_.get(), weights.c(), &call.c, &r));
    return result(r);
  }
  void filter(const tensor& weights, const options& how, sink& to) {
    options::call call(how, weights);
    const attngraph_status status = attngraph_filter_matrix_to(c_.get(), weights.c(), &call.c, to.c());
    to.rethrow();
    call.finish(status);
  }
  /// Edges that stay in the memory of a CUDA device.
  device_result extract_on_device(const tensor& q, const tensor& k, const options& how = {}) {
    options::call call(how, q);
    attngraph_device_result* r = nullptr;
    call.finish(attngraph_extract_on_device(c_.get(), q.c(), k.c(), &call.c, &r));
    return device_result(r);
  }
  /// The dense softmax weights, to `weights`: [B, Hq, Nq, Nk] f32, row-major.
  void write_weights(const tensor& q, const tensor& k, const tensor& weights, const options& how = {}) {
    options::call call(how, q);
    call.finish(attngraph_write_weights(c_.get(), q.c(), k.c(), &call.c, weights.c()));
  }
  /// How extract would do it; nothing runs and no data are read.
  std::string explain(const tensor& q, const tensor& k, const options& how = {}) const {
    return explain(q, k.c(), how);
  }
  /// How filter would do it.
  std::string explain(const tensor& weights, const options& how = {}) const { return explain(weights, nullptr, how); }

 private:
  std::string explain(const tensor& of, const attngraph_tensor* k, const options& how) const {
    const options::call call(how, of);
    char* text = nullptr;
    check(attngraph_explain(c_.get(), of.c(), k, &call.c, &text));
    const std::unique_ptr<char, void (*)(char*)> owned(text, attngraph_string_free);
    return text;
  }
  friend class session;
  detail::handle<attngraph_context, attngraph_context_destroy> c_;
};

/// Keys that come piece by piece; rows among them equal those of one call with all keys (attngraph_session_create).
class session {
 public:
  using info = attngraph_session_info;

  explicit session(const context& of, const attngraph_session_options& how = ATTNGRAPH_SESSION_OPTIONS_INIT) {
    attngraph_session* made = nullptr;
    check(attngraph_session_create(of.c_.get(), &how, &made));
    c_.reset(made);
  }

  /// @param k [B, Hkv, n, D], copied
  void append(const tensor& k) { check(attngraph_session_append(c_.get(), k.c())); }
  /// How many of the first keys of k the session has already, bit for bit.
  std::int64_t common(const tensor& k) {
    std::int64_t count = 0;
    check(attngraph_session_common(c_.get(), k.c(), &count));
    return count;
  }
  void truncate(std::int64_t count) { check(attngraph_session_truncate(c_.get(), count)); }
  /// Edges of queries [B, Hq, n, D]; their place is query_offset of the options, or the end.
  result rows(const tensor& q, const options& how = {}) {
    options::call call(how, q);
    attngraph_result* r = nullptr;
    call.finish(attngraph_session_rows(c_.get(), q.c(), &call.c, &r));
    return result(r);
  }
  void rows(const tensor& q, const options& how, sink& to) {
    options::call call(how, q);
    const attngraph_status status = attngraph_session_rows_to(c_.get(), q.c(), &call.c, to.c());
    to.rethrow();
    call.finish(status);
  }
  info describe() {
    info now{};
    check(attngraph_session_describe(c_.get(), &now));
    return now;
  }

  attngraph_session* c() noexcept { return c_.get(); }

 private:
  detail::handle<attngraph_session, attngraph_session_destroy> c_;
};

using task = attngraph_task;

/// The problem cut into parts that any process can do alone; the same list for everybody who asks. Tensors need no
/// data.
inline std::vector<task> plan_tasks(const tensor& q, const tensor& k, const options& how, std::int64_t pairs_per_task) {
  const options::call call(how, q);
  std::int64_t count = 0;
  check(attngraph_plan_tasks(q.c(), k.c(), &call.c, pairs_per_task, nullptr, 0, &count));
  std::vector<task> tasks(static_cast<std::size_t>(count));
  if (count > 0) check(attngraph_plan_tasks(q.c(), k.c(), &call.c, pairs_per_task, tasks.data(), count, &count));
  return tasks;
}

// ---------------------------------------------------------------------------------------------------------------------
// tensor files

/// An open .safetensors, .npy or .npz file. Tensors read from it stay until release() or the file's end.
class file {
 public:
  explicit file(std::string_view path) {
    attngraph_file* opened = nullptr;
    check(attngraph_file_open(std::string(path).c_str(), &opened));
    c_.reset(opened);
  }

  /// In the file's order; an .npy file has one tensor, named "".
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (std::int64_t i = 0; i < attngraph_file_tensor_count(c_.get()); ++i)
      all.emplace_back(attngraph_file_tensor_name(c_.get(), i));
    return all;
  }
  /// Dtype and shape; the data are not read and data() is null.
  tensor info(std::string_view name) const {
    attngraph_tensor t{};
    check(attngraph_file_tensor_info(c_.get(), std::string(name).c_str(), &t));
    return tensor(t);
  }
  tensor read(std::string_view name) {
    attngraph_tensor t{};
    check(attngraph_file_tensor(c_.get(), std::string(name).c_str(), &t));
    return tensor(t);
  }
  void release(std::string_view name) { attngraph_file_release(c_.get(), std::string(name).c_str()); }
  std::optional<std::string_view> metadata(std::string_view name) const {
    return detail::text(attngraph_file_metadata(c_.get(), std::string(name).c_str()));
  }

 private:
  detail::handle<attngraph_file, attngraph_file_destroy> c_;
};

// ---------------------------------------------------------------------------------------------------------------------
// the library

/// A way of doing the work, available on this machine or not. Texts live as long as the process.
struct backend {
  std::string_view name;
  std::optional<std::string_view> unavailable;  ///< why not; nothing when it works
  std::string_view device;                      ///< what this machine is to it
};

inline std::vector<backend> backends() {
  std::vector<backend> all;
  for (std::int32_t i = 0; i < attngraph_backend_count(); ++i)
    all.push_back({attngraph_backend_name(i), detail::text(attngraph_backend_unavailable(i)),
                   detail::text(attngraph_backend_device(i)).value_or("")});
  return all;
}
/// Their names alone, for which no device is looked for.
inline std::vector<std::string_view> backend_names() {
  std::vector<std::string_view> all;
  for (std::int32_t i = 0; i < attngraph_backend_count(); ++i) all.emplace_back(attngraph_backend_name(i));
  return all;
}

/// Formats of graph files. @param abilities only those that have all of these; ATTNGRAPH_FORMAT_*
inline std::vector<graph_format> graph_formats(std::uint32_t abilities = 0) {
  std::vector<graph_format> all;
  for (std::int32_t i = 0; const graph_format* format = attngraph_format_at(i); ++i)
    if ((format->abilities & abilities) == abilities) all.push_back(*format);
  return all;
}

/// Of the library that is loaded; the header's are ATTNGRAPH_VERSION_* and ATTNGRAPH_ABI_VERSION.
inline std::string_view version() noexcept { return attngraph_version(); }
inline std::int32_t abi_version() noexcept { return attngraph_abi_version(); }

}  // namespace attngraph

#endif
