// SPDX-License-Identifier: Apache-2.0
// Graphs in device memory: their arrays, and the way to the host.
#include "device_result.hpp"

#include <vector>

#include "guard.hpp"
#include "result.hpp"
#include "sink.hpp"

using ag::api::guarded;
using ag::api::required;

attngraph_status attngraph_device_result_csr(const attngraph_device_result* result, attngraph_device_csr* csr) {
  return guarded([&] {
    const ag::DeviceGraph& graph = *required(result, "result").graph;
    required(csr, "csr") = {graph.device,    static_cast<std::int64_t>(graph.slices.size()),
                            graph.row_count, graph.edges,
                            graph.offsets,   graph.keys,
                            graph.weights};
  });
}

attngraph_status attngraph_device_result_wait(const attngraph_device_result* result, void* stream) {
  return guarded([&] { required(result, "result").graph->wait(stream); });
}

attngraph_status attngraph_device_result_to_host(const attngraph_device_result* result, attngraph_result** out) {
  return guarded([&] {
    const attngraph_device_result& own = required(result, "result");
    required(out, "out");
    const ag::DeviceGraph& graph = *own.graph;
    std::vector<std::int64_t> offsets(static_cast<std::size_t>(graph.row_count) + 1), of_slice;
    std::vector<std::int32_t> keys(static_cast<std::size_t>(graph.edges));
    std::vector<float> weights(keys.size());
    graph.copy_to_host(offsets.data(), keys.data(), weights.data());
    const ag::RowColumns stats = graph.row_stats();
    ag::RunReport report = graph.report;
    report.add_rows(stats.view(), graph.row_count);

    auto collecting = std::make_unique<ag::CollectSink>();
    const auto slices = static_cast<std::int64_t>(graph.slices.size());
    if (slices > 0) collecting->expect(slices, graph.slices.front().query_count);
    attngraph_sink sink(std::move(collecting));
    ag::api::CallIntoSink call(sink, own.facts, {}, 0);
    std::int64_t row = 0;
    for (std::size_t s = 0; s < graph.slices.size(); ++s) {
      const ag::SliceInfo& slice = graph.slices[s];
      call.begin_slice(slice, ag::DType::kF32);
      if (slice.query_count > 0) {
        const std::int64_t* const from = offsets.data() + row;
        const std::int64_t base = from[0];
        of_slice.assign(from, from + slice.query_count + 1);
        for (std::int64_t& offset : of_slice) offset -= base;
        call.rows({slice.query_begin, slice.query_count, of_slice.data(), keys.data() + base, weights.data() + base,
                   ag::DType::kF32, stats.view().from(row)});
        row += slice.query_count;
      }
      call.end_slice(graph.sums[s]);
    }
    call.complete(report);
    auto answer = std::make_unique<attngraph_result>();
    answer->graph = sink.take();
    *out = answer.release();
  });
}

void attngraph_device_result_destroy(attngraph_device_result* result) { delete result; }
