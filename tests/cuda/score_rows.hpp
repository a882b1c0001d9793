// SPDX-License-Identifier: Apache-2.0
// Rows of raw scores with everything that a chunk may say about them, on the host and on the device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "../../cuda/materialised/kernels.hpp"
#include "../../cuda/stages/key_range.hpp"
#include "core/mask.hpp"
#include "device_problem.hpp"
#include "support.hpp"
#include "support/random.hpp"
#include "support/rounding.hpp"

namespace ag::test {

// Set the fields, then call the rest; what is on the device is made anew by each call of batch() and matrix().
class ScoreRows {
 public:
  // Normal scores with planted outliers, so that the softmax is not flat.
  ScoreRows(std::int64_t heads_, std::int64_t queries_, std::int64_t keys_, std::uint64_t seed)
      : heads(heads_), queries(queries_), keys(keys_), raw(size(heads_ * queries_ * keys_)) {
    Random random(seed);
    for (float& x : raw) x = static_cast<float>(random.normal());
    for (std::size_t n = 0; n < raw.size(); n += 97) raw[n] += static_cast<float>(6 * random.uniform());
    mask.key_count = keys;
    for (std::int64_t h = 0; h < heads; ++h) head_ids.push_back(h);
  }

  std::int64_t heads, queries, keys;
  std::int64_t query_begin = 0;
  std::vector<float> raw;  // [heads][queries][keys]
  std::vector<std::int64_t> head_ids;
  cuda::MaskView mask;
  double scale = 1.1, softcap = 0, log_threshold = std::log(0.01);
  float band = 1e-5f;
  std::int64_t top_k = 0;
  std::vector<double> sinks;
  std::vector<double> slopes;  // none, or by head id
  std::optional<std::vector<double>> given;
  std::vector<std::uint8_t> unusable, bad;

  void make_bad(const std::vector<std::int64_t>& which) {
    bad.assign(size(keys), 0);
    for (const std::int64_t j : which) {
      bad[size(j)] = 1;
      for (std::int64_t r = 0; r < heads * queries; ++r) {
        raw[size(r * keys + j)] = std::numeric_limits<float>::quiet_NaN();
      }
    }
  }

  // [head ids][queries from 0][keys]: one entry in seven masked, and all of the last query, by -inf or by the type's
  // lowest value in turn.
  void use_mask_tensor(DType dtype, std::int64_t tensor_heads) {
    mask_dtype_ = dtype;
    const std::int64_t rows = query_begin + queries;
    mask_bytes_.assign(size(tensor_heads * rows * keys) * size_of(dtype), std::byte{0});
    Random random(99);
    for (std::int64_t n = 0; n < tensor_heads * rows * keys; ++n) {
      double value = dtype == DType::kBool ? 1.0 : random.normal();
      if (n % 7 == 3 || n / keys % rows == rows - 1)
        value = dtype == DType::kBool ? 0.0 : n % 2 == 0 ? -HUGE_VAL : lowest_of(dtype);
      store_rounded(dtype, value, mask_bytes_.data() + size(n) * size_of(dtype));
    }
    mask.tensor.dtype = static_cast<std::int32_t>(dtype);
    mask.tensor.stride_head = rows * keys;
    mask.tensor.stride_row = keys;
    mask.tensor.stride_column = 1;
  }

  static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }
  std::size_t row_count() const { return size(heads * queries); }
  std::int64_t key_begin() const { return cuda::key_range(mask, query_begin).begin; }
  std::int64_t width() const {
    return std::max<std::int64_t>(0, cuda::key_range(mask, query_begin + queries - 1).end - key_begin());
  }
  double largest_bias() const {
    const double slope = slopes.empty() ? 0 : *std::max_element(slopes.begin(), slopes.end());
    return (mask_bytes_.empty() ? 0 : 5) + (mask_bytes_.empty() ? 0 : slope * static_cast<double>(keys));
  }

