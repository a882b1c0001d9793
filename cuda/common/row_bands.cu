// SPDX-License-Identifier: Apache-2.0
// Norms to bands: what is known of a row's rounding before its scores are computed.
#include "launch.hpp"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    row_bands_kernel(const double* q_norm, std::int64_t rows, BandModel model, float* band, std::uint8_t* unusable) {
  const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (r >= rows) return;
  const double norm = q_norm[r];
  const bool usable = norm == norm;
  // Rounded up: a band may be too wide, never too narrow.
  band[r] = usable ? static_cast<float>(model.band(norm) * (1 + 0x1p-22)) : 0.0f;
  if (unusable != nullptr) unusable[r] = usable ? 0 : 1;
}

}  // namespace

cudaError_t launch_row_bands(const double* d_q_norm, std::int64_t rows, BandModel model, float* d_band,
                             std::uint8_t* d_unusable, cudaStream_t stream) {
  if (rows <= 0) return cudaSuccess;
  const cudaLaunchConfig_t config = launch_config(blocks_for(rows, kThreads), kThreads, stream);
  return cudaLaunchKernelEx(&config, row_bands_kernel, d_q_norm, rows, model, d_band, d_unusable);
}

}  // namespace ag::cuda
