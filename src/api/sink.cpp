// SPDX-License-Identifier: Apache-2.0
#include "sink.hpp"

#include <algorithm>
#include <utility>

#include "../io/graph_file.hpp"
#include "c_views.hpp"
#include "caller_struct.hpp"
#include "guard.hpp"
#include "result.hpp"

using ag::Status;
using ag::api::guarded;
using ag::api::Occupied;
using ag::api::required;

void attngraph_sink::require_open() const {
  if (state == State::kFinished) ag::fail(Status::kArgument, "the sink is finished; make a new one");
  if (state == State::kSpoiled)
    ag::fail(Status::kArgument, "an earlier call into the sink failed half way; destroy it and make a new one");
}

namespace {

void require_list(const ag::Labels& labels, const char* what, std::int64_t batch) {
  if (labels.list_of(batch) >= labels.lists.size())
    ag::fail(Status::kShape,
             "there are {} for {} sequences, but the batch has a sequence {}; give one list for each, or one for all",
             what, labels.lists.size(), batch);
}

}  // namespace

void attngraph_sink::require_words_up_to(std::int64_t batch, std::int64_t keys, std::int64_t queries) const {
  if (!own.tokens.empty()) {
    require_list(own.tokens, "tokens", batch);
    const std::int64_t count = own.tokens.count(batch);
    if (count != keys)
      ag::fail(Status::kShape, "there are {} tokens, but {} keys; label every key or none", count, keys);
  }
  if (!own.query_tokens.empty()) {
    require_list(own.query_tokens, "query tokens", batch);
    const std::int64_t count = own.query_tokens.count(batch);
    if (count < queries)
      ag::fail(Status::kShape, "there are {} query tokens, but {} queries; label every query or none", count, queries);
  }
}

void attngraph_sink::require_fitting_words(std::int64_t batch, std::int64_t keys, std::int64_t queries) const {
  for (std::int64_t b = 0; b < batch; ++b) {
    require_words_up_to(b, keys, queries);
    if (!own.query_tokens.empty() && own.query_tokens.count(b) > queries)
      ag::fail(Status::kShape, "there are {} query tokens, but {} queries; label every query or none",
               own.query_tokens.count(b), queries);
  }
  for (const ag::Labels* labels : {&own.tokens, &own.query_tokens}) {
    const auto lists = static_cast<std::int64_t>(labels->lists.size());
    if (lists > 1 && lists > batch)
      ag::fail(Status::kShape, "there are words for {} sequences, but the batch has {}; give one list for each", lists,
               batch);
  }
}

void attngraph_sink::begin(const ag::api::Facts& facts, const ag::Metadata* words) {
  if (begun) return;
  ag::Metadata metadata = own;
  if (words != nullptr && metadata.tokens.empty()) metadata.tokens = words->tokens;
  if (words != nullptr && metadata.query_tokens.empty()) metadata.query_tokens = words->query_tokens;
  metadata.facts.insert(facts.begin(), facts.end());
  way().set_metadata(metadata);
  begun = true;
}

ag::RunReport attngraph_sink::whole_report() const {
  ag::RunReport whole = report;
  if (of_own_slices) {
    whole.add(*of_own_slices);
  } else if (has_own_slices) {
    whole.forget_decisions();
  }
  return whole;
}

void attngraph_sink::set_budget(std::uint64_t edges_of_all, std::uint64_t edges_of_a_slice) {
  require_open();
  if (begun) ag::fail(Status::kArgument, "rows went into the sink already; set a budget before the first row");
  if (dynamic_cast<ag::SweepSink*>(target.get()) != nullptr)
    ag::fail(Status::kArgument, "the sink counts for thresholds and keeps no edge; a budget does not apply to it");
  budget.reset();
  if (edges_of_all > 0 || edges_of_a_slice > 0)
    budget = std::make_unique<ag::BudgetSink>(edges_of_all, edges_of_a_slice, *target);
}

void attngraph_sink::finish() {
  require_open();
  state = State::kSpoiled;  // until it has gone well
  begin({}, nullptr);
  way().finish(whole_report());
  if (budget != nullptr) {
    edges = budget->edge_count();
    report.kept_mass_sum -= budget->mass_dropped();
  }
  state = State::kFinished;
}

