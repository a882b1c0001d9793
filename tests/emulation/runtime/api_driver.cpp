// SPDX-License-Identifier: Apache-2.0
// The driver's functions that are found by name: cuTensorMapEncodeTiled.
#include <cuda.h>

#include <cstring>
#include <string_view>

#include "../tensor_map.hpp"
#include "state.hpp"

namespace ag::emu {
namespace {

CUresult refuse_map(const std::string& why) {
  record_error("cuTensorMapEncodeTiled: " + why);
  return CUDA_ERROR_INVALID_VALUE;
}

std::uint8_t bytes_of(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16: return 2;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32: return 4;
    default: return 0;
  }
}

// Refuses what a device's driver refuses, and what the emulator does not have.
CUresult CUDAAPI encode_tiled(CUtensorMap* out, CUtensorMapDataType type, cuuint32_t rank, void* data,
                              const cuuint64_t* sizes, const cuuint64_t* stride_bytes, const cuuint32_t* box,
                              const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                              CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
  if (out == nullptr || reinterpret_cast<std::uintptr_t>(out) % 64 != 0) return refuse_map("the map is misaligned");
  if (rank < 2 || rank > 5) return refuse_map("a rank of " + std::to_string(rank));
  if (reinterpret_cast<std::uintptr_t>(data) % 16 != 0) return refuse_map("the data's address is no multiple of 16");
  TensorMap map;
  map.magic = TensorMap::kMagic;
  map.rank = static_cast<std::uint8_t>(rank);
  map.element_bytes = bytes_of(type);
  map.data = static_cast<const std::byte*>(data);
  if (map.element_bytes == 0) return refuse_map("a type that the emulator does not have");
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) {
    return refuse_map("an interleave or a fill that the emulator does not have");
  }
  if (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && swizzle != CU_TENSOR_MAP_SWIZZLE_128B) {
    return refuse_map("a swizzle that the emulator does not have");
  }
  map.swizzle_128 = swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? 1 : 0;
  for (cuuint32_t d = 0; d < rank; ++d) {
    const std::string dimension = "dimension " + std::to_string(d) + ": ";
    if (sizes[d] == 0 || sizes[d] > (cuuint64_t{1} << 32)) return refuse_map(dimension + "a size of 0 or over 2^32");
    if (box[d] == 0 || box[d] > 256) return refuse_map(dimension + "a box of " + std::to_string(box[d]));
    if (element_strides[d] != 1) return refuse_map(dimension + "an element stride that is not 1");
    if (d > 0 && (stride_bytes[d - 1] % 16 != 0 || stride_bytes[d - 1] >= (cuuint64_t{1} << 40))) {
      return refuse_map(dimension + "a stride of " + std::to_string(stride_bytes[d - 1]) + " bytes");
    }
    map.sizes[d] = sizes[d];
    map.box[d] = static_cast<std::uint16_t>(box[d]);
    if (d > 0) map.stride_bytes[d - 1] = stride_bytes[d - 1];
  }
  const cuuint32_t row = box[0] * map.element_bytes;
  if (row % 16 != 0 || (map.swizzle_128 != 0 && row > 128)) {
    return refuse_map("rows of the box have " + std::to_string(row) + " bytes");
  }
  std::memset(out, 0, sizeof *out);
  std::memcpy(out, &map, sizeof map);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace ag::emu

using namespace ag::emu;

extern "C" cudaError_t CUDARTAPI cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned int,
                                                                  unsigned long long,
                                                                  cudaDriverEntryPointQueryResult* status) {
  if (function != nullptr) *function = nullptr;
  return enter("cudaGetDriverEntryPointByVersion", Needs::kDriver, [&] {
    if (symbol == nullptr || function == nullptr) return cudaErrorInvalidValue;
    const bool known = std::string_view(symbol) == "cuTensorMapEncodeTiled";
    if (known) *function = reinterpret_cast<void*>(&encode_tiled);
    if (status != nullptr) *status = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
  });
}
