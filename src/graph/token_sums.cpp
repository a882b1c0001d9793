// SPDX-License-Identifier: Apache-2.0
#include "token_sums.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <system_error>
#include <thread>
#include <unordered_map>

#include "../core/numbers.hpp"
#include "pair_weights.hpp"

namespace ag {
namespace {

using Sums = std::array<double, kTokenRelations>;

// Rows of one sum: fixed, so that sums of doubles come out the same for every number of threads.
constexpr std::int64_t kChunkRows = 64;
// Below so many multiplications a slice is not worth a thread.
constexpr double kWorkPerThread = 2e6;

// Where every id occurs, ascending.
class Occurrences {
 public:
  explicit Occurrences(const std::vector<std::int64_t>& ids) : ids_(ids) {
    std::unordered_map<std::int64_t, std::size_t> lists;
    list_of_.reserve(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto [list, is_new] = lists.emplace(ids[i], places_.size());
      if (is_new) places_.emplace_back();
      list_of_.push_back(list->second);
      if (ids[i] >= 0) places_[list->second].push_back(static_cast<std::int64_t>(i));
    }
  }
  // All positions with the id of this one, itself too; none for a position without an id.
  const std::vector<std::int64_t>& alike(std::int64_t position) const {
    static const std::vector<std::int64_t> kNone;
    return position >= 0 && position < static_cast<std::int64_t>(ids_.size()) ? places_[list_of_[idx(position)]]
                                                                              : kNone;
  }
  // The same number for positions alike; -1 beyond the list.
  std::int64_t kind(std::int64_t position) const {
    return position >= 0 && position < static_cast<std::int64_t>(ids_.size())
               ? static_cast<std::int64_t>(list_of_[idx(position)])
               : -1;
  }
  double pairs() const {
    double sum = 0;
    for (const auto& list : places_) sum += static_cast<double>(list.size()) * static_cast<double>(list.size());
    return sum;
  }

 private:
  const std::vector<std::int64_t>& ids_;
  std::vector<std::size_t> list_of_;
  std::vector<std::vector<std::int64_t>> places_;
};

// A query and the logsumexp of its row.
struct TileRow {
  std::int64_t query = 0;
  double logsumexp = 0;
};

// The weights of one head's pairs, of rows and keys that are wanted together.
class ScoreWeights {
 public:
  explicit ScoreWeights(const Problem& problem) : p_(problem) {}

  void open(std::int64_t batch, std::int64_t head) {
    const std::int64_t key_head = p_.key_head_of(head);
    batch_ = batch;
    head_ = head;
    if (batch == loaded_batch_ && key_head == loaded_head_) return;
    loaded_batch_ = batch;
    loaded_head_ = key_head;
    const std::int64_t count = p_.mask.key_count(batch, p_.keys());
    keys_.resize(idx(count * p_.head_dim()));
    for (std::int64_t j = 0; j < count; ++j) load(p_.k, batch, key_head, j, keys_.data() + j * p_.head_dim());
  }

  double work_per_pair() const { return static_cast<double>(p_.head_dim()); }

  struct Tile {
    std::vector<double> queries, biases;
    std::vector<PairRow> rows;
  };
  void open_rows(std::span<const TileRow> rows, Tile& tile) const {
    tile.queries.resize(rows.size() * idx(p_.head_dim()));
    tile.rows.clear();
    for (const TileRow& row : rows) {
      double* query = tile.queries.data() + tile.rows.size() * idx(p_.head_dim());
      load(p_.q, batch_, head_, row.query, query);
      tile.rows.push_back({query, row.logsumexp});
    }
  }
  // weights[n * keys.size() + m] is that of rows[n] and keys[m]; the rows are those opened from `first` on.
  void weigh(std::span<const TileRow> rows, std::size_t first, const std::vector<std::int64_t>& keys, Tile& tile,
             std::vector<double>& weights) const {
    tile.biases.clear();
    const TensorView& mask = p_.mask.tensor;
    const double slope = p_.slope(batch_, head_);
    if (mask || slope != 0) {
      for (const TileRow& row : rows) {
        for (const std::int64_t j : keys) {
          const double masked = mask ? mask_bias(mask.dtype, mask.at(batch_, head_, row.query, j)) : 0.0;
          tile.biases.push_back(masked + alibi_bias(slope, row.query + p_.mask.query_offset, j));
        }
      }
    }
    pair_weights(std::span(tile.rows).subspan(first, rows.size()), {keys_.data(), p_.head_dim(), p_.score_rule()}, keys,
                 tile.biases, weights);
  }

