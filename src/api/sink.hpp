// SPDX-License-Identifier: Apache-2.0
// The caller's sink: where the rows of any number of calls go, and what is known about them so far.
#pragma once

#include <attngraph/attngraph.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "../graph/budget_sink.hpp"
#include "../graph/edge_list.hpp"
#include "../graph/operations.hpp"
#include "facts.hpp"

struct attngraph_sink {
  enum class State { kOpen, kSpoiled, kFinished };

  explicit attngraph_sink(std::unique_ptr<ag::GraphSink> rows_go_to) : target(std::move(rows_go_to)) {}

  void require_open() const;  // kArgument says why it is not
  // The words of each of `batch` sequences are as many as it has keys and queries, or none.
  void require_fitting_words(std::int64_t batch, std::int64_t keys, std::int64_t queries) const;
  // The same for one sequence of a batch, of which the last query so far is known.
  void require_words_up_to(std::int64_t batch, std::int64_t keys, std::int64_t queries) const;
  void begin(const ag::api::Facts& facts, const ag::Metadata* words);  // the first one counts
  // Of the calls so far, and of slices of the caller's own as far as he said how they were made.
  ag::RunReport whole_report() const;
  void set_budget(std::uint64_t edges_of_all, std::uint64_t edges_of_a_slice);
  void finish();
  ag::EdgeList take();
  // Where metadata, rows and the report go: to the target, or through a budget to it.
  ag::GraphSink& way() const { return budget != nullptr ? *budget : *target; }

  std::unique_ptr<ag::GraphSink> target;
  std::unique_ptr<ag::BudgetSink> budget;  // null: none
  ag::Metadata own;                        // set by the caller; goes before what the calls and results bring
  State state = State::kOpen;
  bool begun = false;  // the target has its metadata
  ag::RunReport report;
  bool has_own_slices = false;                 // attngraph_sink_add_slice
  std::optional<ag::RunReport> of_own_slices;  // attngraph_sink_set_report
  mutable ag::RunReport told;                  // what the strings of the last attngraph_sink_report point into
  std::atomic<std::int64_t> edges{0};          // asked from progress callbacks too
  std::atomic<bool> busy{false};
};

namespace ag::api {

std::unique_ptr<GraphSink> make_callback_sink(attngraph_row_callback callback, void* user);

// The rows of one call on their way into a sink. Keeps max_edges: beyond it rows are only counted. A call that ends
// without complete() after it began a slice leaves half of an answer, so the sink takes no more.
class CallIntoSink : public RowSink {
 public:
  // `words`: null, or what has those of a graph that is written as it is.
  CallIntoSink(attngraph_sink& sink, Facts facts, const Metadata* words, std::uint64_t max_edges)
      : sink_(sink), facts_(std::move(facts)), words_(words), max_edges_(max_edges) {}
  ~CallIntoSink() override {
    if (!whole_) sink_.state = attngraph_sink::State::kSpoiled;
  }
  CallIntoSink(const CallIntoSink&) = delete;
  CallIntoSink& operator=(const CallIntoSink&) = delete;

  void begin_slice(const SliceInfo& slice, DType weight_dtype) override;
  void rows(const RowBlock& block) override;
  void end_slice(const SliceSums& sums) override;
  void complete(const RunReport& report);
  bool began() const { return began_; }

 private:
  bool over_limit() const { return max_edges_ > 0 && edges_ > max_edges_; }

  attngraph_sink& sink_;
  Facts facts_;
  const Metadata* words_;
  std::uint64_t max_edges_;  // 0: no limit
  std::uint64_t edges_ = 0;
  bool whole_ = true;
  bool began_ = false;
};

}  // namespace ag::api
