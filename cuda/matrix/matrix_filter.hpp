// SPDX-License-Identifier: Apache-2.0
// A chunk of a ready matrix to edges: the whole way on the device, for both backends.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../device/device_buffer.hpp"
#include "kernels.hpp"

namespace ag::cuda {

// Edges of a chunk: those of row r at offsets[r] .. offsets[r + 1] (in RowResults), keys ascending.
struct MatrixEdges {
  std::int64_t count = 0;
  DeviceBuffer<std::int32_t> keys;
  DeviceBuffer<float> weights_f32;  // one of the two: f64 for a matrix of f64
  DeviceBuffer<double> weights_f64;
};

// Allowed entries that are NaN or infinite took part in nothing; the caller fails or counts them as skipped.
struct MatrixReport {
  std::int64_t nonfinite = 0;
  std::int64_t first_row = 0, first_key = 0;  // of the first in the order of the answer; its value
  double first_value = 0;
};

// Fills all of `results` but entropy that is not asked for, `edges`, and, where their pointers are not null, adds to
// `sums` (whose chunk is set here). Waits for the stream once: for the number of edges and the report. When the report
// is not clean and `skip_nonfinite` is false, it stops there: no edges, no sums. Throws ag::Error.
MatrixReport filter_matrix(const MatrixChunk& chunk, const RowResults& results, MatrixSums sums, bool skip_nonfinite,
                           MatrixEdges& edges, cudaStream_t stream);

}  // namespace ag::cuda
