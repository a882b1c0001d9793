// SPDX-License-Identifier: Apache-2.0
// Q and K to edges: the rows of all heads cut into chunks and batches, done by the lanes of all devices, handed to the
// sink in order.
#include "extract.hpp"

#include <algorithm>
#include <atomic>

#include "batch_run.hpp"
#include "devices.hpp"
#include "row_delivery.hpp"
#include "team.hpp"

namespace ag::cuda {
namespace {

bool reads_device_memory(const Problem& p) {
  for (const TensorView* view : {&p.q, &p.k, &p.mask.tensor, &p.sinks, &p.logsumexp}) {
    if (*view && view->device >= 0) return true;
  }
  return false;
}

// All chunks, in the order of the answer.
std::vector<ChunkSpan> make_chunks(const Problem& problem, const CudaPlan& plan, const std::vector<HeadGroup>& groups) {
  std::vector<ChunkSpan> chunks;
  const std::int64_t begin = problem.query_begin, end = problem.query_end;
  if (begin == end) return chunks;
  const std::int64_t step = plan.queries_per_chunk;
  // With all queries in a chunk, several heads fit into one; otherwise a head's chunks are cut at global multiples.
  const bool whole = end - begin <= step;
  const std::size_t together = whole ? static_cast<std::size_t>(plan.heads_per_chunk) : 1;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const std::size_t heads = groups[g].heads.size();
    for (std::size_t first = 0; first < heads; first += together) {
      const std::size_t count = std::min(together, heads - first);
      for (std::int64_t at = begin; at < end;) {
        const std::int64_t next = whole ? end : std::min(end, (at / step + 1) * step);
        chunks.push_back({g, first, count, at, next - at});
        at = next;
      }
    }
  }
  return chunks;
}

std::uint64_t next_call() {
  static std::atomic<std::uint64_t> calls{0};
  return ++calls;
}

class Extraction {
 public:
  Extraction(const ScorePass& pass, const Problem& problem, const Plan& plan, BatchSink& sink, Control& control,
             const TensorView* weights, bool keeps_on_device)
      : job_{problem, plan, pass, head_groups(problem), weights, keeps_on_device, next_call()},
        sink_(sink),
        control_(control),
        chunks_(make_chunks(problem, plan.cuda, job_.groups)),
        batch_chunks_(static_cast<std::size_t>(std::max<std::int64_t>(1, plan.cuda.chunks_per_batch))) {}

  RunReport run() {
    if (chunks_.empty()) {
      sink_.no_rows(job_);
      return report_;
    }
    const auto count = static_cast<std::int64_t>((chunks_.size() + batch_chunks_ - 1) / batch_chunks_);
    const int lanes = static_cast<int>(std::min<std::int64_t>(job_.plan.cuda.lanes, count));
    Team team(job_.plan.cuda.devices, lanes, job_.problem.stream, reads_device_memory(job_.problem));
    OrderedTasks<KeptResult> tasks(count, team.size(), control_);
    tasks.run([&](std::int64_t n, int worker, const Poll& poll,
                  KeptResult& result) { work(n, team.lane(worker), poll, result.get()); },
              [&](std::int64_t n, KeptResult& result) { commit(n, result.get()); },
              [count](std::int64_t done) { return static_cast<double>(done) / static_cast<double>(count); });
    sink_.end(team, job_);
    return report_;
  }

  bool began() const { return began_; }

 private:
  std::span<const ChunkSpan> batch(std::int64_t n) const {
    const std::size_t first = static_cast<std::size_t>(n) * batch_chunks_;
    return std::span(chunks_).subspan(first, std::min(batch_chunks_, chunks_.size() - first));
  }

  void work(std::int64_t n, Lane& lane, const Poll& poll, BatchResult& result) {
    const CurrentDevice current(lane.device());
    try {
      run_batch(job_, batch(n), lane, poll, result);
    } catch (...) {
      lane.settle();  // the result's memory must not be written to any more
      throw;
    }
  }

