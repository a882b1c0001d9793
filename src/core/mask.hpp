// SPDX-License-Identifier: Apache-2.0
// Which keys a query may see.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tensor_view.hpp"

namespace ag {

// Keys [begin, end); empty when begin >= end.
struct KeyRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return std::max<std::int64_t>(0, end - begin); }
};

struct MaskRules {
  bool causal = false;
  std::int64_t query_offset = 0;          // query i stands at key position i + query_offset
  std::int64_t window = 0;                // 0: none
  std::vector<std::int64_t> key_lengths;  // [B] or empty; each in [0, Nk]
  TensorView tensor;  // none, or [B|1, Hq|1, Nq|1, Nk|1] already expanded by stride 0: bool or float

  std::int64_t key_count(std::int64_t batch, std::int64_t nk) const {
    return key_lengths.empty() ? nk : key_lengths[static_cast<std::size_t>(batch)];
  }

  // What causal, window and length leave of the keys of query i; the tensor may mask more within it.
  // Both ends grow with i: blocks of rows see the union of their first and last row.
  KeyRange range(std::int64_t batch, std::int64_t i, std::int64_t nk) const {
    KeyRange r{0, key_count(batch, nk)};
    const std::int64_t position = i + query_offset;
    if (window > 0) {
      r.begin = std::max<std::int64_t>(0, position - window + 1);
      if (!causal) r.end = std::min(r.end, position + window);
    }
    if (causal) r.end = std::min(r.end, position + 1);
    r.end = std::max<std::int64_t>(r.end, 0);
    r.begin = std::min(r.begin, r.end);
    return r;
  }
};

// One entry of a mask tensor: what it adds to the score, -inf when it masks the key.
inline double mask_bias(DType dtype, const void* element) {
  const double value = load_double(dtype, element);
  if (dtype == DType::kBool) return value != 0.0 ? 0.0 : -HUGE_VAL;
  return value <= lowest_of(dtype) ? -HUGE_VAL : value;
}

}  // namespace ag
