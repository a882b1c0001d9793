// SPDX-License-Identifier: Apache-2.0
// Views of a graph in memory. Nothing is copied: the arrays of the contract are those of the EdgeList.
#include "result.hpp"

#include <iterator>
#include <memory>

#include "../io/graph_file.hpp"
#include "c_views.hpp"
#include "guard.hpp"

namespace {

using ag::Slice;
using ag::Status;
using ag::api::answer_or;
using ag::api::guarded;
using ag::api::required;

const Slice& slice_at(const attngraph_result& result, std::int64_t slice) {
  const auto count = static_cast<std::int64_t>(result.graph.slices.size());
  if (slice < 0 || slice >= count) ag::fail(Status::kNotFound, "there is no slice {}; the result has {}", slice, count);
  return result.graph.slices[static_cast<std::size_t>(slice)];
}

// Null without a result, and for a side that is none.
const ag::Labels* labels_of(const attngraph_result* result, std::int32_t side) {
  if (result == nullptr) return nullptr;
  const ag::Metadata& metadata = result->graph.metadata;
  return side == ATTNGRAPH_KEYS ? &metadata.tokens : side == ATTNGRAPH_QUERIES ? &metadata.query_tokens : nullptr;
}

const double* data_or_null(const std::vector<double>& values) { return values.empty() ? nullptr : values.data(); }

}  // namespace

void attngraph_result_destroy(attngraph_result* result) { delete result; }

int64_t attngraph_result_slice_count(const attngraph_result* result) {
  return result != nullptr ? static_cast<int64_t>(result->graph.slices.size()) : 0;
}

int64_t attngraph_result_edge_count(const attngraph_result* result) {
  return result != nullptr ? result->graph.edge_count() : 0;
}

attngraph_status attngraph_result_csr(const attngraph_result* result, int64_t slice, attngraph_csr* csr) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    const Slice& s = slice_at(*result, slice);
    attngraph_csr out{};
    out.batch = s.info.id.batch;
    out.layer = s.info.id.layer;
    out.head = s.info.id.head;
    out.query_begin = s.info.query_begin;
    out.query_count = s.info.query_count;
    out.key_count = s.info.key_count;
    out.edge_count = s.edge_count;
    out.offsets = graph.offsets.data() + s.first_offset;
    out.keys = graph.keys.data() + s.first_edge;
    out.weights = graph.weight_data(s.first_edge);
    out.weight_dtype = static_cast<int32_t>(graph.weight_dtype);
    required(csr, "csr") = out;
  });
}

attngraph_status attngraph_result_rows(const attngraph_result* result, int64_t slice, attngraph_rows* rows) {
  return guarded([&] {
    const ag::RowColumns& columns = required(result, "result").graph.rows;
    const std::int64_t first = slice_at(*result, slice).first_row;
    required(rows, "rows") = {columns.logsumexp.data() + first, columns.maximum.data() + first,
                              columns.max_key.data() + first, columns.kept_mass.data() + first,
                              columns.entropy.data() + first};
  });
}

attngraph_status attngraph_result_columns(const attngraph_result* result, int64_t slice, attngraph_columns* columns) {
  return guarded([&] {
    required(result, "result");
    const ag::SliceSums& sums = slice_at(*result, slice).sums;
    required(columns, "columns") = {data_or_null(sums.received), data_or_null(sums.distances), sums.distance_begin,
                                    static_cast<int64_t>(sums.distances.size())};
  });
}

attngraph_status attngraph_result_report(const attngraph_result* result, attngraph_report* report) {
  return guarded([&] { required(report, "report") = ag::api::report_struct(required(result, "result").graph.report); });
}

int64_t attngraph_result_query_offset(const attngraph_result* result) {
  return result != nullptr ? ag::query_offset(result->graph.metadata) : 0;
}

const char* attngraph_result_token(const attngraph_result* result, int64_t i, size_t* length) {
  return attngraph_result_label(result, ATTNGRAPH_KEYS, 0, i, length);
}

int64_t attngraph_result_token_count(const attngraph_result* result) {
  return attngraph_result_label_count(result, ATTNGRAPH_KEYS, 0);
}

const char* attngraph_result_label(const attngraph_result* result, int32_t side, int64_t batch, int64_t i,
                                   size_t* length) {
  if (result == nullptr || batch < 0) return nullptr;
  const ag::Metadata& metadata = result->graph.metadata;
  const std::string* const word = side == ATTNGRAPH_KEYS      ? ag::key_word(metadata, batch, i)
                                  : side == ATTNGRAPH_QUERIES ? ag::query_word(metadata, batch, i)
                                                              : nullptr;
  if (word == nullptr) return nullptr;
  if (length != nullptr) *length = word->size();
  return word->c_str();
}

int64_t attngraph_result_label_lists(const attngraph_result* result, int32_t side) {
  const ag::Labels* const labels = labels_of(result, side);
  return labels != nullptr ? static_cast<int64_t>(labels->lists.size()) : 0;
}

int64_t attngraph_result_label_count(const attngraph_result* result, int32_t side, int64_t batch) {
  const ag::Labels* const labels = labels_of(result, side);
  return labels != nullptr && batch >= 0 ? labels->count(batch) : 0;
}

int32_t attngraph_result_two_sided(const attngraph_result* result) {
  return result != nullptr && result->graph.metadata.two_sided() ? 1 : 0;
}

const char* attngraph_result_metadata(const attngraph_result* result, const char* name) {
  return answer_or<const char*>(nullptr, [&]() -> const char* {
    const auto& facts = required(result, "result").graph.metadata.facts;
    const auto fact = facts.find(&required(name, "name"));
    return fact != facts.end() ? fact->second.c_str() : nullptr;
  });
}

const char* attngraph_result_metadata_name(const attngraph_result* result, int64_t i) {
  if (result == nullptr || i < 0) return nullptr;
  const auto& facts = result->graph.metadata.facts;
  if (i >= static_cast<int64_t>(facts.size())) return nullptr;
  return std::next(facts.begin(), i)->first.c_str();
}

attngraph_status attngraph_result_load(const char* path, attngraph_result** result) {
  return guarded([&] {
    required(result, "result");
    required(path, "path");
    auto loaded = std::make_unique<attngraph_result>();
    loaded->graph = ag::read_graph(path);
    *result = loaded.release();
  });
}
