// SPDX-License-Identifier: Apache-2.0
#include "chunk_run.hpp"

#include <algorithm>
#include <cmath>

#include "../../src/core/select.hpp"

namespace ag::cuda {
namespace {

std::size_t idx(std::int64_t n) { return static_cast<std::size_t>(n); }

// What finish_rows says of a pass. kTooWide: an additive mask moved scores so far that only double will do.
enum class Outcome { kDone, kOverflowed, kTooWide };

// What a chunk has on the device, and the way through the stages.
class ChunkRun {
 public:
  ChunkRun(const ExtractJob& job, const Group& group, const GroupData& data, const ChunkPlace& place, Lane& lane,
           const Poll& poll, ChunkResult& result)
      : job_(job),
        p_(job.problem),
        group_(group),
        data_(data),
        place_(place),
        lane_(lane),
        poll_(poll),
        result_(result),
        stream_(lane.stream()),
        inputs_(job, group, data, place, lane, poll),
        chunk_(inputs_.chunk),
        heads_(inputs_.heads()),
        rows_(inputs_.rows()) {}

  void run() {
    result_.report = {};
    result_.report.skipped_nonfinite = inputs_.unusable;
    if (data_.key_count == 0) {
      answer_without_keys();
      return;
    }
    Outcome outcome = compute(data_.in_double, false);
    // Equals around the k-th best of a row, which no pass may drop, needed more room than is usual.
    if (outcome == Outcome::kOverflowed && !data_.in_double) outcome = compute(false, true);
    if (outcome == Outcome::kTooWide) outcome = compute(true, true);
    if (outcome == Outcome::kOverflowed) {
      fail(Status::kInternal, "a row of batch {}, head {} has more candidates than its bound allows", group_.batch,
           inputs_.head(0));
    }
    if (job_.weights != nullptr) hand_over_weights();
    hand_over();
  }

 private:
  // Rows that may see nothing: only their sinks are left.
  void answer_without_keys() {
    std::fill_n(result_.offsets.resize(rows_ + 1), rows_ + 1, std::int64_t{0});
    result_.keys.resize(0);
    result_.weights.resize(0);
    result_.stats.assign(idx(rows_), RowStats());
    for (std::int64_t r = 0; r < rows_; ++r) {
      if (!inputs_.sinks.empty()) result_.stats[idx(r)].logsumexp = inputs_.sinks[idx(r / place_.queries)];
      if (p_.stats.entropy) result_.stats[idx(r)].entropy = 0;
    }
    if (job_.wants_sums()) result_.sums.assign(place_.heads, sums_of_chunk());
  }

  // From operands to the number of edges, which is waited for.
  Outcome compute(bool in_double, bool sure_room) {
    in_double_ = in_double;
    const BandModel& model = in_double ? data_.band_f64 : data_.band;
    const bool has_unusable = inputs_.unusable > 0;
    DeviceBuffer<float> band(rows_, stream_);
    DeviceBuffer<std::uint8_t> unusable(has_unusable ? rows_ : 0, stream_);
    for (std::int64_t g = 0; g < heads_; ++g) {
      const std::int64_t at = g * place_.queries;
      cuda_check(launch_row_bands(data_.d_q_norms.data() + inputs_.first_norm(g), place_.queries, model,
                                  band.data() + at, has_unusable ? unusable.data() + at : nullptr, stream_),
                 "row_bands");
    }
    const RowFacts facts{band.data(), unusable.data()};
    if (chunk_.mask.tensor.data != nullptr && p_.mask.tensor.dtype != DType::kBool) {
      d_fault_ = DeviceBuffer<DeviceFault>(1, stream_);
      cuda_check(launch_inspect_mask(chunk_, facts, d_fault_.data(), stream_), "inspect_mask");
    }

    PassOptions options;
    options.entropy = p_.stats.entropy;
    options.top_k = p_.selection.top_k;
    options.two_passes = job_.plan.cuda.two_passes && !in_double;
    options.splits = in_double || job_.pass.packs_candidates() ? 1 : job_.plan.cuda.splits;
    allocate_states(options.splits);
    if (in_double) {
      allocate_candidates(options.splits, job_.plan.cuda.candidate_capacity);
    } else if (!job_.pass.packs_candidates()) {
      allocate_candidates(options.splits, job_.pass.row_capacity(chunk_, options, sure_room));
    }
    DeviceBuffer<std::byte> q_operand;
    if (in_double) {
      cuda_check(launch_rows_f64(chunk_, facts, options, memory_.states, memory_.candidates, stream_), "rows_f64");
    } else {
      Operands operands = data_.operands;
      q_operand = prepare_queries(operands);
      memory_.scratch = DeviceBuffer<std::byte>(
          static_cast<std::int64_t>(job_.pass.scratch_bytes(chunk_, options, job_.plan.workspace_bytes)), stream_);
      if (job_.weights != nullptr) make_room_for_weights();
      job_.pass.run(chunk_, operands, facts, options, memory_, stream_);
    }
    poll_();
    return finish(facts, model);
  }

