// SPDX-License-Identifier: Apache-2.0
// From a batch to a launch: tensor maps, items, the instance.
#include "wgmma_pass.hpp"

#include <cuda.h>

#include "../device/error.hpp"
#include "../device/launch.hpp"
#include "instances.hpp"

namespace ag::cuda {

#if defined(ATTNGRAPH_CUDA_SM90A)

namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

// The driver's, found by the runtime: nothing links libcuda.
EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status{};
    cuda_check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status),
               "cuTensorMapEncodeTiled");
    return reinterpret_cast<EncodeTiled>(found);
  }();
  if (function == nullptr)
    fail(Status::kUnsupported, "the CUDA driver has no cuTensorMapEncodeTiled; update it to 12.0");
  return function;
}

// Rows of `pitch` columns and `parts` parts, in `planes` planes of `rows` rows (0: no such dimension). Into its place:
// maps have an alignment of their own, which values that are returned do not always keep.
void make_map(CUtensorMap& map, const void* data, const Operands& operands, std::int64_t rows, std::int64_t planes,
              std::uint32_t box_rows) {
  const auto pitch = static_cast<cuuint64_t>(operands.pitch);
  const cuuint64_t parts = operands.split ? 2 : 1, row_bytes = pitch * 2 * parts;
  const auto count = static_cast<cuuint64_t>(rows > 0 ? rows : 1);
  const cuuint64_t sizes[4] = {pitch, parts, count, static_cast<cuuint64_t>(planes)};
  const cuuint64_t strides[3] = {pitch * 2, row_bytes, row_bytes * count};
  const cuuint32_t box[4] = {64, 1, box_rows, 1}, steps[4] = {1, 1, 1, 1};
  const CUresult result = encode_tiled()(
      &map,
      operands.dtype == static_cast<std::int32_t>(DType::kBF16) ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                                : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
      planes > 0 ? 4 : 3, const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    fail(Status::kInternal, "cuTensorMapEncodeTiled refuses {} x {} rows of {} elements: error {}", planes, rows,
         operands.pitch, static_cast<int>(result));
  }
}

void prepare(WgmmaLaunch& launch, const StreamingArguments& a, std::int32_t* d_items) {
  using Shape = WgmmaShape<DType::kF16, 1>;  // tiles are the same in all
  static_cast<StreamingArguments&>(launch.arguments) = a;
  launch.arguments.row_tiles = static_cast<std::int32_t>(blocks_for(a.batch.most_rows, Shape::kRows));
  launch.arguments.items = a.batch.count * launch.arguments.row_tiles;
  launch.arguments.next_item = d_items;
  launch.panels = a.operands.split ? 2 : static_cast<int>(blocks_for(a.operands.pitch, Shape::kPanelColumns));
  const Operands& operands = a.operands;
  make_map(launch.q_map, operands.q, operands, a.batch.rows, 0, Shape::kGroupRows);
  const void* const keys = a.batch.keys > 0 ? operands.k : operands.q;  // none is read
  make_map(launch.k_map, keys, operands, a.batch.keys, a.batch.count, Shape::kKeys);
  int device = 0;
  cuda_check(cudaGetDevice(&device), "cudaGetDevice");
  cuda_check(cudaDeviceGetAttribute(&launch.multiprocessors, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
}

}  // namespace

bool has_wgmma() { return true; }

void run_wgmma_statistics(const StreamingArguments& a, std::int32_t* d_items, cudaStream_t stream) {
  if (a.batch.rows == 0) return;
  WgmmaLaunch launch;
  prepare(launch, a, d_items);
  cuda_check(a.entropy ? launch_wgmma_entropy(launch, stream) : launch_wgmma_statistics(launch, stream),
             "wgmma_statistics");
}

void run_wgmma_edges(const StreamingArguments& a, std::int32_t* d_items, cudaStream_t stream) {
  if (a.batch.rows == 0) return;
  WgmmaLaunch launch;
  prepare(launch, a, d_items);
  cuda_check(launch_wgmma_edges(launch, stream), "wgmma_edges");
}

#else

bool has_wgmma() { return false; }

void run_wgmma_statistics(const StreamingArguments&, std::int32_t*, cudaStream_t) {
  fail(Status::kInternal, "this plugin was built without sm_90a");
}

void run_wgmma_edges(const StreamingArguments&, std::int32_t*, cudaStream_t) {
  fail(Status::kInternal, "this plugin was built without sm_90a");
}

#endif

}  // namespace ag::cuda
