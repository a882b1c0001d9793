// SPDX-License-Identifier: Apache-2.0
// Which keys a query may see: ag::MaskRules::range for kernels and for what sizes their memory.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "work.hpp"

namespace ag::cuda {

// Keys [begin, end), empty when begin == end.
struct DeviceKeyRange {
  std::int64_t begin = 0, end = 0;
};

// What causal, window and length leave of the keys of query i (global). Both ends grow with i: the keys that queries
// [a, b] see lie in [key_range(a).begin, key_range(b).end).
__host__ __device__ inline DeviceKeyRange key_range(const MaskView& mask, std::int64_t i) {
  std::int64_t begin = 0, end = mask.key_count;
  const std::int64_t position = i + mask.query_offset;
  if (mask.window > 0) {
    if (position - mask.window + 1 > 0) begin = position - mask.window + 1;
    if (mask.causal == 0 && position + mask.window < end) end = position + mask.window;
  }
  if (mask.causal != 0 && position + 1 < end) end = position + 1;
  if (end < 0) end = 0;
  if (begin > end) begin = end;
  return {begin, end};
}

}  // namespace ag::cuda