 private:
  void load(const TensorView& tensor, std::int64_t b, std::int64_t h, std::int64_t n, double* row) const {
    const std::byte* element = tensor.at(b, h, n);
    const std::int64_t step = tensor.strides[3] * static_cast<std::int64_t>(size_of(tensor.dtype));
    for (std::int64_t d = 0; d < p_.head_dim(); ++d, element += step) row[d] = load_double(tensor.dtype, element);
  }

  const Problem& p_;
  std::int64_t batch_ = 0, head_ = 0, loaded_batch_ = -1, loaded_head_ = -1;
  std::vector<double> keys_;  // of the key head at hand, [key_count][D]
};

// The weights of a matrix are there.
class StoredWeights {
 public:
  explicit StoredWeights(const MatrixProblem& problem) : p_(problem) {}
  void open(std::int64_t batch, std::int64_t head) {
    batch_ = batch;
    head_ = head;
  }
  double work_per_pair() const { return 4; }
  struct Tile {};
  void open_rows(std::span<const TileRow>, Tile&) const {}
  void weigh(std::span<const TileRow> rows, std::size_t, const std::vector<std::int64_t>& keys, Tile&,
             std::vector<double>& weights) const {
    for (std::size_t n = 0; n < rows.size(); ++n)
      for (std::size_t m = 0; m < keys.size(); ++m) weights[n * keys.size() + m] = weight(rows[n].query, keys[m]);
  }

 private:
  double weight(std::int64_t i, std::int64_t j) const {
    const MaskRules& mask = p_.mask;
    if (mask.tensor && std::isinf(mask_bias(mask.tensor.dtype, mask.tensor.at(batch_, head_, i, j)))) return 0;
    const double weight = load_double(p_.weights.dtype, p_.weights.at(batch_, head_, i, j));
    return std::isfinite(weight) ? weight : 0.0;
  }

  const MatrixProblem& p_;
  std::int64_t batch_ = 0, head_ = 0;
};

template <class AnyProblem, class Weights>
class TokenSums : public RowSink {
 public:
  TokenSums(const AnyProblem& problem, const TokenIds& ids, int threads, Control& control, RowSink& next)
      : p_(problem), threads_(std::max(threads, 1)), control_(control), next_(next), weights_(problem) {
    for (const auto& list : ids.tokens) tokens_.emplace_back(list);
    for (const auto& list : ids.words) words_.emplace_back(list);
  }

  void begin_slice(const SliceInfo& slice, DType weight_dtype) override {
    slice_ = slice;
    logsumexp_.clear();
    next_.begin_slice(slice, weight_dtype);
  }
  void rows(const RowBlock& block) override {
    for (std::int64_t r = 0; r < block.row_count; ++r)
      logsumexp_.push_back(block.stats.max_key[r] < 0 ? kNaN : block.stats.logsumexp[r]);
    next_.rows(block);
  }
  void end_slice(const SliceSums& sums) override {
    SliceSums more = sums;
    const Sums found = sum_slice();
    more.tokens.assign(found.begin(), found.end());
    next_.end_slice(more);
  }

 private:
  static const Occurrences& of_batch(const std::vector<Occurrences>& lists, std::int64_t batch) {
    return lists.size() == 1 ? lists.front() : lists[idx(batch)];
  }

