// SPDX-License-Identifier: Apache-2.0
// A whole extraction by the shared stages alone, chunk by chunk: the host part of a run in its plainest form.
// Thresholds only; top-k and mass are the host's.
#pragma once

#include <limits>
#include <utility>
#include <vector>

#include "../../cuda/stages/stages.hpp"
#include "device_problem.hpp"
#include "graph/edge_list.hpp"

namespace ag::test {

struct FinishedChunk {
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> keys;
  std::vector<float> weights;
  StatedColumns stats;
  cuda::FinishReport report;
  SliceSums sums;  // of all heads, one after the other
};

// From states and candidates to what the host sends on.
inline FinishedChunk finish_chunk(const Problem& problem, DeviceChunk& made, const cuda::BandModel& model,
                                  const PassArrays& pass, bool in_double, bool with_sums = false) {
  const cuda::Chunk& chunk = made.chunk;
  const std::int64_t rows = chunk.rows();
  made.facts.band = made.facts.band_f64 = model;
  made.facts.judged_double = in_double ? 1 : 0;
  const cuda::Batch batch = made.table();
  const ResultArrays results(rows);
  cuda::RowResults wanted = results.results;
  if (!problem.stats.entropy) wanted.entropy = nullptr;
  const DeviceArray<cuda::FinishReport> report(std::vector<cuda::FinishReport>(1));
  cuda_ok(cuda::launch_finish_rows(batch, pass.states, pass.candidates, nullptr, wanted, results.counts.data(),
                                   report.data(), chunk.given_logsumexp != nullptr, kDefaultStream));
  const DeviceArray<std::byte> scratch(cuda::exclusive_scan_scratch_bytes(rows));
  cuda_ok(
      cuda::launch_exclusive_scan(results.counts.data(), results.offsets.data(), rows, scratch.data(), kDefaultStream));
  wait_for_device();
  FinishedChunk done;
  done.report = report.download()[0];
  done.offsets = results.offsets.download();
  const auto edges = static_cast<std::size_t>(done.offsets.back());
  const DeviceArray<std::int32_t> keys(edges);
  const DeviceArray<float> weights(edges);
  cuda_ok(cuda::launch_copy_edges(rows, pass.candidates, results.offsets.data(), done.offsets.back(), keys.data(),
                                  weights.data(), kDefaultStream));
  if (with_sums) {
    const SliceSums shape = empty_sums(problem, chunk.keys);
    const auto heads = made.heads.size();
    const DeviceArray<double> received(std::vector<double>(heads * shape.received.size()));
    const DeviceArray<double> distances(std::vector<double>(heads * shape.distances.size()));
    const cuda::DeviceSums sums{received.data(), distances.data(), shape.distance_begin,
                                static_cast<std::int64_t>(shape.distances.size())};
    cuda_ok(cuda::launch_sums(batch, pass.states, sums, kDefaultStream));
    wait_for_device();
    done.sums = {received.download(), distances.download(), shape.distance_begin, {}};
  }
  wait_for_device();
  done.keys = keys.download();
  done.weights = weights.download();
  const auto logsumexp = results.logsumexp.download(), maximum = results.maximum.download(),
             kept_mass = results.kept_mass.download();
  const auto entropy = problem.stats.entropy ? results.entropy.download() : std::vector<double>();
  const auto max_key = results.max_key.download();
  const auto eps = results.eps.download();
  for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
    done.stats.push_back({logsumexp[r], maximum[r], kept_mass[r],
                          entropy.empty() ? std::numeric_limits<double>::quiet_NaN() : entropy[r], max_key[r],
                          static_cast<double>(eps[r])});
  }
  return done;
}

// All queries of all heads by launch_rows_f64.
inline EdgeList extract_by_rows_f64(const Problem& problem) {
  const DeviceProblem device(problem);
  CollectSink sink;
  RunReport report;
  device.for_each_chunk(std::max<std::int64_t>(1, problem.queries()), [&](DeviceChunk made) {
    const cuda::Chunk& chunk = made.chunk;
    const std::int64_t rows = chunk.rows();
    const auto heads = made.heads.size();
    const cuda::BandModel model = band_model(problem, made.batch, problem.key_head_of(made.heads.front()), DType::kF64);
    made.facts.band_f64 = model;
    made.facts.judged_double = 1;
    const PassArrays pass(rows, std::max<std::int64_t>(1, chunk.keys));
    cuda_ok(cuda::launch_rows_f64(made.table(), pass.states, pass.candidates, kDefaultStream));
    const bool with_sums = problem.stats.columns || problem.stats.distances;
    const FinishedChunk done = finish_chunk(problem, made, model, pass, true, with_sums);
    report.eps = std::max(report.eps, done.report.eps());
    report.borderline += static_cast<std::int64_t>(done.report.borderline);
    for (std::size_t g = 0; g < heads; ++g) {
      sink.begin_slice({{made.batch, problem.layer, made.heads[g]}, chunk.query_begin, chunk.queries, chunk.keys},
                       DType::kF32);
      const std::size_t first = g * static_cast<std::size_t>(chunk.queries);
      const RowStatsView stats = done.stats.view().from(static_cast<std::int64_t>(first));
      std::vector<std::int64_t> offsets;
      for (std::int64_t i = 0; i <= chunk.queries; ++i) {
        offsets.push_back(done.offsets[first + static_cast<std::size_t>(i)] - done.offsets[first]);
      }
      sink.rows({chunk.query_begin, chunk.queries, offsets.data(), done.keys.data() + done.offsets[first],
                 done.weights.data() + done.offsets[first], DType::kF32, stats});
      report.add_rows(stats, chunk.queries);
      SliceSums sums;
      const auto part = [&](const std::vector<double>& all) {
        const auto n = static_cast<std::ptrdiff_t>(all.size() / heads), at = static_cast<std::ptrdiff_t>(g) * n;
        return std::vector<double>(all.begin() + at, all.begin() + at + n);
      };
      sums.received = part(done.sums.received);
      sums.distances = part(done.sums.distances);
      sums.distance_begin = done.sums.distance_begin;
      sink.end_slice(sums);
    }
  });
  sink.finish(report);
  return sink.take();
}

}  // namespace ag::test