ag::EdgeList attngraph_sink::take() {
  auto* const collected = dynamic_cast<ag::CollectSink*>(target.get());
  if (collected == nullptr)
    ag::fail(Status::kArgument, "the sink does not collect; only attngraph_sink_create_collect makes one that does");
  if (state != State::kFinished) require_open();
  begin({}, nullptr);
  way().finish(whole_report());
  report = {};
  has_own_slices = false;
  of_own_slices.reset();
  edges = 0;
  begun = false;
  return collected->take();
}

namespace ag::api {

void CallIntoSink::begin_slice(const SliceInfo& slice, DType weight_dtype) {
  if (over_limit()) return;
  whole_ = false;
  began_ = true;
  sink_.begin(facts_, words_);
  sink_.way().begin_slice(slice, weight_dtype);
}

void CallIntoSink::rows(const RowBlock& block) {
  edges_ += static_cast<std::uint64_t>(block.edge_count());
  if (over_limit()) return;
  sink_.way().rows(block);
  sink_.edges += block.edge_count();
}

void CallIntoSink::end_slice(const SliceSums& sums) {
  if (!over_limit()) sink_.way().end_slice(sums);
}

void CallIntoSink::complete(const RunReport& report) {
  if (over_limit()) {
    fail(Status::kLimit, "there are {0} edges, more than max_edges = {1}; needs max_edges = {0}, or fewer edges",
         edges_, max_edges_);
  }
  whole_ = false;
  sink_.begin(facts_, words_);
  sink_.report.add(report);
  whole_ = true;
}

namespace {

// Every function below but the creators: a sink at rest, for one call.
template <class F>
attngraph_status with_sink(attngraph_sink* sink, F&& work) noexcept {
  return guarded([&] {
    attngraph_sink& open = required(sink, "sink");
    const Occupied busy(open.busy, "sink");
    work(open);
  });
}

void hand_out(attngraph_sink** sink, std::unique_ptr<GraphSink> target) {
  required(sink, "sink");
  *sink = std::make_unique<attngraph_sink>(std::move(target)).release();
}

// The sink's words of a side, to be set.
Labels& words_of(attngraph_sink& sink, std::int32_t side) {
  if (side != ATTNGRAPH_KEYS && side != ATTNGRAPH_QUERIES) {
    fail(Status::kArgument, "side is {}; it is {} (keys) or {} (queries)", side, static_cast<int>(ATTNGRAPH_KEYS),
         static_cast<int>(ATTNGRAPH_QUERIES));
  }
  sink.require_open();
  if (sink.begun) fail(Status::kArgument, "rows went into the sink already; set tokens before the first row");
  return side == ATTNGRAPH_KEYS ? sink.own.tokens : sink.own.query_tokens;
}

std::vector<std::string> texts_of(const char* const* tokens, const size_t* lengths, std::int64_t count) {
  if (count < 0) fail(Status::kArgument, "the count of tokens is {}; it is at least 0", count);
  if (count > 0) required(tokens, "tokens");
  std::vector<std::string> texts;
  for (std::int64_t i = 0; i < count; ++i) {
    if (tokens[i] == nullptr) fail(Status::kArgument, "tokens[{}] is NULL; an empty token is \"\"", i);
    texts.push_back(lengths != nullptr ? std::string(tokens[i], lengths[i]) : std::string(tokens[i]));
  }
  return texts;
}

void set_labels(attngraph_sink& sink, std::int32_t side, std::int64_t batch, std::vector<std::string> texts) {
  constexpr std::int64_t kMaxSequences = std::int64_t{1} << 20;
  Labels& words = words_of(sink, side);
  if (batch < -1 || batch >= kMaxSequences)
    fail(Status::kArgument, "batch is {}; it is a sequence from 0 to {}, or -1 for all", batch, kMaxSequences - 1);
  if (batch == -1) {
    words = Labels(std::move(texts));
    return;
  }
  // Lists for single sequences come one after another: until the second one is there, the first is for all.
  const auto n = static_cast<std::size_t>(batch);
  if (words.lists.size() <= n) words.lists.resize(n + 1);
  words.lists[n] = std::move(texts);
}

constexpr auto kWriteOptionStarts =
    ATTNGRAPH_FIELD_STARTS(attngraph_write_options, rows, offsetof(attngraph_write_options, direction),
                           offsetof(attngraph_write_options, labels), offsetof(attngraph_write_options, csv_raw),
                           offsetof(attngraph_write_options, rows));

WriteOptions write_options(const attngraph_write_options* given) {
  const attngraph_write_options o = read_struct<attngraph_write_options>(
      given, ATTNGRAPH_WRITE_OPTIONS_INIT, "options", "ATTNGRAPH_WRITE_OPTIONS_INIT", kWriteOptionStarts);
  if (o.direction != ATTNGRAPH_QUERY_TO_KEY && o.direction != ATTNGRAPH_KEY_TO_QUERY) {
    fail(Status::kArgument, "direction is {}; it is {} (query to key) or {} (key to query)", o.direction,
         static_cast<int>(ATTNGRAPH_QUERY_TO_KEY), static_cast<int>(ATTNGRAPH_KEY_TO_QUERY));
  }
  check_switch(o.labels, "labels");
  check_switch(o.csv_raw, "csv_raw");
  check_switch(o.rows, "rows");
  return {o.direction == ATTNGRAPH_KEY_TO_QUERY, o.labels != 0, o.csv_raw != 0, o.rows != 0};
}

}  // namespace
}  // namespace ag::api