  Sums sum_slice() {
    weights_.open(slice_.id.batch, slice_.id.head);
    put_in_order();
    const std::int64_t chunks = (slice_.query_count + kChunkRows - 1) / kChunkRows;
    std::vector<Sums> parts(idx(chunks));
    std::atomic<std::int64_t> next_chunk{0};
    std::atomic<bool> stop{false};
    const auto work = [&](bool is_caller) {
      Scratch scratch;
      while (!stop.load(std::memory_order_relaxed)) {
        const std::int64_t chunk = next_chunk.fetch_add(1);
        if (chunk >= chunks) return;
        const std::int64_t end = std::min(slice_.query_count, (chunk + 1) * kChunkRows);
        for (std::int64_t n = chunk * kChunkRows; n < end;) n = add_tile(n, end, scratch, parts[idx(chunk)]);
        if (is_caller) control_.poll();
      }
    };
    const double share =
        static_cast<double>(slice_.query_count) / static_cast<double>(std::max<std::int64_t>(p_.keys(), 1));
    const double total = share * of_batch(tokens_, slice_.id.batch).pairs() * weights_.work_per_pair();
    const auto helpers = static_cast<int>(std::min({static_cast<double>(threads_), total / kWorkPerThread + 1,
                                                    static_cast<double>(chunks)})) -
                         1;
    std::vector<std::thread> team;
    for (int n = 0; n < helpers; ++n) {
      try {
        team.emplace_back(work, false);
      } catch (const std::system_error&) {
        break;  // the system has no more threads for us: fewer do the same work
      }
    }
    const auto join = [&] {
      for (std::thread& helper : team) helper.join();
    };
    try {
      work(true);
    } catch (...) {
      stop = true;
      join();
      throw;
    }
    join();
    Sums sums{};
    for (const Sums& part : parts)
      for (std::size_t n = 0; n < sums.size(); ++n) sums[n] += part[n];
    if (words_.empty()) sums[static_cast<std::size_t>(TokenRelation::kSameWord)] = kNaN;
    return sums;
  }

  // Queries of one token side by side: they want the same keys, which are then at hand.
  void put_in_order() {
    const Occurrences& tokens = of_batch(tokens_, slice_.id.batch);
    const std::int64_t first = slice_.query_begin + p_.mask.query_offset;
    order_.resize(idx(slice_.query_count));
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::int64_t a, std::int64_t b) { return tokens.kind(first + a) < tokens.kind(first + b); });
  }

  // Of one thread: a tile of rows, the keys that they want, and the weights [rows][keys].
  struct Scratch {
    std::array<TileRow, kPairRows> rows;
    typename Weights::Tile tile;
    std::vector<std::int64_t> keys;
    std::vector<double> weights;
  };

  std::int64_t position(std::int64_t query) const { return query + p_.mask.query_offset; }

  void weigh(std::span<const TileRow> rows, std::size_t first, Scratch& scratch) const {
    scratch.weights.resize(rows.size() * scratch.keys.size());
    weights_.weigh(rows, first, scratch.keys, scratch.tile, scratch.weights);
  }

  // Rows of one token from the n-th in order on, at most kPairRows; returns the one after them.
  std::int64_t add_tile(std::int64_t n, std::int64_t end, Scratch& scratch, Sums& sums) const {
    const Occurrences& tokens = of_batch(tokens_, slice_.id.batch);
    const std::int64_t first = slice_.query_begin;
    const std::int64_t kind = tokens.kind(position(first + order_[idx(n)]));
    std::size_t count = 0;
    for (; n < end && count < kPairRows && tokens.kind(position(first + order_[idx(n)])) == kind; ++n) {
      const double logsumexp = logsumexp_[idx(order_[idx(n)])];
      if (!std::isnan(logsumexp)) scratch.rows[count++] = {first + order_[idx(n)], logsumexp};  // it has keys
    }
    if (count == 0) return n;
    const std::span<const TileRow> rows(scratch.rows.data(), count);
    weights_.open_rows(rows, scratch.tile);
    add_alike(rows, tokens.alike(position(rows.front().query)), scratch, sums);
    if (words_.empty()) return n;
    for (std::size_t r = 0; r < count; ++r) add_word(rows.subspan(r, 1), r, scratch, sums);
    return n;
  }

