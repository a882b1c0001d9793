// SPDX-License-Identifier: Apache-2.0
// Between a backend and a sink: pairs that the backend's arithmetic cannot tell from the threshold are decided again,
// exactly, so that the edges are those of the definition whatever made them.
//
// The backend is asked with relaxed(problem), whose threshold is lower by more than any band, so every pair that can be
// an edge arrives. Those that lie outside the row's band of the real threshold are what they seem. With top-k and mass
// it is asked for more keys than are wanted, and the row's band tells which of them are chosen for certain
// (prefix.hpp).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../core/control.hpp"
#include "../core/ordered_tasks.hpp"
#include "../core/problem.hpp"
#include "../core/row_block.hpp"
#include "judge.hpp"
#include "prefix.hpp"

namespace ag::exact {

// kUnsupported unless the tensors are where the host can read them.
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
    double band = 0;
    bool by_prefix = false;           // top-k or mass: all of its edges are to be decided
    bool whole = false;               // every key of the row is looked at
    std::vector<std::int64_t> edges;  // by a threshold: those to be decided
    std::vector<char> is_edge;        // of each of them
    std::int64_t pairs = 0;           // how many had to be looked at
    std::vector<std::int32_t> keys;   // whole: the row's edges anew
    std::vector<float> weights;
    std::int64_t unresolved = 0;
  };

  struct Worker {
    explicit Worker(const Problem& problem)
        : judge(problem), prefixes(problem.selection, static_cast<bool>(problem.logsumexp)) {}
    RowJudge judge;
    PrefixFinder prefixes;
  };

  double row_band(std::int64_t query, const RowStats& stats);
  void take(const RowBlock& block, std::int64_t begin, std::int64_t end);
  void take_by_threshold(const RowBlock& block, std::int64_t begin, std::int64_t end, OpenRow& open);
  bool decide_by_prefix(OpenRow& open, Worker& worker, const Poll& poll) const;
  void decide(OpenRow& open, Worker& worker, const Poll& poll) const;
  void decide_all();
  void flush();

  const Problem& p_;
  const bool selects_;  // by top-k or mass
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
  RowColumns stats_;
  std::vector<OpenRow> open_;

  std::vector<std::unique_ptr<Worker>> workers_;  // one a thread, made when needed
  std::int64_t pairs_decided_ = 0;
  std::int64_t rows_redone_ = 0;
  std::int64_t unresolved_ = 0;
  RunReport counts_;
};

}  // namespace ag::exact