using ag::api::with_sink;

attngraph_status attngraph_sink_create_collect(attngraph_sink** sink) {
  return guarded([&] { ag::api::hand_out(sink, std::make_unique<ag::CollectSink>()); });
}

attngraph_status attngraph_sink_create_file(attngraph_sink** sink, const char* path, const char* format,
                                            const attngraph_write_options* options) {
  return guarded([&] {
    required(sink, "sink");
    required(path, "path");
    const ag::WriteOptions how = ag::api::write_options(options);
    const ag::GraphFormat kind = ag::graph_format(format != nullptr ? format : "", path);
    ag::api::hand_out(sink, ag::open_graph_writer(path, kind, how));
  });
}

attngraph_status attngraph_sink_set_budget(attngraph_sink* sink, uint64_t edges, uint64_t slice_edges) {
  return with_sink(sink, [&](attngraph_sink& open) { open.set_budget(edges, slice_edges); });
}

attngraph_status attngraph_sink_create_callback(attngraph_sink** sink, attngraph_row_callback callback, void* user) {
  return guarded([&] {
    if (callback == nullptr) ag::fail(Status::kArgument, "callback is NULL; the call needs it");
    ag::api::hand_out(sink, ag::api::make_callback_sink(callback, user));
  });
}

attngraph_status attngraph_sink_create_sweep(attngraph_sink** sink, const double* thresholds, int64_t count) {
  return guarded([&] {
    const std::span<const double> wanted = ag::api::checked_thresholds(thresholds, count);
    ag::api::hand_out(sink, std::make_unique<ag::SweepSink>(std::vector(wanted.begin(), wanted.end())));
  });
}

attngraph_status attngraph_sink_take_result(attngraph_sink* sink, attngraph_result** result) {
  return with_sink(sink, [&](attngraph_sink& open) {
    required(result, "result");
    auto taken = std::make_unique<attngraph_result>();
    taken->graph = open.take();
    *result = taken.release();
  });
}

attngraph_status attngraph_sink_sweep_rows(const attngraph_sink* sink, attngraph_sweep_row* rows) {
  return guarded([&] {
    const attngraph_sink& asked = required(sink, "sink");
    const auto* const sweep = dynamic_cast<const ag::SweepSink*>(asked.target.get());
    if (sweep == nullptr)
      ag::fail(Status::kArgument, "the sink does not sweep; only attngraph_sink_create_sweep makes one that does");
    if (asked.state != attngraph_sink::State::kFinished) asked.require_open();
    const std::vector<ag::SweepRow> swept = sweep->result();
    if (!swept.empty()) required(rows, "rows");
    std::transform(swept.begin(), swept.end(), rows, ag::api::sweep_struct);
  });
}

attngraph_status attngraph_sink_set_tokens(attngraph_sink* sink, const char* const* tokens, const size_t* lengths,
                                           int64_t count) {
  return with_sink(sink, [&](attngraph_sink& open) {
    ag::api::set_labels(open, ATTNGRAPH_KEYS, -1, ag::api::texts_of(tokens, lengths, count));
  });
}

attngraph_status attngraph_sink_load_tokens(attngraph_sink* sink, const char* path) {
  return attngraph_sink_load_labels(sink, ATTNGRAPH_KEYS, path);
}

