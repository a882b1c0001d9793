// SPDX-License-Identifier: Apache-2.0
#include "batch_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../stages/key_range.hpp"
#include "lane_memory.hpp"

#include "../../src/core/numbers.hpp"

namespace ag::cuda {
namespace {

// The table and its small arrays as one piece of memory, so that they are one copy.
class Tables {
 public:
  template <class T>
  std::int64_t add(std::int64_t count) {
    const std::int64_t at = end_;
    end_ += (count * static_cast<std::int64_t>(sizeof(T)) + 15) / 16 * 16;
    return at;
  }
  std::int64_t bytes() const { return end_; }

 private:
  std::int64_t end_ = 0;
};

void read_sinks(const Problem& p, const HeadGroup& group, const ChunkSpan& span, const ExtractJob& job, Lane& lane,
                std::vector<double>& sinks) {
  for (std::int64_t g = 0; g < static_cast<std::int64_t>(span.heads); ++g) {
    const std::int64_t head = job.head_of(span, g);
    const double logit = HostElements(p.sinks, p.sinks.at(group.batch, head), 0, 1, lane)[0];
    if (std::isnan(logit) || logit == kInfinity) {
      fail(Status::kNonfinite, "sinks holds {} at batch {}, head {}; a sink is finite or -inf", logit, group.batch,
           head);
    }
    sinks.push_back(logit);
  }
}

// What all chunks have alike, and the sizes of the arrays [rows].
Chunk chunk_of(const ExtractJob& job, const ChunkSpan& span) {
  const Problem& p = job.problem;
  Chunk chunk;
  chunk.heads = static_cast<std::int64_t>(span.heads);
  chunk.query_begin = span.query_begin;
  chunk.queries = span.queries;
  chunk.all_queries = p.queries();
  chunk.keys = p.keys();
  chunk.head_dim = p.head_dim();
  chunk.mask.causal = p.mask.causal ? 1 : 0;
  chunk.mask.query_offset = p.mask.query_offset;
  chunk.mask.window = p.mask.window;
  chunk.mask.key_count = p.mask.key_count(job.group_of(span).batch, p.keys());
  chunk.scale = p.scale;
  chunk.softcap = p.softcap;
  chunk.log_threshold = job.log_cut();
  chunk.threshold = p.selection.threshold;
  return chunk;
}

void sum_up(PassWork& work) {
  Batch& batch = work.batch;
  batch.count = static_cast<std::int32_t>(work.chunks.size());
  work.key_begin = work.chunks.front().keys;
  for (Chunk& chunk : work.chunks) {
    chunk.first_row = batch.rows;
    chunk.first_head = batch.heads;
    batch.rows += chunk.rows();
    batch.heads += chunk.heads;
    batch.most_rows = std::max(batch.most_rows, chunk.rows());
    batch.most_heads = std::max(batch.most_heads, chunk.heads);
    batch.most_queries = std::max(batch.most_queries, chunk.queries);
    batch.most_all_rows = std::max(batch.most_all_rows, chunk.heads * chunk.all_queries);
    batch.most_keys = std::max(batch.most_keys, chunk.mask.key_count);
    work.key_begin = std::min(work.key_begin, key_range(chunk.mask, chunk.query_begin).begin);
    work.key_end = std::max(work.key_end, key_range(chunk.mask, chunk.query_begin + chunk.queries - 1).end);
  }
}

}  // namespace

BatchRows::Place BatchRows::place(const ExtractJob& job, std::int64_t row) const {
  for (std::size_t n = 0; n < spans.size(); ++n) {
    if (row < spans[n].rows()) {
      return {n, job.head_of(spans[n], row / spans[n].queries), spans[n].query_begin + row % spans[n].queries,
              job.group_of(spans[n]).batch};
    }
    row -= spans[n].rows();
  }
  fail(Status::kInternal, "a fault is reported beyond the rows of its batch");
}

void bring_inputs(const ExtractJob& job, std::span<const ChunkSpan> spans, Lane& lane, const Poll& poll, PassWork& work,
                  std::vector<double>& sinks) {
  const Problem& p = job.problem;
  const cudaStream_t stream = lane.stream();
  LaneMemory& memory = lane.memory();
  for (const ChunkSpan& span : spans) work.chunks.push_back(chunk_of(job, span));
  sum_up(work);
  Batch& batch = work.batch;
  batch.keys = p.keys();
  batch.head_dim = p.head_dim();
  batch.dtype = static_cast<std::int32_t>(p.q.dtype);

  // Q and K of all queries: what is decided of a head must not depend on how its rows are split into calls.
  Uploads inputs, masks;
  TensorView logsumexp = p.logsumexp;  // a column is all that a row has
  logsumexp.shape[3] = 1;
  logsumexp.strides[3] = 1;
  std::int64_t q_rows = 0, k_rows = 0;
  for (std::size_t n = 0; n < spans.size(); ++n) {
    Chunk& chunk = work.chunks[n];
    const ChunkSpan& span = spans[n];
    const HeadGroup& group = job.group_of(span);
    const std::int64_t first = job.head_of(span, 0), heads = job.head_of(span, chunk.heads - 1) - first + 1;
    inputs.add(p.k, {group.batch, group.key_head, 1, 0, chunk.mask.key_count, p.head_dim()}, &chunk.k);
    inputs.add(p.q, {group.batch, first, heads, 0, p.queries(), p.head_dim()}, &chunk.q);
    if (p.mask.tensor) {
      masks.add(p.mask.tensor, {group.batch, first, heads, chunk.query_begin, chunk.queries, chunk.mask.key_count},
                &chunk.mask.tensor);
    }
    if (p.logsumexp) {
      masks.add(logsumexp, {group.batch, first, heads, chunk.query_begin, chunk.queries, 1}, &chunk.logsumexp);
    }
    if (p.sinks) read_sinks(p, group, span, job, lane, sinks);
    q_rows += chunk.heads * chunk.all_queries;
    k_rows += chunk.mask.key_count;
  }
  inputs.send(job.call, memory.inputs, memory.inputs_sent, lane, poll);
  Uploads::Sent never;
  masks.send(0, memory.masks, never, lane, poll);

  Tables layout;
  const std::int64_t chunks_at = layout.add<Chunk>(batch.count), ids_at = layout.add<std::int64_t>(batch.heads);
  const std::int64_t sinks_at = layout.add<double>(static_cast<std::int64_t>(sinks.size()));
  const std::int64_t slopes_at = layout.add<double>(static_cast<std::int64_t>(p.alibi.size()));
  std::byte* const device = memory.tables.resize(layout.bytes(), stream);
  std::byte* const host = lane.tables().resize(layout.bytes());
  auto* const ids = reinterpret_cast<std::int64_t*>(host + ids_at);
  const auto* const d_ids = reinterpret_cast<const std::int64_t*>(device + ids_at);
  const auto* const d_sinks = reinterpret_cast<const double*>(device + sinks_at);
  if (!sinks.empty()) std::memcpy(host + sinks_at, sinks.data(), sinks.size() * sizeof(double));
  const auto* const d_slopes = reinterpret_cast<const double*>(device + slopes_at);
  if (!p.alibi.empty()) std::memcpy(host + slopes_at, p.alibi.data(), p.alibi.size() * sizeof(double));
  double* q_norms = memory.q_norms.resize(q_rows, stream);
  double* k_norms = memory.k_norms.resize(k_rows, stream);
  double* const given = p.logsumexp ? memory.given.resize(batch.rows, stream) : nullptr;
  std::uint8_t* const bad_keys = memory.bad_keys.resize(batch.count * p.keys(), stream);
  for (std::size_t n = 0; n < spans.size(); ++n) {
    Chunk& chunk = work.chunks[n];
    const std::int64_t first = job.head_of(spans[n], 0);
    for (std::int64_t g = 0; g < chunk.heads; ++g) ids[chunk.first_head + g] = job.head_of(spans[n], g) - first;
    chunk.head_ids = d_ids + chunk.first_head;
    chunk.k.stride_head = 0;
    // Rows of these tensors are numbered as the problem's queries, but what was sent begins with the range's first.
    for (AnyTensor* tensor : {&chunk.mask.tensor, &chunk.logsumexp}) {
      if (tensor->data == nullptr) continue;
      const auto bytes = static_cast<std::int64_t>(size_of(static_cast<DType>(tensor->dtype)));
      tensor->data = static_cast<const std::byte*>(tensor->data) - chunk.query_begin * tensor->stride_row * bytes;
    }
    chunk.mask.bad_keys = bad_keys + static_cast<std::int64_t>(n) * p.keys();
    if (!sinks.empty()) chunk.sink = d_sinks + chunk.first_head;
    if (!p.alibi.empty()) chunk.mask.slopes = d_slopes + job.group_of(spans[n]).batch * p.query_heads() + first;
    if (given != nullptr) chunk.given_logsumexp = given + chunk.first_row;
    chunk.q_norms = q_norms;
    chunk.k_norms = k_norms;
    q_norms += chunk.heads * chunk.all_queries;
    k_norms += chunk.mask.key_count;
  }
  std::memcpy(host + chunks_at, work.chunks.data(), work.chunks.size() * sizeof(Chunk));
  upload_small(device, host, layout.bytes(), stream, "the table of chunks");
  batch.chunks = reinterpret_cast<Chunk*>(device + chunks_at);
  std::byte* const verdict = memory.verdict.resize(BatchVerdict::bytes(batch.count), stream);
  batch.facts = reinterpret_cast<ChunkFacts*>(verdict + BatchVerdict::facts_at());
}

void fail_nonfinite(const TensorView& tensor, const char* name, std::int64_t b, std::int64_t h, std::int64_t n,
                    Lane& lane) {
  const std::int64_t dim = tensor.shape[3];
  const HostElements row(tensor, tensor.at(b, h, n), tensor.strides[3], dim, lane);
  std::int64_t d = 0;
  while (d + 1 < dim && std::isfinite(row[d])) ++d;
  fail(Status::kNonfinite,
       "{} holds {} at batch {}, head {}, position {}, dimension {}; clean the input or ask to skip such positions",
       name, row[d], b, h, n, d);
}

}  // namespace ag::cuda
