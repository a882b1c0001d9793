// SPDX-License-Identifier: Apache-2.0
#include "c_views.hpp"

#include <cmath>

#include "guard.hpp"

namespace ag::api {

attngraph_edge edge_struct(const Edge& edge) {
  return {edge.slice.batch, edge.slice.layer, edge.slice.head, edge.query, edge.key, edge.weight};
}

attngraph_sweep_row sweep_struct(const SweepRow& row) { return {row.threshold, row.edges, row.kept_mass, row.nodes}; }

attngraph_report report_struct(const RunReport& report) {
  attngraph_report out{};
  out.eps = report.eps;
  out.borderline = report.borderline;
  out.empty_rows = report.empty_rows;
  out.rows_fp64 = report.rows_fp64;
  out.skipped_nonfinite = report.skipped_nonfinite;
  out.kept_mass = report.rows_with_keys > 0 ? report.kept_mass_sum / static_cast<double>(report.rows_with_keys) : 0.0;
  out.backend = report.backend.c_str();
  out.target = report.target.c_str();
  out.threads = report.threads;
  out.note = report.note.c_str();
  out.rows_decided_again = report.rows_decided_again;
  out.unresolved = report.unresolved;
  return out;
}

RunReport decisions_of(const attngraph_report& report) {
  RunReport out;
  const bool unknown = std::isnan(report.eps) || report.borderline == -1;
  if (!unknown && (!std::isfinite(report.eps) || report.eps < 0))
    fail(Status::kArgument, "report.eps is {}; it is at least 0, or NaN when it is not known", report.eps);
  if (report.borderline < -1 || report.rows_fp64 < 0 || report.skipped_nonfinite < 0 || report.threads < 0 ||
      report.rows_decided_again < 0 || report.unresolved < 0)
    fail(Status::kArgument, "a count of the report is negative; borderline may be -1 when it is not known");
  if (unknown) {
    out.forget_decisions();
  } else {
    out.eps = report.eps;
    out.borderline = report.borderline;
  }
  out.rows_fp64 = report.rows_fp64;
  out.skipped_nonfinite = report.skipped_nonfinite;
  out.threads = report.threads;
  out.rows_decided_again = report.rows_decided_again;
  out.unresolved = report.unresolved;
  const auto text = [](const char* s) { return s != nullptr ? std::string(s) : std::string(); };
  out.backend = text(report.backend);
  out.target = text(report.target);
  out.note = text(report.note);
  return out;
}

std::span<const double> checked_thresholds(const double* thresholds, std::int64_t count) {
  if (count < 0) fail(Status::kArgument, "the count of thresholds is {}; it is at least 0", count);
  if (count > 0) required(thresholds, "thresholds");
  const std::span<const double> all(thresholds, static_cast<std::size_t>(count));
  for (std::size_t n = 0; n < all.size(); ++n) {
    if (!std::isfinite(all[n]) || all[n] < 0)
      fail(Status::kArgument, "thresholds[{}] is {}; a threshold is a finite number, at least 0", n, all[n]);
  }
  return all;
}

}  // namespace ag::api
