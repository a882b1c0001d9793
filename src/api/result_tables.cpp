// SPDX-License-Identifier: Apache-2.0
// Tables about a result, and results joined.
#include <algorithm>
#include <memory>

#include "../graph/heads.hpp"
#include "../graph/join.hpp"
#include "../graph/words.hpp"
#include "caller_struct.hpp"
#include "guard.hpp"
#include "result.hpp"

namespace {

constexpr auto kJoinStarts = ATTNGRAPH_FIELD_STARTS(
    attngraph_join, fact_count, offsetof(attngraph_join, query_begins), offsetof(attngraph_join, key_begins),
    offsetof(attngraph_join, tokens), offsetof(attngraph_join, token_lengths), offsetof(attngraph_join, token_count),
    offsetof(attngraph_join, fact_names), offsetof(attngraph_join, fact_values), offsetof(attngraph_join, fact_count));

using ag::Status;
using ag::api::guarded;
using ag::api::required;

attngraph_head head_struct(const ag::HeadFigures& h) {
  attngraph_head out{};
  out.batch = h.id.batch;
  out.layer = h.id.layer;
  out.head = h.id.head;
  out.queries = h.queries;
  out.edges = h.edges;
  out.kept_mass = h.kept_mass;
  out.entropy = h.entropy;
  out.self_share = h.self_share;
  out.previous_share = h.previous_share;
  out.window_share = h.window_share;
  out.mean_distance = h.mean_distance;
  out.first_share = h.first_share;
  out.heaviest_key = h.heaviest_key;
  out.heaviest_share = h.heaviest_share;
  out.punctuation_share = h.punctuation_share;
  out.induction_share = h.induction_share;
  out.duplicate_share = h.duplicate_share;
  out.same_word_share = h.same_word_share;
  return out;
}

constexpr std::int64_t kMaxBegin = std::int64_t{1} << 60;

std::vector<ag::JoinPart> parts_of(const attngraph_result* const* results, std::int64_t count,
                                   const attngraph_join& how) {
  if (count < 0) ag::fail(Status::kArgument, "the count of results is {}; it is at least 0", count);
  if (count > 0) required(results, "results");
  std::vector<ag::JoinPart> parts;
  for (std::int64_t n = 0; n < count; ++n) {
    if (results[n] == nullptr) ag::fail(Status::kArgument, "results[{}] is NULL", n);
    ag::JoinPart part{&results[n]->graph};
    if (how.query_begins != nullptr) part.query_begin = how.query_begins[n];
    if (how.key_begins != nullptr) part.key_begin = how.key_begins[n];
    for (const std::int64_t begin : {part.query_begin, part.key_begin}) {
      if (begin < 0 || begin > kMaxBegin)
        ag::fail(Status::kArgument, "graph {} stands at {}; a place is 0 to 2^60", n, begin);
    }
    for (const ag::Slice& slice : part.graph->slices) {
      const std::int64_t keys = part.key_begin + slice.info.key_count;
      if (keys > std::numeric_limits<std::int32_t>::max())
        ag::fail(Status::kShape, "graph {} would have {} keys; the limit is 2^31 - 1", n, keys);
      std::int64_t end = 0;
      if (__builtin_add_overflow(part.query_begin, slice.info.query_begin + slice.info.query_count, &end))
        ag::fail(Status::kShape, "graph {} would have a query beyond 2^63", n);
    }
    parts.push_back(part);
  }
  return parts;
}

void label(ag::EdgeList& graph, const attngraph_join& how) {
  if (how.token_count < 0 || how.fact_count < 0)
    ag::fail(Status::kArgument, "token_count and fact_count are {} and {}; they are at least 0", how.token_count,
             how.fact_count);
  if (how.tokens != nullptr) {
    std::vector<std::string> texts;
    for (std::int64_t i = 0; i < how.token_count; ++i) {
      if (how.tokens[i] == nullptr) ag::fail(Status::kArgument, "tokens[{}] is NULL; an empty token is \"\"", i);
      texts.push_back(how.token_lengths != nullptr ? std::string(how.tokens[i], how.token_lengths[i])
                                                   : std::string(how.tokens[i]));
    }
    graph.metadata.tokens = ag::Labels(std::move(texts));
    for (const ag::Slice& slice : graph.slices) {
      if (how.token_count != slice.info.key_count)
        ag::fail(Status::kShape, "there are {} tokens, but {} keys; label every key or none", how.token_count,
                 slice.info.key_count);
    }
  }
  if (how.fact_count > 0) {
    required(how.fact_names, "fact_names");
    required(how.fact_values, "fact_values");
  }
  for (std::int64_t i = 0; i < how.fact_count; ++i)
    graph.metadata.facts[&required(how.fact_names[i], "a name of fact_names")] =
        &required(how.fact_values[i], "a value of fact_values");
}

}  // namespace

attngraph_status attngraph_result_heads(const attngraph_result* result, int64_t window, attngraph_head* heads) {
  return guarded([&] {
    const ag::EdgeList& graph = required(result, "result").graph;
    if (window < 1) ag::fail(Status::kArgument, "window is {}; it is at least 1", window);
    if (!graph.slices.empty()) required(heads, "heads");
    const std::vector<ag::HeadFigures> table = ag::heads(graph, window);
    std::transform(table.begin(), table.end(), heads, head_struct);
  });
}

attngraph_status attngraph_result_words(const attngraph_result* result, int64_t* words) {
  return guarded([&] {
    const std::vector<std::string>& tokens = required(result, "result").graph.metadata.tokens.common();
    if (!tokens.empty()) required(words, "words");
    const std::vector<std::int64_t> found = ag::words_of(tokens);
    std::copy(found.begin(), found.end(), words);
  });
}

attngraph_status attngraph_results_join(const attngraph_result* const* results, int64_t count,
                                        const attngraph_join* how, attngraph_result** out) {
  return guarded([&] {
    required(out, "out");
    const attngraph_join j =
        ag::api::read_struct<attngraph_join>(how, ATTNGRAPH_JOIN_INIT, "how", "ATTNGRAPH_JOIN_INIT", kJoinStarts);
    auto whole = std::make_unique<attngraph_result>();
    whole->graph = ag::join(parts_of(results, count, j));
    label(whole->graph, j);
    *out = whole.release();
  });
}