  void commit(std::int64_t n, BatchResult& result) {
    began_ = true;
    sink_.batch(job_, batch(n), result);
    report_.add_rows(result.stats, result.row_count);
    report_.add(result.report);
  }

  const ExtractJob job_;
  BatchSink& sink_;
  Control& control_;
  const std::vector<ChunkSpan> chunks_;
  const std::size_t batch_chunks_;
  RunReport report_;
  bool began_ = false;
};

// Rows of a batch to a sink that takes them slice by slice.
class SliceSink final : public BatchSink {
 public:
  explicit SliceSink(RowSink& sink) : sink_(sink) {}

  void no_rows(const ExtractJob& job) override {
    for (const HeadGroup& group : job.groups) {
      for (const std::int64_t head : group.heads) {
        begin_slice(job.problem, group.batch, head);
        sink_.end_slice(sums_);
      }
    }
  }

  void batch(const ExtractJob& job, std::span<const ChunkSpan> spans, BatchResult& result) override {
    const Problem& p = job.problem;
    std::int64_t row = 0;
    std::size_t head = 0;
    for (const ChunkSpan& span : spans) {
      for (std::size_t g = 0; g < span.heads; ++g, ++head, row += span.queries) {
        if (span.query_begin == p.query_begin) {
          begin_slice(p, job.group_of(span).batch, job.head_of(span, static_cast<std::int64_t>(g)));
        }
        deliver_rows(sink_, span.query_begin, span.queries, result.offsets.data() + row, result.keys.data(),
                     result.weights.data(), result.stats.from(row));
        if (job.wants_sums()) add_sums(sums_, result.sums[head]);
        if (span.query_begin + span.queries == p.query_end) sink_.end_slice(sums_);
      }
    }
  }

 private:
  void begin_slice(const Problem& p, std::int64_t batch, std::int64_t head) {
    sink_.begin_slice({{batch, p.layer, head}, p.query_begin, p.query_end - p.query_begin, p.keys()}, DType::kF32);
    sums_ = empty_sums(p, p.keys());
  }

  RowSink& sink_;
  SliceSums sums_;  // of the slice that is being committed
};

// Weights are written where they belong; the rows themselves are not wanted.
struct NoRows : RowSink {
  void begin_slice(const SliceInfo&, DType) override {}
  void rows(const RowBlock&) override {}
  void end_slice(const SliceSums&) override {}
};

}  // namespace

RunReport extract_batches(const ScorePass& pass, const Problem& problem, const Plan& plan, BatchSink& sink,
                          Control& control, bool keeps_on_device) {
  Extraction extraction(pass, problem, plan, sink, control, nullptr, keeps_on_device);
  try {
    return extraction.run();
  } catch (const Error& error) {
    if (error.status() != Status::kDeviceOutOfMemory || extraction.began()) throw;
  }
  release_idle_lanes();
  const Plan smaller = shrunk(plan);
  return Extraction(pass, problem, smaller, sink, control, nullptr, keeps_on_device).run();
}

RunReport extract(const ScorePass& pass, const Problem& problem, const Plan& plan, RowSink& sink, Control& control) {
  SliceSink slices(sink);
  return extract_batches(pass, problem, plan, slices, control, false);
}

RunReport write_weights(const ScorePass& pass, const Problem& problem, const Plan& plan, const TensorView& out,
                        Control& control) {
  // The dense rows lie beside the scores, and are as long.
  Plan own = plan;
  if (own.cuda.chunks_per_batch > 1) {
    own.cuda.chunks_per_batch = (own.cuda.chunks_per_batch + 1) / 2;
  } else if (own.cuda.heads_per_chunk > 1) {
    own.cuda.heads_per_chunk = (own.cuda.heads_per_chunk + 1) / 2;
  } else {
    own.cuda.queries_per_chunk = (own.cuda.queries_per_chunk + 1) / 2;
  }
  if (out.device >= 0) own.cuda.devices = {out.device};
  NoRows none;
  SliceSink sink(none);
  return Extraction(pass, problem, own, sink, control, &out, false).run();
}

}  // namespace ag::cuda
