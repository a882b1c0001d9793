// SPDX-License-Identifier: Apache-2.0
// Candidates from bits to packed rows by thrust::copy_if: the textbook way, and the check of our own.
#include <thrust/copy.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_output_iterator.h>
#include <thrust/iterator/zip_iterator.h>
#include <thrust/tuple.h>

#include <new>

#include "../stages/chunk_place.cuh"
#include "score_rule.cuh"

#if defined(ATTNGRAPH_EMULATION)
#include <thrust/system/cpp/execution_policy.h>
#else
#include <thrust/system/cuda/execution_policy.h>
#include <thrust/system_error.h>
#endif

namespace ag::cuda {
namespace {

// Pairs are numbered in the order of the bits. Chunks that are done in double have none, and no bits were written.
struct IsMarked {
  CompactScores work;
  __device__ bool operator()(std::int64_t pair) const {
    const std::int64_t row = pair / (work.candidates.words * 32);
    if (work.batch.facts[chunk_of_row(work.batch, row)].in_double()) return false;
    return (work.candidates.bits[pair / 32] >> (pair % 32) & 1u) != 0;
  }
};

struct CandidateOf {
  CompactScores work;
  FloatScoreRule rule;
  __device__ thrust::tuple<std::int32_t, float> operator()(std::int64_t pair) const {
    const std::int64_t columns = work.candidates.words * 32;
    const std::int64_t row = pair / columns, column = pair % columns;
    const Chunk& chunk = work.batch.chunks[chunk_of_row(work.batch, row)];
    return {static_cast<std::int32_t>(work.scores.key_begin + column),
            candidate_score(chunk, rule, work.scores, row, column)};
  }
};

template <class Policy>
__host__ __device__ void copy_candidates(const Policy& policy, const CompactScores& work, std::int64_t pairs,
                                         const FloatScoreRule& rule) {
  const thrust::counting_iterator<std::int64_t> first(0);
  const auto out = thrust::make_transform_output_iterator(thrust::make_zip_iterator(work.out.keys, work.out.scores),
                                                          CandidateOf{work, rule});
  thrust::copy_if(policy, first, first + pairs, out, IsMarked{work});
}

#if defined(ATTNGRAPH_EMULATION)

// Thrust's CPP backend, in the stream's order and where device memory may be touched: in a grid of one thread.
__global__ void copy_candidates_kernel(CompactScores work, std::int64_t pairs, FloatScoreRule rule) {
  copy_candidates(thrust::cpp::par, work, pairs, rule);
}

#else

// Thrust's scratch in the stream's order: its own allocations would wait for the device.
struct StreamAllocator {
  using value_type = char;
  cudaStream_t stream;
  char* allocate(std::ptrdiff_t bytes) {
    void* p = nullptr;
    if (cudaMallocAsync(&p, static_cast<std::size_t>(bytes), stream) != cudaSuccess) {
      cudaGetLastError();
      throw std::bad_alloc();
    }
    return static_cast<char*>(p);
  }
  void deallocate(char* p, std::size_t) { cudaFreeAsync(p, stream); }
};

#endif

}  // namespace

cudaError_t compact_thrust(const CompactScores& work, cudaStream_t stream) {
  const std::int64_t pairs = work.batch.rows * work.candidates.words * 32;
  if (pairs == 0) return cudaSuccess;
  if (work.out.offsets == nullptr) return cudaErrorInvalidValue;
  const FloatScoreRule rule = in_float({work.scale, work.softcap});
#if defined(ATTNGRAPH_EMULATION)
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(1);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, copy_candidates_kernel, work, pairs, rule);
#else
  try {
    StreamAllocator allocator{stream};
    copy_candidates(thrust::cuda::par_nosync(allocator).on(stream), work, pairs, rule);
    return cudaSuccess;
  } catch (const thrust::system_error& error) {
    return error.code().category() == thrust::cuda_category() ? static_cast<cudaError_t>(error.code().value())
                                                              : cudaErrorUnknown;
  } catch (const std::bad_alloc&) {
    return cudaErrorMemoryAllocation;
  }
#endif
}

}  // namespace ag::cuda
