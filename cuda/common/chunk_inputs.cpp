// SPDX-License-Identifier: Apache-2.0
#include "chunk_inputs.hpp"

#include <cmath>
#include <limits>

namespace ag::cuda {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

ChunkInputs::ChunkInputs(const ExtractJob& job, const Group& group, const GroupData& data, const ChunkPlace& place,
                         Lane& lane, const Poll& poll)
    : job_(job), group_(group), data_(data), place_(place), lane_(lane) {
  look_at_queries();
  bring_tensors(poll);
  if (job.problem.sinks) bring_sinks();
  if (job.problem.logsumexp) bring_logsumexp();
}

void ChunkInputs::look_at_queries() {
  const Problem& p = job_.problem;
  for (std::int64_t g = 0; g < heads(); ++g) {
    const double* const norms = data_.q_norms.data() + first_norm(g);
    for (std::int64_t n = 0; n < place_.queries; ++n) {
      if (!std::isnan(norms[n])) continue;
      if (p.nonfinite == Nonfinite::kError)
        fail_nonfinite(p.q, "q", group_.batch, head(g), place_.query_begin + n, lane_);
      ++unusable;
    }
  }
}

// Kernels see the chunk alone: its first head and query are number 0, and query_offset says where it stands.
void ChunkInputs::bring_tensors(const Poll& poll) {
  const Problem& p = job_.problem;
  const cudaStream_t stream = lane_.stream();
  const MaskRules& mask = p.mask;
  chunk.heads = heads();
  chunk.query_begin = 0;
  chunk.queries = place_.queries;
  chunk.keys = p.keys();
  chunk.head_dim = p.head_dim();
  chunk.mask.causal = mask.causal ? 1 : 0;
  chunk.mask.query_offset = mask.query_offset + place_.query_begin;
  chunk.mask.window = mask.window;
  chunk.mask.key_count = data_.key_count;
  chunk.mask.bad_keys = data_.d_bad_keys.data();
  chunk.scale = p.scale;
  chunk.softcap = p.softcap;
  chunk.log_threshold = job_.log_cut();
  chunk.threshold = p.selection.threshold;
  chunk.k = data_.k.tensor;

  const std::int64_t first_head = head(0), span = head(heads() - 1) - first_head + 1;
  chunk.q = data_.q.tensor;
  const std::int64_t skipped =
      (first_head - group_.heads.front()) * chunk.q.stride_head + place_.query_begin * chunk.q.stride_row;
  chunk.q.data = static_cast<const std::byte*>(chunk.q.data) + skipped * static_cast<std::int64_t>(size_of(p.q.dtype));
  for (std::int64_t g = 0; g < heads(); ++g) ids_.push_back(head(g) - first_head);
  d_ids_ = DeviceBuffer<std::int64_t>(heads(), stream);
  upload_small(d_ids_.data(), ids_.data(), heads(), stream, "heads");
  chunk.head_ids = d_ids_.data();

  if (mask.tensor) {
    mask_ = device_tensor(mask.tensor,
                          {group_.batch, first_head, span, place_.query_begin, place_.queries, data_.key_count}, lane_,
                          poll);
    chunk.mask.tensor = mask_.tensor;
  }
}

void ChunkInputs::bring_sinks() {
  const Problem& p = job_.problem;
  const cudaStream_t stream = lane_.stream();
  for (std::int64_t g = 0; g < heads(); ++g) {
    const double logit = HostElements(p.sinks, p.sinks.at(group_.batch, head(g)), 0, 1, lane_)[0];
    if (std::isnan(logit) || logit == kInfinity) {
      fail(Status::kNonfinite, "sinks holds {} at batch {}, head {}; a sink is finite or -inf", logit, group_.batch,
           head(g));
    }
    sinks.push_back(logit);
  }
  d_sinks_ = DeviceBuffer<double>(heads(), stream);
  upload_small(d_sinks_.data(), sinks.data(), heads(), stream, "sinks");
  chunk.sink = d_sinks_.data();
}

void ChunkInputs::bring_logsumexp() {
  const Problem& p = job_.problem;
  const cudaStream_t stream = lane_.stream();
  logsumexp_.resize(rows());
  for (std::int64_t g = 0; g < heads(); ++g) {
    const HostElements stored(p.logsumexp, p.logsumexp.at(group_.batch, head(g), place_.query_begin),
                              p.logsumexp.strides[2], place_.queries, lane_);
    for (std::int64_t n = 0; n < place_.queries; ++n) {
      const double value = stored[n];
      if (std::isnan(value)) {
        fail(Status::kNonfinite, "lse holds NaN at batch {}, head {}, query {}; a logsumexp is a number", group_.batch,
             head(g), place_.query_begin + n);
      }
      logsumexp_[g * place_.queries + n] = value * p.logsumexp_unit;
    }
  }
  d_logsumexp_ = DeviceBuffer<double>(rows(), stream);
  upload_small(d_logsumexp_.data(), logsumexp_.data(), rows(), stream, "lse");
  chunk.given_logsumexp = d_logsumexp_.data();
}

}  // namespace ag::cuda
