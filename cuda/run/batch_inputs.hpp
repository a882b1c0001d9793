// SPDX-License-Identifier: Apache-2.0
// The table of a batch's chunks, and all that it points to, on the device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "extract_job.hpp"
#include "lane.hpp"

namespace ag::cuda {

// What a batch is in the rows of the answer.
struct BatchRows {
  std::span<const ChunkSpan> spans;
  // The chunk of a row, and the row's place in it.
  struct Place {
    std::size_t chunk;
    std::int64_t head, query;  // indices of the problem
    std::int64_t batch;
  };
  Place place(const ExtractJob& job, std::int64_t row) const;
};

// Fills work.batch and work.chunks; copies what is in host memory, queued on the lane. `sinks` gets one of every head
// of the batch when there are any. Throws kNonfinite for sinks.
void bring_inputs(const ExtractJob& job, std::span<const ChunkSpan> spans, Lane& lane, const Poll& poll, PassWork& work,
                  std::vector<double>& sinks);

// Throws kNonfinite with the place of the first bad value of that row.
[[noreturn]] void fail_nonfinite(const TensorView& tensor, const char* name, std::int64_t b, std::int64_t h,
                                 std::int64_t n, Lane& lane);

}  // namespace ag::cuda
