// SPDX-License-Identifier: Apache-2.0
// The graph in memory: CSR per slice, with row statistics and the facts that travel with it.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "../core/row_block.hpp"
#include "labels.hpp"

namespace ag {

// Facts that travel with a graph, and words. tokens label the positions of each sequence: key p, and the query that
// stands there unless queries have words of their own.
struct Metadata {
  std::map<std::string, std::string> facts;
  Labels tokens;
  Labels query_tokens{};  // of query i

  // Queries and keys are different things, as in cross attention: a query stands at no key's position.
  bool two_sided() const;
};

// Words of the ends of an edge; null where there is none.
const std::string* key_word(const Metadata& metadata, std::int64_t batch, std::int64_t key);
const std::string* query_word(const Metadata& metadata, std::int64_t batch, std::int64_t query);

// Query i stands at key position i + query_offset, the fact of that name. 0 when the facts do not say, or say what is
// no integer from -2^60 to 2^60.
std::int64_t query_offset(const Metadata& metadata);

// A file may claim any query: where the sum would wrap, the largest position.
inline std::int64_t position_of(std::int64_t query, std::int64_t offset) {
  std::int64_t position = 0;
  return __builtin_add_overflow(query, offset, &position) ? std::numeric_limits<std::int64_t>::max() : position;
}

// Where a slice's rows and edges stand in the flat arrays of its EdgeList.
struct Slice {
  SliceInfo info;
  std::int64_t first_row = 0;     // row r of the slice has its statistics at first_row + r
  std::int64_t first_offset = 0;  // offsets[first_offset .. first_offset + query_count]; the first is 0
  std::int64_t first_edge = 0;
  std::int64_t edge_count = 0;  // == offsets[first_offset + query_count]
  SliceSums sums;
};

struct EdgeList {
  std::vector<Slice> slices;          // in the order they were made
  std::vector<std::int64_t> offsets;  // per slice query_count + 1, each beginning with 0
  std::vector<std::int32_t> keys;     // [E]
  DType weight_dtype = DType::kF32;   // one of the two vectors below is used
  std::vector<float> weights_f32;     // [E] or empty
  std::vector<double> weights_f64;    // [E] or empty
  RowColumns rows;                    // of all slices in order
  Metadata metadata;
  RunReport report;

  std::int64_t edge_count() const { return static_cast<std::int64_t>(keys.size()); }
  double weight(std::int64_t e) const {
    const auto i = static_cast<std::size_t>(e);
    return weight_dtype == DType::kF64 ? weights_f64[i] : static_cast<double>(weights_f32[i]);
  }
  const void* weight_data(std::int64_t e) const {
    return weight_dtype == DType::kF64 ? static_cast<const void*>(weights_f64.data() + e)
                                       : static_cast<const void*>(weights_f32.data() + e);
  }
};

// Receives a graph: its facts first, then its slices and rows, then the report once all of them are in.
class GraphSink : public RowSink {
 public:
  // Called now and then while a sink does something long within rows(); may throw. Empty: nobody asks.
  virtual void set_poll(const std::function<void()>&) {}
  virtual void set_metadata(const Metadata& metadata) = 0;  // before the first slice
  virtual void finish(const RunReport& report) = 0;         // nothing comes after it; without it everything is undone
};

// Collects rows into an EdgeList. A slice in f64 after slices in f32 widens them all.
class CollectSink : public GraphSink {
 public:
  void set_poll(const std::function<void()>& poll) override { poll_ = poll; }
  void set_metadata(const Metadata& metadata) override { graph_.metadata = metadata; }
  // Room for what is about to come, so that it need not move as it grows. A promise of nothing.
  void expect(std::int64_t slices, std::int64_t rows_of_a_slice);
  void begin_slice(const SliceInfo& slice, DType weight_dtype) override;
  void rows(const RowBlock& block) override;
  void end_slice(const SliceSums& sums) override;
  void finish(const RunReport& report) override { graph_.report = report; }
  EdgeList take();  // the graph so far; the sink is empty afterwards
  const EdgeList& graph() const { return graph_; }

 private:
  EdgeList graph_;
  std::function<void()> poll_;
};

// Send a graph through a sink, slice by slice. Calls set_metadata and finish too.
void replay(const EdgeList& graph, GraphSink& sink);

}  // namespace ag
