// SPDX-License-Identifier: Apache-2.0
// A problem on the device, and the chunks that it falls into.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "../../cuda/stages/band.hpp"
#include "../../cuda/stages/work.hpp"
#include "core/problem.hpp"
#include "support.hpp"

namespace ag::test {

// A host view's memory, from its lowest to its highest element, gaps included, at an address aligned for the type.
class DeviceTensor {
 public:
  DeviceTensor() = default;
  explicit DeviceTensor(const TensorView& view) : view_(view) {
    if (!view) return;
    std::int64_t low = 0, high = 0;
    for (int d = 0; d < view.ndim; ++d) {
      const auto n = static_cast<std::size_t>(d);
      if (view.shape[n] == 0) return;
      (view.strides[n] < 0 ? low : high) += (view.shape[n] - 1) * view.strides[n];
    }
    const auto size = static_cast<std::int64_t>(size_of(view.dtype));
    std::vector<std::byte> bytes(static_cast<std::size_t>((high - low + 1) * size));
    std::memcpy(bytes.data(), static_cast<const std::byte*>(view.data) + low * size, bytes.size());
    memory_ = DeviceArray<std::byte>(bytes);
    first_ = -low * size;
  }

  // The two inner dimensions and the head of one batch of [B, H, N, M]; null when the view is none or empty.
  cuda::AnyTensor of_batch(std::int64_t b, std::int64_t head = 0, bool keep_heads = true) const {
    if (memory_.data() == nullptr) return {};
    const auto size = static_cast<std::int64_t>(size_of(view_.dtype));
    const std::int64_t offset = b * view_.strides[0] + head * view_.strides[1];
    return {memory_.data() + first_ + offset * size, static_cast<std::int32_t>(view_.dtype),
            keep_heads ? view_.strides[1] : 0, view_.strides[2], view_.strides[3]};
  }

 private:
  TensorView view_;
  DeviceArray<std::byte> memory_;
  std::int64_t first_ = 0;
};

// Everything that a chunk points to. Stays alive as long as the chunk is used.
struct DeviceChunk {
  cuda::Chunk chunk;
  cuda::ChunkFacts facts;  // the caller's
  std::vector<std::int64_t> heads;
  std::int64_t batch = 0;

  DeviceArray<std::int64_t> head_ids;
  DeviceArray<double> sinks, slopes, given, q_norms, k_norms;
  DeviceArray<std::uint8_t> bad_keys;
  mutable DeviceArray<cuda::Chunk> d_chunk;
  mutable DeviceArray<cuda::ChunkFacts> d_facts;

  // A batch of this chunk alone, as it is now.
  cuda::Batch table() const {
    d_chunk = DeviceArray<cuda::Chunk>(std::vector<cuda::Chunk>{chunk});
    d_facts = DeviceArray<cuda::ChunkFacts>(std::vector<cuda::ChunkFacts>{facts});
    return batch_of(chunk, d_chunk.data(), d_facts.data());
  }

  static cuda::Batch batch_of(const cuda::Chunk& chunk, cuda::Chunk* d_chunk, cuda::ChunkFacts* d_facts) {
    cuda::Batch batch;
    batch.chunks = d_chunk;
    batch.facts = d_facts;
    batch.count = 1;
    batch.rows = batch.most_rows = chunk.rows();
    batch.heads = batch.most_heads = chunk.heads;
    batch.most_queries = chunk.queries;
    batch.most_all_rows = chunk.heads * chunk.all_queries;
    batch.most_keys = chunk.mask.key_count;
    batch.keys = chunk.keys;
    batch.head_dim = chunk.head_dim;
    batch.dtype = chunk.q.dtype;
    return batch;
  }
};

inline double row_length(const TensorView& t, std::int64_t b, std::int64_t h, std::int64_t n) {
  double sum = 0;
  for (std::int64_t d = 0; d < t.shape[3]; ++d) sum = std::hypot(sum, load_double(t.dtype, t.at(b, h, n, d)));
  return sum;
}

inline double finite_or_nan(double x) { return std::isfinite(x) ? x : std::numeric_limits<double>::quiet_NaN(); }

class DeviceProblem {
 public:
  explicit DeviceProblem(const Problem& problem)
      : p_(problem), q_(problem.q), k_(problem.k), mask_(problem.mask.tensor) {}