  void allocate_states(std::int32_t splits) {
    const std::int64_t n = splits * rows_;
    states_ = DeviceBuffer<double>(4 * n, stream_);
    d_max_keys_of_states_ = DeviceBuffer<std::int32_t>(n, stream_);
    RowStates& states = memory_.states;
    states.splits = splits;
    states.reference = states_.data();
    states.sum = states_.data() + n;
    states.maximum = states_.data() + 2 * n;
    states.weighted = p_.stats.entropy ? states_.data() + 3 * n : nullptr;
    states.max_key = d_max_keys_of_states_.data();
  }

  void allocate_candidates(std::int32_t splits, std::int64_t capacity) {
    const std::int64_t n = splits * rows_;
    candidate_keys_ = DeviceBuffer<std::int32_t>(checked_mul(n, capacity, "candidates of a chunk"), stream_);
    candidate_scores_ = DeviceBuffer<float>(n * capacity, stream_);
    candidate_counts_ = DeviceBuffer<std::int32_t>(n, stream_);
    memory_.candidates = {candidate_keys_.data(), candidate_scores_.data(), candidate_counts_.data(), nullptr,
                          capacity};
  }

  DeviceBuffer<std::byte> prepare_queries(Operands& operands) {
    DeviceBuffer<std::byte> out(rows_ * operands.pitch * (p_.q.dtype == DType::kF32 ? 4 : 2), stream_);
    const bool plain_f32 = p_.q.dtype == DType::kF32 && !operands.split;
    const cudaError_t code =
        plain_f32 ? launch_prepare_f32(chunk_.q, chunk_.head_ids, heads_, 0, place_.queries, p_.head_dim(),
                                       operands.pitch, reinterpret_cast<float*>(out.data()), stream_)
                  : launch_prepare_operands(chunk_.q, chunk_.head_ids, heads_, 0, place_.queries, p_.head_dim(),
                                            operands.dtype, operands.pitch, operands.q_exponent, out.data(), stream_);
    cuda_check(code, "prepare_operands of the queries");
    operands.q = out.data();
    return out;
  }

  std::int64_t candidate_places() const {
    return memory_.candidates.offsets != nullptr ? memory_.packed_keys.size() : candidate_keys_.size();
  }

  void make_room_for_weights() {
    const std::int64_t size = place_.queries * p_.keys();
    d_dense_ = DeviceBuffer<float>(heads_ * size, stream_);
    if (d_dense_.size() > 0)
      cuda_check(cudaMemsetAsync(d_dense_.data(), 0, d_dense_.bytes(), stream_), "clearing the weights");
    memory_.dense = {d_dense_.data(), size, p_.keys()};
  }

  void hand_over_weights() {
    if (in_double_) {
      fail(Status::kUnsupported,
           "weights of batch {}, head {} need double precision, which dense weights do not have; scale down the input",
           group_.batch, inputs_.head(0));
    }
    const std::int64_t size = place_.queries * p_.keys();
    for (std::int64_t g = 0; g < heads_ && size > 0; ++g) {
      // The caller's tensor is const in a view, but it was given to be written.
      auto* const to = const_cast<std::byte*>(job_.weights->at(group_.batch, inputs_.head(g), place_.query_begin));
      cuda_check(cudaMemcpyAsync(to, d_dense_.data() + g * size, static_cast<std::size_t>(size) * sizeof(float),
                                 job_.weights->device < 0 ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice, stream_),
                 "copying the weights");
    }
  }

