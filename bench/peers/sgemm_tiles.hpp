// SPDX-License-Identifier: Apache-2.0
// The strongest peer: what an expert in C++ would write with a BLAS. Tiles of scores by cblas_sgemm, small enough to
// stay in L2; one sweep for the statistics of the rows, a second one, with the product made again, for the edges. Its
// exponential is the backend's own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ag::bench {

struct SgemmAnswer {
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> keys;
  std::vector<float> weights;
};

struct SgemmTiles {
  std::int64_t rows = 128;
  std::int64_t keys = 2048;
};

// q, k: [n, d] row-major; causal: key <= query.
SgemmAnswer sgemm_extract(const float* q, const float* k, std::int64_t n, std::int64_t d, double scale,
                          double threshold, bool causal, const SgemmTiles& tiles);

// The kernel that OpenBLAS chose for this processor; "" when this build has none.
std::string openblas_kernel();

}  // namespace ag::bench