  // Scores of row r by the definition: natural, by key, -inf where masked.
  std::vector<double> scores_of(std::size_t r) const {
    std::vector<double> s(size(keys), -HUGE_VAL);
    if (!unusable.empty() && unusable[r] != 0) return s;
    if (given && std::isinf((*given)[r])) return s;
    const std::int64_t g = static_cast<std::int64_t>(r) / queries;
    const std::int64_t i = query_begin + static_cast<std::int64_t>(r) % queries;
    MaskRules rules;
    rules.causal = mask.causal != 0;
    rules.query_offset = mask.query_offset;
    rules.window = mask.window;
    const KeyRange range = rules.range(0, i, mask.key_count);
    for (std::int64_t j = range.begin; j < range.end; ++j) {
      if (!bad.empty() && bad[size(j)] != 0) continue;
      double x = scale * static_cast<double>(raw[r * size(keys) + size(j)]);
      if (softcap > 0) x = softcap * std::tanh(x / softcap);
      if (!mask_bytes_.empty()) {
        const std::int64_t n = head_ids[size(g)] * mask.tensor.stride_head + i * mask.tensor.stride_row + j;
        x += mask_bias(mask_dtype_, mask_bytes_.data() + size(n) * size_of(mask_dtype_));
      }
      if (!slopes.empty())
        x -= slopes[size(head_ids[size(g)])] * static_cast<double>(std::abs(i + mask.query_offset - j));
      s[size(j)] = x;
    }
    return s;
  }

  // The union of the rows' keys, in rows that end unaligned in memory of exactly their size.
  cuda::ScoreMatrix matrix() const {
    const std::int64_t begin = key_begin(), columns = width();
    const std::int64_t pitch = (columns + 3) / 4 * 4;
    std::vector<float> packed(row_count() * size(pitch), std::numeric_limits<float>::quiet_NaN());
    for (std::size_t r = 0; r < row_count(); ++r) {
      const auto source = raw.begin() + static_cast<std::ptrdiff_t>(r) * keys + begin;
      std::copy(source, source + columns, packed.begin() + static_cast<std::ptrdiff_t>(r) * pitch);
    }
    d_scores_ = DeviceArray<float>(packed);
    return {d_scores_.data(), pitch, begin, columns};
  }

  // A batch of one chunk.
  cuda::Batch batch() const {
    cuda::Chunk c;
    c.heads = heads;
    c.query_begin = query_begin;
    c.queries = queries;
    c.all_queries = query_begin + queries;
    c.keys = keys;
    c.head_dim = 1;
    d_head_ids_ = DeviceArray<std::int64_t>(head_ids);
    c.head_ids = d_head_ids_.data();
    c.mask = mask;
    d_mask_ = DeviceArray<std::byte>(mask_bytes_);
    c.mask.tensor.data = d_mask_.data();
    d_slopes_ = DeviceArray<double>(slopes);
    if (!slopes.empty()) c.mask.slopes = d_slopes_.data();
    d_bad_ = DeviceArray<std::uint8_t>(bad);
    c.mask.bad_keys = d_bad_.data();
    c.scale = scale;
    c.softcap = softcap;
    c.log_threshold = log_threshold;
    c.threshold = std::exp(log_threshold);
    d_sinks_ = DeviceArray<double>(sinks);
    c.sink = d_sinks_.data();
    if (given) d_given_ = DeviceArray<double>(*given);
    c.given_logsumexp = d_given_.data();
    std::vector<double> norms(size(heads * c.all_queries), 1.0);
    for (std::size_t r = 0; r < unusable.size(); ++r) {
      const auto g = static_cast<std::int64_t>(r) / queries, i = static_cast<std::int64_t>(r) % queries;
      if (unusable[r] != 0) norms[size(g * c.all_queries + query_begin + i)] = std::numeric_limits<double>::quiet_NaN();
    }
    d_norms_ = DeviceArray<double>(norms);
    c.q_norms = d_norms_.data();
    cuda::ChunkFacts facts;
    facts.band.sum = static_cast<double>(band);
    d_chunk_ = DeviceArray<cuda::Chunk>(std::vector<cuda::Chunk>{c});
    d_facts_ = DeviceArray<cuda::ChunkFacts>(std::vector<cuda::ChunkFacts>{facts});
    return DeviceChunk::batch_of(c, d_chunk_.data(), d_facts_.data());
  }
  bool general() const { return softcap > 0 || !mask_bytes_.empty() || !slopes.empty() || !bad.empty(); }

 private:
  DType mask_dtype_ = DType::kBool;
  std::vector<std::byte> mask_bytes_;
  mutable DeviceArray<float> d_scores_;
  mutable DeviceArray<std::int64_t> d_head_ids_;
  mutable DeviceArray<std::byte> d_mask_;
  mutable DeviceArray<std::uint8_t> d_bad_;
  mutable DeviceArray<double> d_sinks_, d_slopes_, d_given_, d_norms_;
  mutable DeviceArray<cuda::Chunk> d_chunk_;
  mutable DeviceArray<cuda::ChunkFacts> d_facts_;
};

}  // namespace ag::test
