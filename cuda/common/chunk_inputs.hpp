// SPDX-License-Identifier: Apache-2.0
// What a chunk is, as its kernels see it: tensors, masks, sinks and given logsumexps on the device.
#pragma once

#include <cstdint>
#include <vector>

#include "extract_job.hpp"
#include "group_data.hpp"
#include "lane.hpp"
#include "tensors.hpp"

namespace ag::cuda {

// Query heads [first, first + heads) of a group's list, queries [query_begin, query_begin + queries) of each.
struct ChunkPlace {
  std::size_t group = 0;
  std::size_t first = 0, heads = 0;
  std::int64_t query_begin = 0, queries = 0;
};

class ChunkInputs {
 public:
  // Copies what is in host memory, queued on the lane. Throws kNonfinite for queries (by request), sinks and lse.
  ChunkInputs(const ExtractJob& job, const Group& group, const GroupData& data, const ChunkPlace& place, Lane& lane,
              const Poll& poll);

  std::int64_t head(std::int64_t g) const { return group_.heads[place_.first + static_cast<std::size_t>(g)]; }
  // Of head g, for row 0 of the chunk: its place in GroupData::q_norms.
  std::int64_t first_norm(std::int64_t g) const {
    return (static_cast<std::int64_t>(place_.first) + g) * job_.problem.queries() + place_.query_begin;
  }
  std::int64_t heads() const { return static_cast<std::int64_t>(place_.heads); }
  std::int64_t rows() const { return heads() * place_.queries; }

  Chunk chunk;
  std::vector<double> sinks;  // [heads], empty when there are none
  std::int64_t unusable = 0;  // queries that hold NaN or infinity

 private:
  void look_at_queries();
  void bring_tensors(const Poll& poll);
  void bring_sinks();
  void bring_logsumexp();

  const ExtractJob& job_;
  const Group& group_;
  const GroupData& data_;
  const ChunkPlace& place_;
  Lane& lane_;
  // Copies read host memory when their turn comes, so what they read stays.
  std::vector<std::int64_t> ids_;
  PinnedBuffer<double> logsumexp_;
  DeviceBuffer<std::int64_t> d_ids_;
  DeviceTensor mask_;
  DeviceBuffer<double> d_sinks_, d_logsumexp_;
  const SettledLane before_they_go_{lane_};
};

}  // namespace ag::cuda
