// SPDX-License-Identifier: Apache-2.0
// A graph whose edges stay in device memory: one CSR over the rows of all slices, in the order of the answer.
#pragma once

#include <cstdint>
#include <vector>

#include "../core/row_block.hpp"

namespace ag {

class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;

  int device = 0;                         // its CUDA ordinal
  const std::int64_t* offsets = nullptr;  // [rows + 1] device; offsets[0] == 0
  const std::int32_t* keys = nullptr;     // [edges] device, ascending within a row
  const float* weights = nullptr;         // [edges] device
  std::int64_t edges = 0;
  std::vector<SliceInfo> slices;
  std::int64_t row_count = 0;
  // On the host:
  std::vector<SliceSums> sums;  // [slices]
  RunReport report;             // without what is counted in finished rows, RunReport::add_rows

  // Work that is queued on the stream from now on finds the arrays complete; null: so does the caller, who waits.
  virtual void wait(void* stream) const = 0;
  // To host arrays of those sizes.
  virtual void copy_to_host(std::int64_t* to_offsets, std::int32_t* to_keys, float* to_weights) const = 0;
  // [row_count], brought from the device.
  virtual RowColumns row_stats() const = 0;
};

}  // namespace ag