  Outcome finish(const RowFacts& facts, const BandModel& model) {
    d_figures_ = DeviceBuffer<double>(4 * rows_, stream_);
    d_max_keys_ = DeviceBuffer<std::int32_t>(rows_, stream_);
    d_offsets_ = DeviceBuffer<std::int64_t>(rows_ + 1, stream_);
    if (job_.selects()) candidate_weights_ = DeviceBuffer<double>(candidate_places(), stream_);
    RowResults results;
    results.logsumexp = d_figures_.data();
    results.maximum = d_figures_.data() + rows_;
    results.kept_mass = d_figures_.data() + 2 * rows_;
    results.entropy = p_.stats.entropy ? d_figures_.data() + 3 * rows_ : nullptr;
    results.max_key = d_max_keys_.data();
    results.offsets = d_offsets_.data();
    DeviceBuffer<std::int64_t> counts(rows_, stream_);
    DeviceBuffer<FinishReport> d_report(1, stream_);
    DeviceBuffer<std::byte> scan(static_cast<std::int64_t>(exclusive_scan_scratch_bytes(rows_)), stream_);
    cuda_check(launch_finish_rows(chunk_, facts, model, memory_.states, memory_.candidates, candidate_weights_.data(),
                                  results, counts.data(), d_report.data(), stream_),
               "finish_rows");
    cuda_check(launch_exclusive_scan(counts.data(), d_offsets_.data(), rows_, scan.data(), stream_), "exclusive_scan");

    PinnedBuffer<FinishReport> report;
    PinnedBuffer<DeviceFault> fault;
    const SettledLane before_they_go(lane_);
    download(report.resize(1), d_report.data(), 1, stream_, "the report of a chunk");
    if (d_fault_.size() > 0) download(fault.resize(1), d_fault_.data(), 1, stream_, "the mask's faults");
    download(result_.offsets.resize(rows_ + 1), d_offsets_.data(), rows_ + 1, stream_, "offsets");
    download(result_.figures.resize(4 * rows_), d_figures_.data(), (p_.stats.entropy ? 4 : 3) * rows_, stream_,
             "row statistics");
    download(result_.max_keys.resize(rows_), d_max_keys_.data(), rows_, stream_, "row statistics");
    lane_.wait(poll_);
    if (fault.size() > 0) check_mask(fault[0]);
    return judge(report[0]);
  }

  void check_mask(const DeviceFault& fault) const {
    if (!fault.found()) return;
    const std::int64_t row = fault.place() / p_.keys();
    fail(Status::kNonfinite, "mask holds {} at batch {}, head {}, query {}, key {}; a bias is finite or -inf",
         fault.value, group_.batch, inputs_.head(row / place_.queries), place_.query_begin + row % place_.queries,
         fault.place() % p_.keys());
  }

  Outcome judge(const FinishReport& report) {
    if (report.rows_overflowed > 0) return Outcome::kOverflowed;
    if (report.rows_too_wide > 0 && !in_double_) return Outcome::kTooWide;
    if (report.weight.found()) {
      const std::int64_t row = report.weight.place() / p_.keys();
      fail(Status::kRange,
           "the weight of batch {}, head {}, query {}, key {} is exp({:g}); the given lse is not that of these scores",
           group_.batch, inputs_.head(row / place_.queries), place_.query_begin + row % place_.queries,
           report.weight.place() % p_.keys(), report.weight.value);
    }
    result_.report.eps = report.eps();
    result_.report.borderline = static_cast<std::int64_t>(report.borderline);
    if (in_double_) result_.report.rows_fp64 = rows_;
    return Outcome::kDone;
  }

  // Edges and sums to the host, and the selection that a threshold alone does not make.
  void hand_over() {
    const std::int64_t edges = result_.offsets[rows_];
    DeviceBuffer<std::int32_t> d_keys(edges, stream_);
    DeviceBuffer<float> d_weights(edges, stream_);
    DeviceBuffer<double> d_weights_f64(job_.selects() ? edges : 0, stream_);
    if (edges > 0) {
      cuda_check(launch_copy_edges(chunk_, memory_.states, memory_.candidates, candidate_weights_.data(),
                                   d_offsets_.data(), d_keys.data(), d_weights.data(), d_weights_f64.data(), stream_),
                 "copy_edges");
    }
    download(result_.keys.resize(edges), d_keys.data(), edges, stream_, "edges");
    result_.weights.resize(edges);
    if (job_.selects()) {
      download(result_.weights_f64.resize(edges), d_weights_f64.data(), edges, stream_, "edges");
    } else {
      download(result_.weights.data(), d_weights.data(), edges, stream_, "edges");
    }
    if (job_.wants_sums()) add_up();
    lane_.wait(poll_);
    take_statistics();
    if (job_.selects()) select();
    if (job_.wants_sums()) take_sums();
  }

