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

const char* attngraph_result_token(const attngraph_result* result, int64_t i, size_t* length) {
  if (i < 0 || i >= attngraph_result_token_count(result)) return nullptr;
  const std::string& token = result->graph.metadata.tokens[static_cast<std::size_t>(i)];
  if (length != nullptr) *length = token.size();
  return token.c_str();
}

int64_t attngraph_result_token_count(const attngraph_result* result) {
  return result != nullptr ? static_cast<int64_t>(result->graph.metadata.tokens.size()) : 0;
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