attngraph_status attngraph_sink_parse_tokens(attngraph_sink* sink, const char* json) {
  return attngraph_sink_parse_labels(sink, ATTNGRAPH_KEYS, json);
}

attngraph_status attngraph_sink_set_labels(attngraph_sink* sink, int32_t side, int64_t batch, const char* const* tokens,
                                           const size_t* lengths, int64_t count) {
  return with_sink(sink, [&](attngraph_sink& open) {
    ag::api::set_labels(open, side, batch, ag::api::texts_of(tokens, lengths, count));
  });
}

attngraph_status attngraph_sink_load_labels(attngraph_sink* sink, int32_t side, const char* path) {
  return with_sink(sink, [&](attngraph_sink& open) {
    ag::Labels labels = ag::spelled_out(ag::read_tokens(&required(path, "path")));
    if (labels.empty()) labels.lists.emplace_back();  // a file with no words for keys is a mistake; none at all is not
    ag::api::words_of(open, side) = std::move(labels);
  });
}

attngraph_status attngraph_sink_parse_labels(attngraph_sink* sink, int32_t side, const char* json) {
  return with_sink(sink, [&](attngraph_sink& open) {
    const char* const name = side == ATTNGRAPH_QUERIES ? "query tokens" : "tokens";
    ag::api::words_of(open, side) = ag::spelled_out(ag::parse_tokens_json(&required(json, "json"), name));
  });
}

attngraph_status attngraph_sink_set_metadata(attngraph_sink* sink, const char* name, const char* value) {
  return with_sink(sink, [&](attngraph_sink& open) {
    if (required(name, "name") == '\0') ag::fail(Status::kArgument, "name is empty; a fact has a name");
    required(value, "value");
    open.require_open();
    if (open.begun) ag::fail(Status::kArgument, "rows went into the sink already; set facts before the first row");
    open.own.facts[name] = value;
  });
}

attngraph_status attngraph_sink_report(const attngraph_sink* sink, attngraph_report* report) {
  return guarded([&] {
    const attngraph_sink& asked = required(sink, "sink");
    asked.told = asked.whole_report();
    required(report, "report") = ag::api::report_struct(asked.told);
  });
}

attngraph_status attngraph_sink_set_report(attngraph_sink* sink, const attngraph_report* report) {
  return with_sink(sink, [&](attngraph_sink& open) {
    open.require_open();
    open.of_own_slices = ag::api::decisions_of(required(report, "report"));
  });
}

int64_t attngraph_sink_edge_count(const attngraph_sink* sink) { return sink != nullptr ? sink->edges.load() : 0; }

attngraph_status attngraph_sink_finish(attngraph_sink* sink) {
  return with_sink(sink, [](attngraph_sink& open) { open.finish(); });
}

void attngraph_sink_destroy(attngraph_sink* sink) { delete sink; }

namespace {

// replay() wants a sink for a whole graph; here it is one of many that go into the caller's.
class ResultIntoSink : public ag::GraphSink {
 public:
  explicit ResultIntoSink(ag::api::CallIntoSink& call) : call_(call) {}
  void set_metadata(const ag::Metadata&) override {}
  void begin_slice(const ag::SliceInfo& slice, ag::DType weight_dtype) override {
    call_.begin_slice(slice, weight_dtype);
  }
  void rows(const ag::RowBlock& block) override { call_.rows(block); }
  void end_slice(const ag::SliceSums& sums) override { call_.end_slice(sums); }
  void finish(const ag::RunReport& report) override { call_.complete(report); }

 private:
  ag::api::CallIntoSink& call_;
};

}  // namespace

attngraph_status attngraph_result_write(const attngraph_result* result, attngraph_sink* sink) {
  return with_sink(sink, [&](attngraph_sink& open) {
    const ag::EdgeList& graph = required(result, "result").graph;
    open.require_open();
    for (const ag::Slice& slice : graph.slices) {
      const ag::SliceInfo& info = slice.info;
      open.require_words_up_to(info.id.batch, info.key_count, info.query_begin + info.query_count);
    }
    ag::api::CallIntoSink call(open, graph.metadata.facts, &graph.metadata, 0);
    ResultIntoSink whole(call);
    replay(graph, whole);
  });
}
