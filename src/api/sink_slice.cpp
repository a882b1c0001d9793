// SPDX-License-Identifier: Apache-2.0
// Slices of the caller's own on their way into a sink. They are as untrusted as a file.
#include <cmath>
#include <limits>
#include <vector>

#include "../graph/operations.hpp"
#include "guard.hpp"
#include "request.hpp"
#include "sink.hpp"

namespace ag::api {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

void check_labels(const attngraph_csr& csr) {
  if (csr.batch < 0 || csr.layer < 0 || csr.head < 0)
    fail(Status::kArgument, "the slice is batch {}, layer {}, head {}; labels are at least 0", csr.batch, csr.layer,
         csr.head);
  if (csr.query_begin < 0 || csr.query_count < 0 || csr.query_begin > kMaxPosition || csr.query_count > kMaxPosition)
    fail(Status::kArgument, "the slice has {} queries from {}; both are 0 to 2^60", csr.query_count, csr.query_begin);
  if (csr.key_count < 0 || csr.key_count > std::numeric_limits<std::int32_t>::max())
    fail(Status::kArgument, "key_count is {}; it is 0 to 2^31 - 1", csr.key_count);
  if (csr.weight_dtype != ATTNGRAPH_F32 && csr.weight_dtype != ATTNGRAPH_F64)
    fail(Status::kDType, "weight_dtype is {}; it is {} (f32) or {} (f64)", csr.weight_dtype,
         static_cast<int>(ATTNGRAPH_F32), static_cast<int>(ATTNGRAPH_F64));
}

void check_offsets(const attngraph_csr& csr) {
  required(csr.offsets, "offsets");
  if (csr.offsets[0] != 0) fail(Status::kArgument, "offsets[0] is {}; it is 0", csr.offsets[0]);
  for (std::int64_t r = 0; r < csr.query_count; ++r) {
    if (csr.offsets[r + 1] < csr.offsets[r])
      fail(Status::kArgument, "offsets[{}] is {} after {}; offsets do not fall", r + 1, csr.offsets[r + 1],
           csr.offsets[r]);
  }
  if (csr.offsets[csr.query_count] != csr.edge_count)
    fail(Status::kArgument, "offsets end with {}, but edge_count is {}", csr.offsets[csr.query_count], csr.edge_count);
}

void check_edges(const attngraph_csr& csr, const RowBlock& block) {
  if (csr.edge_count == 0) return;
  required(csr.keys, "keys");
  if (csr.weights == nullptr) fail(Status::kArgument, "weights is NULL; the slice has {} edges", csr.edge_count);
  for (std::int64_t r = 0; r < csr.query_count; ++r) {
    for (std::int64_t e = csr.offsets[r]; e < csr.offsets[r + 1]; ++e) {
      const std::int32_t key = csr.keys[e];
      const std::int32_t least = e > csr.offsets[r] ? csr.keys[e - 1] + 1 : 0;
      if (key < least || key >= csr.key_count)
        fail(Status::kArgument, "row {}: keys[{}] is {}; keys ascend, each once, below {}", r, e, key, csr.key_count);
      if (!std::isfinite(block.weight(e)))
        fail(Status::kNonfinite, "row {}: weights[{}] is {}; weights are finite", r, e, block.weight(e));
    }
  }
}

RowStatsView statistics_given(const attngraph_csr& csr, const attngraph_rows& rows) {
  if (rows.logsumexp == nullptr || rows.maximum == nullptr || rows.max_key == nullptr || rows.kept_mass == nullptr ||
      rows.entropy == nullptr)
    fail(Status::kArgument, "an array of rows is NULL; give all five, or no rows");
  for (std::int64_t r = 0; r < csr.query_count; ++r) {
    if (rows.max_key[r] < -1 || rows.max_key[r] >= csr.key_count)
      fail(Status::kArgument, "row {}: max_key is {}; it is a key below {}, or -1", r, rows.max_key[r], csr.key_count);
  }
  return {rows.logsumexp, rows.maximum, rows.kept_mass, rows.entropy, rows.max_key, nullptr};
}

RowColumns statistics_of(const attngraph_csr& csr, const RowBlock& block) {
  RowColumns stats;
  for (std::int64_t r = 0; r < csr.query_count; ++r) {
    RowStats row{kUnknown, kUnknown, 0, kUnknown, -1};
    double heaviest = -std::numeric_limits<double>::infinity();
    for (std::int64_t e = csr.offsets[r]; e < csr.offsets[r + 1]; ++e) {
      const double weight = block.weight(e);
      row.kept_mass += weight;
      if (weight > heaviest) {
        heaviest = weight;
        row.max_key = csr.keys[e];
      }
    }
    stats.push_back(row);
  }
  return stats;
}

RunReport report_of(const attngraph_csr& csr, const RowStatsView& stats) {
  RunReport report;
  for (std::int64_t r = 0; r < csr.query_count; ++r) {
    if (has_keys(stats.maximum[r], stats.max_key[r], csr.offsets[r + 1] - csr.offsets[r])) {
      ++report.rows_with_keys;
      report.kept_mass_sum += stats.kept_mass[r];
    } else {
      ++report.empty_rows;
    }
  }
  return report;
}

}  // namespace
}  // namespace ag::api

attngraph_status attngraph_sink_add_slice(attngraph_sink* sink, const attngraph_csr* slice,
                                          const attngraph_rows* rows) {
  using namespace ag::api;
  return guarded([&] {
    attngraph_sink& open = required(sink, "sink");
    const Occupied busy(open.busy, "sink");
    open.require_open();
    const attngraph_csr& csr = required(slice, "slice");
    check_labels(csr);
    check_offsets(csr);
    open.require_words_up_to(csr.batch, csr.key_count, csr.query_begin + csr.query_count);

    ag::RowBlock block;
    block.query_begin = csr.query_begin;
    block.row_count = csr.query_count;
    block.offsets = csr.offsets;
    block.keys = csr.keys;
    block.weights = csr.weights;
    block.weight_dtype = static_cast<ag::DType>(csr.weight_dtype);
    check_edges(csr, block);
    ag::RowColumns own;
    if (rows != nullptr) {
      block.stats = statistics_given(csr, *rows);
    } else {
      own = statistics_of(csr, block);
      block.stats = own.view();
    }

    open.has_own_slices = true;
    CallIntoSink call(open, {}, nullptr, 0);
    call.begin_slice({{csr.batch, csr.layer, csr.head}, csr.query_begin, csr.query_count, csr.key_count},
                     block.weight_dtype);
    if (csr.query_count > 0) call.rows(block);
    call.end_slice({});
    call.complete(report_of(csr, block.stats));
  });
}
