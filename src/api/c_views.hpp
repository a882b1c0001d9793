// SPDX-License-Identifier: Apache-2.0
// Internal figures in the structs of the contract.
#pragma once

#include <attngraph/attngraph.h>

#include "../graph/operations.hpp"

namespace ag::api {

attngraph_edge edge_struct(const Edge& edge);
attngraph_sweep_row sweep_struct(const SweepRow& row);

// backend and target point into the report.
attngraph_report report_struct(const RunReport& report);

// How edges were decided and by whom; what a report says about rows is counted from the rows.
RunReport decisions_of(const attngraph_report& report);

// Thresholds of a sweep: finite, at least 0, any order.
std::span<const double> checked_thresholds(const double* thresholds, std::int64_t count);

}  // namespace ag::api