  void add_up() {
    const SliceSums empty = sums_of_chunk();
    const auto columns = static_cast<std::int64_t>(empty.received.size());
    const auto distances = static_cast<std::int64_t>(empty.distances.size());
    const std::int64_t count = heads_ * (columns + distances);
    d_sums_ = DeviceBuffer<double>(count, stream_);
    if (count > 0) cuda_check(cudaMemsetAsync(d_sums_.data(), 0, d_sums_.bytes(), stream_), "clearing the sums");
    DeviceSums sums;
    sums.received = columns > 0 ? d_sums_.data() : nullptr;
    sums.distances = distances > 0 ? d_sums_.data() + heads_ * columns : nullptr;
    sums.distance_begin = empty.distance_begin;
    sums.distance_count = distances;
    if (count > 0) cuda_check(launch_sums(chunk_, memory_.states, sums, in_double_, stream_), "sums");
    download(result_.sum_values.resize(count), d_sums_.data(), count, stream_, "sums");
  }

  // Of the chunk's queries alone.
  SliceSums sums_of_chunk() const {
    Request own;
    own.stats = p_.stats;
    own.mask.query_offset = p_.mask.query_offset;
    own.query_begin = place_.query_begin;
    own.query_end = place_.query_begin + place_.queries;
    return empty_sums(own, p_.keys());
  }

  void take_sums() {
    result_.sums.assign(place_.heads, sums_of_chunk());
    const double* next = result_.sum_values.data();
    for (SliceSums& sums : result_.sums) {
      std::copy_n(next, sums.received.size(), sums.received.begin());
      next += sums.received.size();
    }
    for (SliceSums& sums : result_.sums) {
      std::copy_n(next, sums.distances.size(), sums.distances.begin());
      next += sums.distances.size();
    }
  }

  void take_statistics() {
    result_.stats.resize(idx(rows_));
    const double* const figures = result_.figures.data();
    for (std::int64_t r = 0; r < rows_; ++r) {
      RowStats& stats = result_.stats[idx(r)];
      stats = {figures[r], figures[rows_ + r], figures[2 * rows_ + r], std::nan(""), result_.max_keys[r]};
      if (p_.stats.entropy) stats.entropy = figures[3 * rows_ + r];
    }
  }

  void select() {
    std::int64_t kept = 0;
    for (std::int64_t r = 0; r < rows_; ++r) {
      const std::int64_t begin = result_.offsets[r];
      row_edges_.clear();
      for (std::int64_t e = begin; e < result_.offsets[r + 1]; ++e) {
        row_edges_.push_back({result_.weights_f64[e], result_.keys[e]});
      }
      select_row(p_.selection, row_edges_);
      // What is kept moves to the front: never beyond what has been read.
      result_.offsets[r] = kept;
      double mass = 0;
      for (const RowEdge& edge : row_edges_) {
        result_.keys[kept] = edge.key;
        result_.weights[kept++] = static_cast<float>(edge.weight);
        mass += edge.weight;
      }
      result_.stats[idx(r)].kept_mass = mass;
    }
    result_.offsets[rows_] = kept;
  }

  const ExtractJob& job_;
  const Problem& p_;
  const Group& group_;
  const GroupData& data_;
  const ChunkPlace& place_;
  Lane& lane_;
  const Poll& poll_;
  ChunkResult& result_;
  const cudaStream_t stream_;
  const ChunkInputs inputs_;
  const Chunk& chunk_;
  const std::int64_t heads_, rows_;
  bool in_double_ = false;
  DeviceBuffer<DeviceFault> d_fault_;
  PassMemory memory_;
  DeviceBuffer<double> states_;
  DeviceBuffer<std::int32_t> d_max_keys_of_states_;
  DeviceBuffer<std::int32_t> candidate_keys_;
  DeviceBuffer<float> candidate_scores_;
  DeviceBuffer<std::int32_t> candidate_counts_;
  DeviceBuffer<double> candidate_weights_;
  DeviceBuffer<float> d_dense_;
  DeviceBuffer<double> d_figures_;
  DeviceBuffer<std::int32_t> d_max_keys_;
  DeviceBuffer<std::int64_t> d_offsets_;
  DeviceBuffer<double> d_sums_;
  std::vector<RowEdge> row_edges_;
};

}  // namespace

void run_chunk(const ExtractJob& job, const Group& group, const GroupData& data, const ChunkPlace& place, Lane& lane,
               const Poll& poll, ChunkResult& result) {
  ChunkRun(job, group, data, place, lane, poll, result).run();
}

}  // namespace ag::cuda
