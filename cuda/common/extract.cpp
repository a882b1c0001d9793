// SPDX-License-Identifier: Apache-2.0
// Q and K to edges: the rows of all heads cut into chunks, done by the lanes of all devices, handed to the sink in
// order.
#include "extract.hpp"

#include "chunk_run.hpp"
#include "devices.hpp"
#include "row_delivery.hpp"
#include "team.hpp"

namespace ag::cuda {
namespace {

std::vector<Group> make_groups(const Problem& problem) {
  std::vector<Group> groups;
  for (std::int64_t b = 0; b < problem.batch(); ++b) {
    for (const std::int64_t h : problem.heads) {
      const std::int64_t key_head = problem.key_head_of(h);
      if (groups.empty() || groups.back().batch != b || groups.back().key_head != key_head)
        groups.push_back({b, key_head, {}});
      groups.back().heads.push_back(h);
    }
  }
  return groups;
}

bool reads_device_memory(const Problem& p) {
  for (const TensorView* view : {&p.q, &p.k, &p.mask.tensor, &p.sinks, &p.logsumexp}) {
    if (*view && view->device >= 0) return true;
  }
  return false;
}

// All chunks, in the order of the answer.
std::vector<ChunkPlace> make_chunks(const Problem& problem, const CudaPlan& plan, const std::vector<Group>& groups) {
  std::vector<ChunkPlace> chunks;
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

class Extraction {
 public:
  Extraction(const ExtractJob& job, RowSink& sink, Control& control)
      : job_(job),
        sink_(sink),
        control_(control),
        groups_(make_groups(job.problem)),
        chunks_(make_chunks(job.problem, job.plan.cuda, groups_)) {}

  RunReport run() {
    if (chunks_.empty()) {
      for (const Group& group : groups_) {
        for (const std::int64_t head : group.heads) {
          begin_slice(group, head);
          sink_.end_slice(sums_);
        }
      }
      return report_;
    }
    const auto count = static_cast<std::int64_t>(chunks_.size());
    // Destroyed in this order: results and their pinned memory last of all, lanes (which wait) after the groups' data.
    std::vector<std::unique_ptr<GroupCache>> caches;
    for (std::size_t n = 0; n < job_.plan.cuda.devices.size(); ++n) caches.push_back(std::make_unique<GroupCache>());
    Team team(job_.plan.cuda.devices, job_.plan.cuda.lanes, job_.problem.stream, reads_device_memory(job_.problem));
    const ReleaseInOrder release{caches, team};
    OrderedTasks<ChunkResult> tasks(count, team.size(), control_);
    tasks.run(
        [&](std::int64_t n, int worker, const Poll& poll, ChunkResult& result) {
          work(chunks_[static_cast<std::size_t>(n)], *caches[team.place(worker)], team.lane(worker), poll, result);
        },
        [&](std::int64_t n, ChunkResult& result) { commit(chunks_[static_cast<std::size_t>(n)], result); },
        [count](std::int64_t done) { return static_cast<double>(done) / static_cast<double>(count); });
    return report_;
  }

  bool began() const { return began_; }

 private:
  // Device memory is given back on the streams it came from.
  struct ReleaseInOrder {
    std::vector<std::unique_ptr<GroupCache>>& caches;
    Team& team;
    ~ReleaseInOrder() {
      for (int n = 0; n < team.size(); ++n) team.lane(n).settle();
      for (std::size_t n = 0; n < caches.size(); ++n) {
        const int before = use_device(team.lane(static_cast<int>(n)).device());
        caches[n].reset();
        use_device(before);
      }
    }
  };

  void work(const ChunkPlace& at, GroupCache& cache, Lane& lane, const Poll& poll, ChunkResult& result) {
    const CurrentDevice current(lane.device());
    const Group& group = groups_[at.group];
    try {
      const std::shared_ptr<const GroupData> data = cache.get(at.group, job_, group, lane, poll);
      run_chunk(job_, group, *data, at, lane, poll, result);
      // Counted once, with the first rows of the key head.
      if (at.first == 0 && at.query_begin == job_.problem.query_begin)
        result.report.skipped_nonfinite += data->bad_keys;
    } catch (...) {
      lane.settle();  // the result's memory must not be written to any more
      throw;
    }
  }

  void commit(const ChunkPlace& at, ChunkResult& result) {
    const Group& group = groups_[at.group];
    for (std::size_t g = 0; g < at.heads; ++g) {
      if (at.query_begin == job_.problem.query_begin) begin_slice(group, group.heads[at.first + g]);
      const auto row = static_cast<std::int64_t>(g) * at.queries;
      deliver_rows(sink_, at.query_begin, at.queries, result.offsets.data() + row, result.keys.data(),
                   result.weights.data(), result.stats.data() + row);
      report_.add_rows(result.stats.data() + row, at.queries);
      if (job_.wants_sums()) add_sums(sums_, result.sums[g]);
      if (at.query_begin + at.queries == job_.problem.query_end) sink_.end_slice(sums_);
    }
    report_.add(result.report);
  }

  void begin_slice(const Group& group, std::int64_t head) {
    const Problem& p = job_.problem;
    began_ = true;
    sink_.begin_slice({{group.batch, p.layer, head}, p.query_begin, p.query_end - p.query_begin, p.keys()},
                      DType::kF32);
    sums_ = empty_sums(p, p.keys());
  }

  const ExtractJob job_;
  RowSink& sink_;
  Control& control_;
  const std::vector<Group> groups_;
  const std::vector<ChunkPlace> chunks_;
  RunReport report_;
  SliceSums sums_;  // of the slice that is being committed
  bool began_ = false;
};

// Weights are written where they belong; the rows themselves are not wanted.
struct NoRows : RowSink {
  void begin_slice(const SliceInfo&, DType) override {}
  void rows(const RowBlock&) override {}
  void end_slice(const SliceSums&) override {}
};

}  // namespace

RunReport extract(const ScorePass& pass, const Problem& problem, const Plan& plan, RowSink& sink, Control& control) {
  Extraction extraction({problem, plan, pass}, sink, control);
  try {
    return extraction.run();
  } catch (const Error& error) {
    if (error.status() != Status::kDeviceOutOfMemory || extraction.began()) throw;
  }
  const Plan smaller = shrunk(plan);
  return Extraction({problem, smaller, pass}, sink, control).run();
}

RunReport write_weights(const ScorePass& pass, const Problem& problem, const Plan& plan, const TensorView& out,
                        Control& control) {
  // The dense rows lie beside the scores, and are as long.
  Plan own = plan;
  if (own.cuda.heads_per_chunk > 1) {
    own.cuda.heads_per_chunk = (own.cuda.heads_per_chunk + 1) / 2;
  } else {
    own.cuda.queries_per_chunk = (own.cuda.queries_per_chunk + 1) / 2;
  }
  if (out.device >= 0) own.cuda.devices = {out.device};
  NoRows sink;
  return Extraction({problem, own, pass, &out}, sink, control).run();
}

}  // namespace ag::cuda
