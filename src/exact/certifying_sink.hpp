// SPDX-License-Identifier: Apache-2.0
// Between a backend and a sink: pairs that the backend's arithmetic cannot tell from the threshold are decided again,
// exactly, so that the edges are those of the definition whatever made them.
//
// The backend is asked with relaxed(problem), whose threshold is lower by more than any band, so every pair that can be
// an edge arrives. Those that lie outside the row's band of the real threshold are what they seem.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../core/control.hpp"
#include "../core/ordered_tasks.hpp"
#include "../core/problem.hpp"
#include "../core/row_block.hpp"
#include "judge.hpp"

namespace ag::exact {

// Whether the selection is one that CertifyingSink decides; kUnsupported otherwise.
void require_certifiable(const Problem& problem);
Problem relaxed(const Problem& problem);

class CertifyingSink : public RowSink {
 public:
  // `problem` is the one to be answered, not the relaxed one.
  CertifyingSink(const Problem& problem, int threads, RowSink& next, Control& control);

  void begin_slice(const SliceInfo& slice, DType weight_dtype) override;
  void rows(const RowBlock& block) override;
  void end_slice(const SliceSums& sums) override;

  // The backend's report as one of certified edges.
  RunReport report(RunReport of_backend) const;

 private:
  // A row of the buffer with pairs to be decided.
  struct OpenRow {
    std::int64_t row = 0;
    bool whole = false;               // the band is too wide: every key of the row is looked at
    std::vector<std::int64_t> edges;  // those to be decided
    std::vector<char> is_edge;        // of each of them
    std::vector<std::int32_t> keys;   // whole: the row's edges anew
    std::vector<float> weights;
    std::int64_t unresolved = 0;
  };

  double row_band(std::int64_t query, const RowStats& stats);
  void decide(OpenRow& open, RowJudge& judge, const Poll& poll) const;
  void decide_all();
  void flush();

  const Problem& p_;
  const int threads_;
  RowSink& next_;
  Control& control_;
  SliceInfo slice_;
  double key_norm_ = -1;  // largest of the slice's keys; negative: not known yet
  std::int64_t rows_done_ = 0;

  // Rows of the slice that have not been handed on.
  std::int64_t first_query_ = 0;
  std::vector<std::int64_t> offsets_{0};
  std::vector<std::int32_t> keys_;
  std::vector<float> weights_;
  std::vector<RowStats> stats_;
  std::vector<OpenRow> open_;

  std::vector<std::unique_ptr<RowJudge>> judges_;  // one a thread, made when needed
  std::int64_t pairs_decided_ = 0;
  std::int64_t rows_redone_ = 0;
  std::int64_t unresolved_ = 0;
  RunReport counts_;
};

}  // namespace ag::exact
