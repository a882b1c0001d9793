// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels.hpp"

namespace ag::cpu {

// bf16 rows; the processor has AVX512_BF16.
void use_avx512_bf16(Kernels<float>& table);

}  // namespace ag::cpu
