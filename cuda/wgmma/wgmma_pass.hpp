// SPDX-License-Identifier: Apache-2.0
// The two passes of cuda_streaming by the sm_90a kernels.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../streaming/arguments.hpp"

namespace ag::cuda {

// Whether this plugin has them: it was built for sm_90a.
bool has_wgmma();

// Both queue one launch, and throw ag::Error where it is refused or the driver does not have tensor maps. Lean scores,
// one split, scales above 0. d_items is a counter of their own, zero when the launch begins.
void run_wgmma_statistics(const StreamingArguments& a, std::int32_t* d_items, cudaStream_t stream);
void run_wgmma_edges(const StreamingArguments& a, std::int32_t* d_items, cudaStream_t stream);

}  // namespace ag::cuda
