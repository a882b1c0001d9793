// SPDX-License-Identifier: Apache-2.0
#include "matrix_filter.hpp"

#include <array>

#include "../stages/stages.hpp"

namespace ag::cuda {
namespace {

double host_value(DType dtype, const std::array<std::byte, 8>& bytes) { return load_double(dtype, bytes.data()); }

}  // namespace

MatrixReport filter_matrix(const MatrixChunk& chunk, const RowResults& results, MatrixSums sums, bool skip_nonfinite,
                           MatrixEdges& edges, cudaStream_t stream) {
  const std::int64_t rows = chunk.rows();
  const std::int64_t words = bit_words(chunk.keys);
  DeviceBuffer<std::uint32_t> bits(rows * words, stream);
  DeviceBuffer<std::int64_t> counts(rows, stream);
  DeviceBuffer<MatrixFinding> d_finding(1, stream);
  DeviceBuffer<std::byte> scan(static_cast<std::int64_t>(exclusive_scan_scratch_bytes(rows)), stream);

  MatrixFinding finding;
  cuda_check(cudaMemcpyAsync(d_finding.data(), &finding, sizeof(finding), cudaMemcpyHostToDevice, stream),
             "the report of a matrix");
  MatrixRows work;
  work.chunk = chunk;
  work.results = results;
  work.edges = {bits.data(), words, counts.data()};
  work.finding = d_finding.data();
  cuda_check(launch_matrix_rows(work, stream), "matrix_rows");
  cuda_check(launch_exclusive_scan(counts.data(), results.offsets, rows, scan.data(), stream), "exclusive_scan");

  edges = MatrixEdges();
  cuda_check(cudaMemcpyAsync(&edges.count, results.offsets + rows, sizeof(edges.count), cudaMemcpyDeviceToHost, stream),
             "the number of edges");
  cuda_check(cudaMemcpyAsync(&finding, d_finding.data(), sizeof(finding), cudaMemcpyDeviceToHost, stream),
             "the report of a matrix");
  cuda_check(cudaStreamSynchronize(stream), "the rows of a matrix");

  MatrixReport report;
  if (finding.count > 0) {
    report.nonfinite = static_cast<std::int64_t>(finding.count);
    report.first_row = static_cast<std::int64_t>(finding.first) / chunk.keys;
    report.first_key = static_cast<std::int64_t>(finding.first) % chunk.keys;
    if (!skip_nonfinite) {
      const AnyTensor& w = chunk.weights;
      const auto dtype = static_cast<DType>(w.dtype);
      const std::int64_t element = report.first_row / chunk.queries * w.stride_head +
                                   report.first_row % chunk.queries * w.stride_row + report.first_key * w.stride_column;
      std::array<std::byte, 8> bytes{};
      cuda_check(
          cudaMemcpyAsync(bytes.data(),
                          static_cast<const std::byte*>(w.data) + element * static_cast<std::int64_t>(size_of(dtype)),
                          size_of(dtype), cudaMemcpyDeviceToHost, stream),
          "an entry of a matrix");
      cuda_check(cudaStreamSynchronize(stream), "an entry of a matrix");
      report.first_value = host_value(dtype, bytes);
      edges = MatrixEdges();
      return report;
    }
  }

  CompactMatrix compact;
  compact.chunk = chunk;
  compact.edges = work.edges;
  compact.offsets = results.offsets;
  edges.keys = DeviceBuffer<std::int32_t>(edges.count, stream);
  compact.keys = edges.keys.data();
  if (static_cast<DType>(chunk.weights.dtype) == DType::kF64) {
    edges.weights_f64 = DeviceBuffer<double>(edges.count, stream);
    compact.weights_f64 = edges.weights_f64.data();
  } else {
    edges.weights_f32 = DeviceBuffer<float>(edges.count, stream);
    compact.weights_f32 = edges.weights_f32.data();
  }
  if (edges.count > 0) cuda_check(launch_compact_matrix(compact, stream), "compact_matrix");
  sums.chunk = chunk;
  cuda_check(launch_matrix_sums(sums, stream), "matrix_sums");
  return report;
}

}  // namespace ag::cuda
