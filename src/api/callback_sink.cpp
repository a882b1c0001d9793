// SPDX-License-Identifier: Apache-2.0
#include "sink.hpp"

#include <vector>

#include "../core/error.hpp"
#include "../core/numbers.hpp"

namespace ag::api {
namespace {

// Blocks in the form of the contract, which promises an entropy for every row.
class CallbackSink : public GraphSink {
 public:
  CallbackSink(attngraph_row_callback callback, void* user) : callback_(callback), user_(user) {}

  void set_metadata(const Metadata&) override {}
  void begin_slice(const SliceInfo& slice, DType) override { slice_ = slice; }

  void rows(const RowBlock& block) override {
    const RowStatsView& stats = block.stats;
    if (stats.entropy == nullptr) no_entropy_.resize(idx(block.row_count), kNaN);
    attngraph_row_block out{};
    out.batch = slice_.id.batch;
    out.layer = slice_.id.layer;
    out.head = slice_.id.head;
    out.query_begin = block.query_begin;
    out.row_count = block.row_count;
    out.key_count = slice_.key_count;
    out.offsets = block.offsets;
    out.keys = block.keys;
    out.weights = block.weights;
    out.weight_dtype = static_cast<std::int32_t>(block.weight_dtype);
    out.rows = {stats.logsumexp, stats.maximum, stats.max_key, stats.kept_mass,
                stats.entropy != nullptr ? stats.entropy : no_entropy_.data()};
    const int answer = callback_(user_, &out);
    if (answer != 0) {
      fail(Status::kCancelled, "the row callback stopped with {} at batch {}, layer {}, head {}, query {}", answer,
           slice_.id.batch, slice_.id.layer, slice_.id.head, block.query_begin);
    }
  }

  void end_slice(const SliceSums&) override {}
  void finish(const RunReport&) override {}

 private:
  attngraph_row_callback callback_;
  void* user_;
  SliceInfo slice_;
  std::vector<double> no_entropy_;  // NaN alone
};

}  // namespace

std::unique_ptr<GraphSink> make_callback_sink(attngraph_row_callback callback, void* user) {
  return std::make_unique<CallbackSink>(callback, user);
}

}  // namespace ag::api
