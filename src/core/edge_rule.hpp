// SPDX-License-Identifier: Apache-2.0
// The one definition of an edge, for host and device; no backend writes its own comparison.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define ATTNGRAPH_HOST_DEVICE __host__ __device__
#else
#define ATTNGRAPH_HOST_DEVICE
#endif

namespace ag {

// Weight exp(score - logsumexp) against a threshold, in the log domain: never by comparing rounded weights. Natural
// logarithms. log_threshold is ln t; -inf (t = 0) makes every allowed pair an edge.
ATTNGRAPH_HOST_DEVICE inline double edge_margin(double score, double logsumexp, double log_threshold) {
  return (score - logsumexp) - log_threshold;
}

ATTNGRAPH_HOST_DEVICE inline bool is_edge(double margin) { return margin >= 0.0; }

// A row whose m allowed keys all have the same score, without a sink: each weighs exactly 1 / m, and this is the only
// way in which an exact weight can equal a rational threshold (docs/numerics.md). fma keeps the sign of m t - 1 exact.
ATTNGRAPH_HOST_DEVICE inline bool is_uniform_row_edge(std::int64_t m, double threshold) {
  return std::fma(static_cast<double>(m), threshold, -1.0) <= 0.0;
}

// With a given logsumexp nothing cancels the error of a score in double: above this bound on |scale q . k| no weight
// can be told, unless a softcap holds scores down: kRange.
inline constexpr double kMostWithLogsumexp = 1e12;

// A stored weight, promoted to double, against the threshold: exact. A NaN is no edge.
ATTNGRAPH_HOST_DEVICE inline bool is_matrix_edge(double weight, double threshold) { return weight >= threshold; }

}  // namespace ag
