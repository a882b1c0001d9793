// SPDX-License-Identifier: Apache-2.0
// How rows reach a sink, and how a caller watches and stops a call.
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "support/inputs.hpp"
#include "support/run.hpp"

namespace ag::test {
namespace {

class Streaming : public EveryBackend {};
ATTNGRAPH_EVERY_BACKEND(Streaming);

Case two_batches() {
  return {.name = "two_batches",
          .batch = 2,
          .query_heads = 3,
          .key_heads = 3,
          .queries = 700,
          .keys = 300,
          .head_dim = 8,
          .causal = true,
          .query_offset = 5};
}

// Accepts rows only in the promised order, complete.
class OrderedSink : public RowSink {
 public:
  explicit OrderedSink(const Problem& problem) : problem_(problem) {}

  void begin_slice(const SliceInfo& slice, DType dtype) override {
    ASSERT_FALSE(open_);
    open_ = true;
    const auto heads = static_cast<std::int64_t>(problem_.heads.size());
    EXPECT_EQ(slice.id.batch, slices / heads);
    EXPECT_EQ(slice.id.head, problem_.heads[static_cast<std::size_t>(slices % heads)]);
    EXPECT_EQ(slice.id.layer, problem_.layer);
    EXPECT_EQ(slice.query_begin, problem_.query_begin);
    EXPECT_EQ(slice.query_count, problem_.query_end - problem_.query_begin);
    EXPECT_EQ(slice.key_count, problem_.keys());
    EXPECT_EQ(dtype, DType::kF32);
    next_ = slice.query_begin;
  }
  void rows(const RowBlock& block) override {
    ASSERT_TRUE(open_);
    ASSERT_EQ(block.query_begin, next_);
    ASSERT_GT(block.row_count, 0);
    ASSERT_EQ(block.offsets[0], 0);
    next_ += block.row_count;
    ++blocks;
  }
  void end_slice(const SliceSums&) override {
    EXPECT_EQ(next_, problem_.query_end);
    open_ = false;
    ++slices;
  }
  std::int64_t slices = 0, blocks = 0;

 private:
  const Problem& problem_;
  bool open_ = false;
  std::int64_t next_ = 0;
};

TEST_P(Streaming, RowsArriveInOrderAndComplete) {
  const Inputs inputs(two_batches());
  for (const int threads : {1, 3}) {
    OrderedSink sink(inputs.problem());
    Control control;
    backend().extract(inputs.problem(), plan_for(backend(), inputs.problem(), threads), sink, control);
    EXPECT_EQ(sink.slices, 6);
    EXPECT_GT(sink.blocks, 6) << "an answer may be larger than memory: rows come in blocks";
  }
}

TEST_P(Streaming, ACallerCanCancel) {
  const Inputs inputs(two_batches());
  for (const int threads : {1, 3}) {
    int calls = 0;
    Control control([&] { return ++calls > 0; }, {});
    OrderedSink sink(inputs.problem());
    const Plan plan = plan_for(backend(), inputs.problem(), threads);
    const Failure failure = failure_of([&] { backend().extract(inputs.problem(), plan, sink, control); });
    EXPECT_EQ(failure.status, Status::kCancelled);
    EXPECT_LT(sink.slices, 6);
  }
}

TEST_P(Streaming, ProgressRunsFromZeroToOne) {
  const Inputs inputs(two_batches());
  std::vector<double> seen;
  Control control({}, [&](double fraction) { seen.push_back(fraction); });
  OrderedSink sink(inputs.problem());
  backend().extract(inputs.problem(), plan_for(backend(), inputs.problem(), 2), sink, control);
  ASSERT_FALSE(seen.empty());
  EXPECT_GE(seen.front(), 0.0);
  EXPECT_LE(seen.back(), 1.0);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

// Fails while the backend still works on later rows.
class FailingSink : public RowSink {
 public:
  void begin_slice(const SliceInfo&, DType) override {}
  void rows(const RowBlock&) override {
    if (++blocks_ == 2) throw std::runtime_error("the disk is full");
  }
  void end_slice(const SliceSums&) override {}

 private:
  int blocks_ = 0;
};

TEST_P(Streaming, AnErrorOfTheSinkReachesTheCaller) {
  const Inputs inputs(two_batches());
  for (const int threads : {1, 3}) {
    FailingSink sink;
    Control control;
    const Plan plan = plan_for(backend(), inputs.problem(), threads);
    EXPECT_THROW(backend().extract(inputs.problem(), plan, sink, control), std::runtime_error);
    // The backend is none the worse for it.
    EXPECT_GT(run_extract(backend(), inputs.problem(), threads).edge_count(), 0);
  }
}

TEST(Backends, AreFoundByName) {
  ASSERT_FALSE(backends().empty());
  EXPECT_EQ(backends().front()->name(), "reference");
  for (const Backend* backend : backends()) EXPECT_EQ(&find_backend(backend->name()), backend);
  const Failure failure = failure_of([] { find_backend("abacus"); });
  EXPECT_EQ(failure.status, Status::kArgument);
  for (const Backend* backend : backends()) {
    EXPECT_NE(failure.message.find(backend->name()), std::string::npos) << failure.message;
  }
}

TEST(Backends, TheDefaultOneRunsAndIsOfItsKind) {
  EXPECT_TRUE(default_backend("auto").unavailable().empty());
  EXPECT_EQ(default_backend("cpu").device().kind, "cpu");
  EXPECT_EQ(failure_of([] { default_backend("abacus"); }).status, Status::kNoDevice);
}

}  // namespace
}  // namespace ag::test