  KeyRange range_of(const TileRow& row) const { return p_.mask.range(slice_.id.batch, row.query, p_.keys()); }

  // `alike`: all positions with the token of these rows, ascending.
  void add_alike(std::span<const TileRow> rows, const std::vector<std::int64_t>& alike, Scratch& scratch,
                 Sums& sums) const {
    KeyRange any = range_of(rows.front());
    std::int64_t last = 0;  // position of a row
    for (const TileRow& row : rows) {
      const KeyRange range = range_of(row);
      any = {std::min(any.begin, range.begin), std::max(any.end, range.end)};
      last = std::max(last, position(row.query));
    }
    std::vector<std::int64_t>& keys = scratch.keys;
    keys.clear();
    for (const std::int64_t other : alike)
      if (other < last && other + 1 >= any.begin && other + 1 < any.end) keys.push_back(other + 1);
    const auto copies = static_cast<std::ptrdiff_t>(keys.size());  // from here on: the copies themselves
    for (const std::int64_t other : alike)
      if (other >= any.begin && other < any.end) keys.push_back(other);
    if (keys.empty()) return;
    weigh(rows, 0, scratch);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const double* weights = scratch.weights.data() + r * keys.size();
      const KeyRange range = range_of(rows[r]);
      const std::int64_t own = position(rows[r].query);
      const auto add = [&](TokenRelation relation, std::ptrdiff_t begin, std::ptrdiff_t end, KeyRange wanted) {
        const auto from = std::lower_bound(keys.begin() + begin, keys.begin() + end, wanted.begin);
        const auto to = std::lower_bound(from, keys.begin() + end, wanted.end);
        double& sum = sums[static_cast<std::size_t>(relation)];
        for (auto key = from; key != to; ++key) sum += weights[key - keys.begin()];
      };
      const auto all = static_cast<std::ptrdiff_t>(keys.size());
      add(TokenRelation::kInduction, 0, copies, {range.begin, std::min(range.end, own + 1)});
      add(TokenRelation::kDuplicate, copies, all, {range.begin, std::min(range.end, own)});
      add(TokenRelation::kDuplicate, copies, all, {std::max(range.begin, own + 1), range.end});
    }
  }

  void add_word(std::span<const TileRow> row, std::size_t r, Scratch& scratch, Sums& sums) const {
    const std::int64_t own = position(row.front().query);
    const KeyRange range = range_of(row.front());
    scratch.keys.clear();
    for (const std::int64_t other : of_batch(words_, slice_.id.batch).alike(own))
      if (other != own && other >= range.begin && other < range.end) scratch.keys.push_back(other);
    if (scratch.keys.empty()) return;
    weigh(row, r, scratch);
    double& sum = sums[static_cast<std::size_t>(TokenRelation::kSameWord)];
    for (const double weight : scratch.weights) sum += weight;
  }

  const AnyProblem& p_;
  const int threads_;
  Control& control_;
  RowSink& next_;
  Weights weights_;
  std::vector<Occurrences> tokens_, words_;
  SliceInfo slice_;
  std::vector<std::int64_t> order_;  // of the slice's rows, see put_in_order()
  std::vector<double> logsumexp_;    // of the slice's rows; NaN for a row without keys
};

}  // namespace

std::unique_ptr<RowSink> with_token_sums(const Problem& problem, const TokenIds& ids, int threads, Control& control,
                                         RowSink& next) {
  return std::make_unique<TokenSums<Problem, ScoreWeights>>(problem, ids, threads, control, next);
}

std::unique_ptr<RowSink> with_token_sums(const MatrixProblem& problem, const TokenIds& ids, int threads,
                                         Control& control, RowSink& next) {
  return std::make_unique<TokenSums<MatrixProblem, StoredWeights>>(problem, ids, threads, control, next);
}

}  // namespace ag