  // Queries [begin, end) of `heads`, all of which read one key head.
  DeviceChunk chunk(std::int64_t b, const std::vector<std::int64_t>& heads, std::int64_t begin,
                    std::int64_t end) const {
    DeviceChunk made;
    made.heads = heads;
    made.batch = b;
    cuda::Chunk& c = made.chunk;
    c.heads = static_cast<std::int64_t>(heads.size());
    c.query_begin = begin;
    c.queries = end - begin;
    c.keys = p_.keys();
    c.head_dim = p_.head_dim();
    made.head_ids = DeviceArray<std::int64_t>(heads);
    c.head_ids = made.head_ids.data();
    c.q = q_.of_batch(b);
    const std::int64_t key_head = p_.key_head_of(heads.front());
    c.k = k_.of_batch(b, key_head, false);
    if (c.k.data == nullptr) c.k.dtype = c.q.dtype;
    c.mask.causal = p_.mask.causal;
    c.mask.query_offset = p_.mask.query_offset;
    c.mask.window = p_.mask.window;
    c.mask.key_count = p_.mask.key_count(b, p_.keys());
    c.mask.tensor = mask_.of_batch(b);
    c.scale = p_.scale;
    c.softcap = p_.softcap;
    c.threshold = p_.selection.threshold;
    c.log_threshold = std::log(p_.selection.threshold);
    c.all_queries = p_.queries();
    std::vector<double> sinks, given, q_norms, k_norms;
    std::vector<std::uint8_t> bad(static_cast<std::size_t>(p_.keys()));
    for (const std::int64_t h : heads) {
      if (p_.sinks) sinks.push_back(load_double(p_.sinks.dtype, p_.sinks.at(b, h)));
      for (std::int64_t i = 0; i < p_.queries(); ++i) q_norms.push_back(finite_or_nan(row_length(p_.q, b, h, i)));
      for (std::int64_t i = begin; i < end; ++i) {
        if (!p_.logsumexp) continue;
        given.push_back(load_double(p_.logsumexp.dtype, p_.logsumexp.at(b, h, i)) * p_.logsumexp_unit);
      }
    }
    for (std::int64_t j = 0; j < c.mask.key_count; ++j) {
      k_norms.push_back(finite_or_nan(row_length(p_.k, b, key_head, j)));
      bad[static_cast<std::size_t>(j)] = std::isnan(k_norms.back()) ? 1 : 0;
    }
    made.q_norms = DeviceArray<double>(q_norms);
    made.k_norms = DeviceArray<double>(k_norms);
    c.q_norms = made.q_norms.data();
    c.k_norms = made.k_norms.data();
    if (!p_.alibi.empty()) {
      const auto of_batch = p_.alibi.begin() + b * p_.query_heads();
      made.slopes = DeviceArray<double>(std::vector<double>(of_batch, of_batch + p_.query_heads()));
      c.mask.slopes = made.slopes.data();
    }
    made.sinks = DeviceArray<double>(sinks);
    made.given = DeviceArray<double>(given);
    made.bad_keys = DeviceArray<std::uint8_t>(bad);
    c.sink = made.sinks.data();
    c.given_logsumexp = made.given.data();
    c.mask.bad_keys = made.bad_keys.data();
    return made;
  }

  // f(chunk) for every batch and key head, queries in pieces of at most `queries`.
  template <class F>
  void for_each_chunk(std::int64_t queries, F&& f) const {
    for (std::int64_t b = 0; b < p_.batch(); ++b) {
      for (std::size_t n = 0; n < p_.heads.size();) {
        std::vector<std::int64_t> heads;
        const std::int64_t key_head = p_.key_head_of(p_.heads[n]);
        while (n < p_.heads.size() && p_.key_head_of(p_.heads[n]) == key_head) heads.push_back(p_.heads[n++]);
        for (std::int64_t i = p_.query_begin; i < p_.query_end; i += queries) {
          f(chunk(b, heads, i, std::min(i + queries, p_.query_end)));
        }
      }
    }
  }

  const Problem& problem() const { return p_; }

 private:
  const Problem& p_;
  DeviceTensor q_, k_, mask_;
};

inline cuda::BandModel band_model(const Problem& p, std::int64_t b, std::int64_t key_head, DType dtype) {
  cuda::BandInput in;
  in.head_dim = p.head_dim();
  in.keys = p.keys();
  in.dtype = dtype;
  in.scale = p.scale;
  for (std::int64_t j = 0; j < p.mask.key_count(b, p.keys()); ++j) {
    const double length = row_length(p.k, b, key_head, j);
    if (std::isfinite(length)) in.key_norm = std::max(in.key_norm, length);
  }
  in.softcap = p.softcap;
  in.additive_mask = p.mask.tensor && is_float(p.mask.tensor.dtype);
  in.alibi_bound = most_alibi_bias(p);
  in.log_cut = p.selection.threshold > 0 ? std::log(p.selection.threshold) : 0;
  return cuda::make_band_model(in);
}

// States and candidates of one chunk, on the device.
struct PassArrays {
  PassArrays(std::int64_t rows, std::int64_t capacity)
      : reference(size(rows)),
        sum(size(rows)),
        weighted(size(rows)),
        max_key(size(rows)),
        keys(size(rows * capacity)),
        count(size(rows)),
        scores(size(rows * capacity)),
        states{1, reference.data(), sum.data(), max_key.data(), weighted.data()},
        candidates{keys.data(), scores.data(), count.data(), nullptr, capacity} {}

  static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

  DeviceArray<double> reference, sum, weighted;
  DeviceArray<std::int32_t> max_key, keys, count;
  DeviceArray<float> scores;
  cuda::RowStates states;
  cuda::Candidates candidates;
};

// Finished rows of one chunk, on the device.
struct ResultArrays {
  explicit ResultArrays(std::int64_t rows)
      : logsumexp(PassArrays::size(rows)),
        maximum(PassArrays::size(rows)),
        kept_mass(PassArrays::size(rows)),
        entropy(PassArrays::size(rows)),
        max_key(PassArrays::size(rows)),
        offsets(PassArrays::size(rows + 1)),
        counts(PassArrays::size(rows)),
        eps(PassArrays::size(rows)),
        results{logsumexp.data(), maximum.data(), kept_mass.data(), entropy.data(),
                max_key.data(),   offsets.data(), eps.data()} {}

  DeviceArray<double> logsumexp, maximum, kept_mass, entropy;
  DeviceArray<std::int32_t> max_key;
  DeviceArray<std::int64_t> offsets, counts;
  DeviceArray<float> eps;
  cuda::RowResults results;
};

}  // namespace ag::test
