// SPDX-License-Identifier: Apache-2.0
// cuBLAS, opened at run time: half a gigabyte that a user of the fused backend never needs.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace ag::cuda {

// Empty when cuBLAS is there, otherwise a sentence why it is not and what helps. The file is that of the environment's
// ATTNGRAPH_CUBLAS, or the one that the loader finds (or that the process holds already) under the major version of the
// headers that this was built with. Opened once a process.
const std::string& cublas_missing();

// The file's name, and "13.1.0" once a handle has been made on any device; for reports.
std::string cublas_description();

// scores = q k^T in single precision: rows of q against rows of k, `count` times, each with its own rows and keys.
struct ScoreGemm {
  std::int32_t dtype = 0;   // ag::DType of q and k: f32, f16 or bf16
  const void* q = nullptr;  // [count][rows][pitch]
  const void* k = nullptr;  // [keys][pitch], k_stride elements from one to the next
  std::int64_t rows = 0, keys = 0, pitch = 0;
  float* scores = nullptr;  // [count][rows][score_pitch]
  std::int64_t score_pitch = 0;
  std::int64_t count = 1, k_stride = 0;
};

// Queue the product on the stream of the current device. f16 and bf16 are multiplied exactly and summed in f32, f32
// without TF32 or any other replacement. `workspace` is cuBLAS's own scratch, used in the stream's order, so that it
// allocates none. The same inputs give the same bits on one device model. Throws ag::Error.
void queue_score_gemm(const ScoreGemm& gemm, void* workspace, std::size_t workspace_bytes, cudaStream_t stream);

}  // namespace ag::cuda
