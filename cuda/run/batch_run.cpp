// SPDX-License-Identifier: Apache-2.0
#include "batch_run.hpp"

#include <algorithm>
#include <cmath>

#include "../../src/core/edge_rule.hpp"
#include "../../src/core/numbers.hpp"
#include "lane_memory.hpp"
#include "row_delivery.hpp"

namespace ag::cuda {
namespace {

// Beyond it an intermediate product of the double kernel could overflow.
constexpr double kScoreLimit = 1e300;

// Edges that memory is taken for before their number is known.
constexpr std::int64_t kMostGuessed = std::int64_t{1} << 24;

// What a batch has on the device, and the way through the stages.
class BatchRun {
 public:
  BatchRun(const ExtractJob& job, std::span<const ChunkSpan> spans, Lane& lane, const Poll& poll, BatchResult& result)
      : job_(job),
        p_(job.problem),
        cuda_(job.plan.cuda),
        rows_of_{spans},
        lane_(lane),
        memory_(lane.memory()),
        poll_(poll),
        result_(result),
        stream_(lane.stream()) {}

  void run() {
    result_.report = {};
    bring_inputs(job_, rows_of_.spans, lane_, poll_, work_, sinks_);
    batch_ = work_.batch;
    rows_ = batch_.rows;
    prepare();
    if (!always_double()) job_.pass.statistics(work_, memory_.pass, stream_);
    poll_();
    find_candidates();
    finish();
    lane_.wait(poll_);
    judge();
    if (job_.weights != nullptr) hand_over_weights();
    hand_over();
  }

 private:
  bool always_double() const { return job_.plan.kernel == Kernel::kRowsF64; }
  bool has_additive_mask() const { return p_.mask.tensor && p_.mask.tensor.dtype != DType::kBool; }

  BandModel band_model(DType dtype) const {
    BandInput in;
    in.head_dim = p_.head_dim();
    in.keys = p_.keys();
    in.dtype = dtype;
    in.scale = p_.scale;
    in.softcap = p_.softcap;
    in.additive_mask = has_additive_mask();
    in.alibi_bound = most_alibi_bias(p_);
    in.log_cut = job_.plan.candidate_threshold > 0 ? std::log(job_.plan.candidate_threshold) : 0.0;
    return make_band_model(in);
  }

  // Lengths of rows, what follows from them, operands, and room for states.
  void prepare() {
    auto* const verdict = reinterpret_cast<BatchVerdict*>(memory_.verdict.data());
    FinishReport* const report = &verdict->report;
    cuda_check(cudaMemsetAsync(verdict, 0, sizeof(BatchVerdict), stream_), "clearing the report");
    work_.items = verdict->items;
    work_.mask_tensor = static_cast<bool>(p_.mask.tensor);
    work_.skips_bad_keys = p_.nonfinite == Nonfinite::kSkip;
    work_.alibi = !p_.alibi.empty();
    work_.given_logsumexp = static_cast<bool>(p_.logsumexp);
    work_.scale = p_.scale;
    work_.softcap = p_.softcap;
    work_.workspace_bytes = job_.plan.workspace_bytes;
    work_.options.entropy = p_.stats.entropy;
    work_.options.top_k = cuda_.bounds_top_k ? p_.selection.top_k : 0;
    work_.options.splits = cuda_.splits;
    work_.wgmma = job_.plan.kernel == Kernel::kWgmma;

    const RowStorage storage = row_storage(work_.chunks, p_.q.dtype, p_.head_dim());
    if (work_.given_logsumexp) {
      cuda_check(launch_read_logsumexp(batch_, p_.logsumexp_unit, &report->logsumexp, stream_), "read_logsumexp");
    }
    cuda_check(launch_inspect_rows(batch_, storage, stream_), "inspect_rows");
    JudgeRules rules;
    rules.band_f64 = band_model(DType::kF64);
    rules.band = p_.q.dtype == DType::kF64 ? rules.band_f64 : band_model(p_.q.dtype);
    rules.scale = p_.scale;
    rules.softcap = p_.softcap;
    rules.always_double = always_double();
    rules.splits_f32 = p_.q.dtype == DType::kF32 && job_.pass.splits_f32();
    rules.base2 = job_.pass.compares_base2(work_);
    cuda_check(launch_judge_chunks(batch_, rules, memory_.bad_keys.data(), stream_), "judge_chunks");
    if (has_additive_mask()) cuda_check(launch_inspect_mask(batch_, &report->mask, stream_), "inspect_mask");

    const std::int64_t splits = work_.options.splits;
    double* const states = memory_.states.resize((p_.stats.entropy ? 3 : 2) * splits * rows_, stream_);
    work_.states.splits = static_cast<std::int32_t>(splits);
    work_.states.reference = states;
    work_.states.sum = states + splits * rows_;
    work_.states.weighted = p_.stats.entropy ? states + 2 * splits * rows_ : nullptr;
    work_.states.max_key = memory_.state_keys.resize(rows_, stream_);
    work_.count = memory_.candidate_count.resize(rows_, stream_);
    if (always_double()) return;

    Operands& operands = work_.operands;
    operands.dtype = batch_.dtype;
    operands.split = rules.splits_f32;
    operands.packed = job_.pass.packs_rows();
    operands.pitch = (p_.head_dim() + 15) / 16 * 16;
    const bool is_half = p_.q.dtype == DType::kF16 || p_.q.dtype == DType::kBF16;
    const StandingRows standing =
        is_half ? standing_rows(work_.chunks, storage, p_.q.dtype, p_.head_dim()) : StandingRows{};
    if (standing.q != nullptr) {
      // Nobody writes to operands.
      operands.q = const_cast<void*>(standing.q);
      operands.k = const_cast<void*>(standing.k);
    } else {
      operands.q = memory_.q_operand.resize(rows_ * operands.row_bytes(), stream_);
      operands.k = memory_.k_operand.resize(batch_.count * p_.keys() * operands.row_bytes(), stream_);
      cuda_check(launch_prepare_operands(batch_, operands, storage, stream_), "prepare_operands");
    }
    if (job_.weights != nullptr) {
      work_.dense.data = memory_.dense.resize(rows_ * p_.keys(), stream_);
      if (memory_.dense.size() > 0)
        cuda_check(cudaMemsetAsync(work_.dense.data, 0, memory_.dense.bytes(), stream_), "clearing the weights");
    }
  }

  // Into rows of the room that no row can exceed, or, where that is unknown or too much, into as much as they take:
  // they are counted first, which is waited for.
  void find_candidates() {
    candidates_.count = work_.count;
    candidates_.scored = !work_.wgmma;
    const bool counts = cuda_.counts_first || (!always_double() && job_.pass.packs_candidates(work_.options));
    std::int64_t places = 0;
    bool may_be_double = true;
    if (counts) {
      write_candidates(true);
      std::int64_t* const offsets = memory_.candidate_offsets.resize(rows_ + 1, stream_);
      void* const scan = memory_.scan.resize(static_cast<std::int64_t>(exclusive_scan_scratch_bytes(rows_)), stream_);
      cuda_check(launch_exclusive_scan(work_.count, offsets, rows_, scan, stream_), "exclusive_scan");
      const SettledLane before_they_go(lane_);
      download(result_.offsets.resize(1), offsets + rows_, 1, stream_, "the number of candidates");
      bring_verdict();
      lane_.wait(poll_);
      places = result_.offsets[0];
      const ChunkFacts* const facts = chunk_facts();
      may_be_double =
          std::any_of(facts, facts + batch_.count, [](const ChunkFacts& of_chunk) { return of_chunk.in_double(); });
      work_.some_in_double = may_be_double;
      candidates_.offsets = offsets;
    } else {
      candidates_.capacity = cuda_.candidate_capacity;
      places = checked_mul(rows_, candidates_.capacity, "candidates of a batch");
    }
    // At least one place: a null pointer would ask for counts.
    candidates_.keys = memory_.candidate_keys.resize(std::max<std::int64_t>(places, 1), stream_);
    candidates_.scores = memory_.candidate_scores.resize(std::max<std::int64_t>(places, 1), stream_);
    if (job_.selects())
      candidate_weights_ = memory_.candidate_weights.resize(std::max<std::int64_t>(places, 1), stream_);
    write_candidates(may_be_double);
  }

  void write_candidates(bool may_be_double) {
    if (!always_double()) job_.pass.candidates(work_, candidates_, memory_.pass, stream_);
    if (may_be_double) cuda_check(launch_rows_f64(batch_, work_.states, candidates_, stream_), "rows_f64");
  }

  void finish() {
    // Where the answer stays on the device, its rows are written where they stay.
    const bool keeps = job_.keeps_on_device;
    const std::int64_t kinds = p_.stats.entropy ? 4 : 3;
    if (keeps) {
      result_.on_device.offsets = DeviceBuffer<std::int64_t>(rows_ + 1, stream_);
      result_.rows_on_device = {DeviceBuffer<double>(kinds * rows_, stream_),
                                DeviceBuffer<std::int32_t>(rows_, stream_)};
    }
    double* const figures =
        keeps ? result_.rows_on_device.figures.data() : memory_.figures.resize(kinds * rows_, stream_);
    RowResults results;
    results.logsumexp = figures;
    results.maximum = figures + rows_;
    results.kept_mass = figures + 2 * rows_;
    results.entropy = p_.stats.entropy ? figures + 3 * rows_ : nullptr;
    results.max_key = keeps ? result_.rows_on_device.max_keys.data() : memory_.max_keys.resize(rows_, stream_);
    results.eps = memory_.row_eps.resize(rows_, stream_);
    offsets_ = results.offsets = keeps ? result_.on_device.offsets.data() : memory_.offsets.resize(rows_ + 1, stream_);
    std::int64_t* const counts = memory_.edge_counts.resize(rows_, stream_);
    void* const scan = memory_.scan.resize(static_cast<std::int64_t>(exclusive_scan_scratch_bytes(rows_)), stream_);
    FinishReport* const report = &reinterpret_cast<BatchVerdict*>(memory_.verdict.data())->report;
    cuda_check(launch_finish_rows(batch_, work_.states, candidates_, candidate_weights_, results, counts, report,
                                  work_.given_logsumexp, stream_),
               "finish_rows");
    if (job_.selects()) {
      cuda_check(launch_select_rows(rows_, p_.keys(), candidates_, candidate_weights_, p_.selection.top_k,
                                    p_.selection.mass, counts, results.kept_mass, stream_),
                 "select_rows");
    }
    cuda_check(launch_exclusive_scan(counts, results.offsets, rows_, scan, stream_), "exclusive_scan");
    guess_edges();

    const SettledLane before_they_go(lane_);
    bring_verdict();
    if (keeps) {
      download(result_.offsets.resize(1), results.offsets + rows_, 1, stream_, "the number of edges");
      return;
    }
    download(result_.offsets.resize(rows_ + 1), results.offsets, rows_ + 1, stream_, "offsets");
    download(result_.figures.resize(kinds * rows_), figures, kinds * rows_, stream_, "row statistics");
    download(result_.max_keys.resize(rows_), results.max_key, rows_, stream_, "row statistics");
    download(result_.row_eps.resize(rows_), results.eps, rows_, stream_, "row statistics");
  }

  // The edges of a batch like the last one are copied before their number is known here: as many as there is room for.
  void guess_edges() {
    if (memory_.last_rows != rows_) return;
    const std::int64_t room = memory_.last_edges + memory_.last_edges / 8 + 1024;
    if (room > kMostGuessed) return;
    make_edges(room);
    copy_edges(room);
    guessed_ = room;
  }

  void make_edges(std::int64_t room) {
    if (job_.keeps_on_device) {
      DeviceEdges& own = result_.on_device;
      own.keys = DeviceBuffer<std::int32_t>(room, stream_);
      own.weights = DeviceBuffer<float>(room, stream_);
      edge_keys_ = own.keys.data();
      edge_weights_ = own.weights.data();
    } else {
      edge_keys_ = memory_.edge_keys.resize(room, stream_);
      edge_weights_ = memory_.edge_weights.resize(room, stream_);
    }
  }

  void copy_edges(std::int64_t room) {
    if (room == 0) return;
    cuda_check(launch_copy_edges(rows_, candidates_, offsets_, room, edge_keys_, edge_weights_, stream_), "copy_edges");
  }

  void bring_verdict() {
    const std::int64_t bytes = BatchVerdict::bytes(batch_.count);
    download(result_.verdict.resize(bytes), memory_.verdict.data(), bytes, stream_, "what is known of the batch");
  }
  const FinishReport& finish_report() const {
    return reinterpret_cast<const BatchVerdict*>(result_.verdict.data())->report;
  }
  const ChunkFacts* chunk_facts() const {
    return reinterpret_cast<const ChunkFacts*>(result_.verdict.data() + BatchVerdict::facts_at());
  }

  // The first fault in the order of the answer, by kinds as they are looked for.
  void judge() {
    const FinishReport& report = finish_report();
    RunReport& said = result_.report;
    for (std::int32_t n = 0; n < batch_.count; ++n) {
      const ChunkFacts& facts = chunk_facts()[n];
      const ChunkSpan& span = rows_of_.spans[idx(n)];
      const HeadGroup& group = job_.group_of(span);
      const bool is_error = p_.nonfinite == Nonfinite::kError;
      if (facts.bad_keys > 0 && is_error)
        fail_nonfinite(p_.k, "k", group.batch, group.key_head, facts.first_bad_key, lane_);
      const double product = facts.query_norm * facts.key_norm, bound = std::abs(p_.scale) * product;
      if (!(bound <= kScoreLimit) || !(product <= kScoreLimit)) {
        fail(Status::kRange, "scores of batch {}, key head {} may reach {:g}; the limit is {:g}: scale down the input",
             group.batch, group.key_head, std::max(bound, product), kScoreLimit);
      }
      if (p_.logsumexp && p_.softcap == 0 && bound > kMostWithLogsumexp) {
        fail(Status::kRange,
             "scores of batch {}, key head {} may reach {:g}, and lse is given: above {:g} double cannot tell their "
             "weights; leave lse out, or scale down the input",
             group.batch, group.key_head, bound, kMostWithLogsumexp);
      }
      if (facts.bad_queries > 0 && is_error) {
        fail_nonfinite(p_.q, "q", group.batch, job_.head_of(span, facts.first_bad_query / p_.queries()),
                       facts.first_bad_query % p_.queries(), lane_);
      }
      said.skipped_nonfinite += facts.bad_queries;
      // Keys are counted once, with the first rows of their head.
      if (span.first == 0 && span.query_begin == p_.query_begin) said.skipped_nonfinite += facts.bad_keys;
    }
    if (report.logsumexp.found()) {
      const BatchRows::Place at = rows_of_.place(job_, report.logsumexp.place());
      fail(Status::kNonfinite, "lse holds NaN at batch {}, head {}, query {}; a logsumexp is a number", at.batch,
           at.head, at.query);
    }
    if (report.mask.found()) {
      const BatchRows::Place at = rows_of_.place(job_, report.mask.place() / p_.keys());
      fail(Status::kNonfinite, "mask holds {} at batch {}, head {}, query {}, key {}; a bias is finite or -inf",
           report.mask.value, at.batch, at.head, at.query, report.mask.place() % p_.keys());
    }
    if (report.rows_overflowed > 0) {
      fail(Status::kInternal, "{} rows of batch {} have more candidates than their bound allows",
           report.rows_overflowed, job_.group_of(rows_of_.spans.front()).batch);
    }
    if (report.weight.found()) {
      const BatchRows::Place at = rows_of_.place(job_, report.weight.place() / p_.keys());
      fail(Status::kRange,
           "the weight of batch {}, head {}, query {}, key {} is exp({:g}); the given lse is not that of these scores",
           at.batch, at.head, at.query, report.weight.place() % p_.keys(), report.weight.value);
    }
    said.eps = report.eps();
    said.borderline = static_cast<std::int64_t>(report.borderline);
    said.rows_fp64 = static_cast<std::int64_t>(report.rows_fp64);
  }

  void hand_over_weights() {
    for (std::int32_t n = 0; n < batch_.count; ++n) {
      const ChunkSpan& span = rows_of_.spans[idx(n)];
      const HeadGroup& group = job_.group_of(span);
      if (chunk_facts()[n].in_double()) {
        fail(
            Status::kUnsupported,
            "weights of batch {}, head {} need double precision, which dense weights do not have; scale down the input",
            group.batch, job_.head_of(span, 0));
      }
      const std::int64_t size = span.queries * p_.keys();
      for (std::int64_t g = 0; g < work_.chunks[idx(n)].heads && size > 0; ++g) {
        // The caller's tensor is const in a view, but it was given to be written.
        auto* const to = const_cast<std::byte*>(job_.weights->at(group.batch, job_.head_of(span, g), span.query_begin));
        const float* const from = work_.dense.data + (work_.chunks[idx(n)].first_row + g * span.queries) * p_.keys();
        cuda_check(
            cudaMemcpyAsync(to, from, static_cast<std::size_t>(size) * sizeof(float),
                            job_.weights->device < 0 ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice, stream_),
            "copying the weights");
      }
    }
  }

  // Edges and sums to where they are wanted.
  void hand_over() {
    const std::int64_t edges = result_.offsets[job_.keeps_on_device ? 0 : rows_];
    memory_.last_rows = rows_;
    memory_.last_edges = edges;
    const SettledLane before_they_go(lane_);
    if (guessed_ < edges) {
      make_edges(edges);
      copy_edges(edges);
    }
    if (job_.keeps_on_device) {
      result_.on_device.keys.shorten(edges);
      result_.on_device.weights.shorten(edges);
      result_.keys.resize(0);
      result_.weights.resize(0);
    } else {
      download(result_.keys.resize(edges), edge_keys_, edges, stream_, "edges");
      download(result_.weights.resize(edges), edge_weights_, edges, stream_, "edges");
    }
    if (job_.wants_sums()) add_up();
    result_.row_count = job_.keeps_on_device ? 0 : rows_;
    result_.stats = {};
    if (!job_.keeps_on_device) {
      result_.stats =
          stats_of(rows_, result_.figures.data(), p_.stats.entropy, result_.max_keys.data(), result_.row_eps.data());
    }
    if (!job_.keeps_on_device || job_.wants_sums() || job_.weights != nullptr) lane_.wait(poll_);
    if (job_.wants_sums()) take_sums();
  }

  void add_up() {
    const SliceSums shape = empty_sums(p_, p_.keys());
    const auto columns = static_cast<std::int64_t>(shape.received.size());
    const auto distances = static_cast<std::int64_t>(shape.distances.size());
    const std::int64_t count = batch_.heads * (columns + distances);
    double* const values = memory_.sums.resize(count, stream_);
    if (count > 0) cuda_check(cudaMemsetAsync(values, 0, memory_.sums.bytes(), stream_), "clearing the sums");
    DeviceSums sums;
    sums.received = columns > 0 ? values : nullptr;
    sums.distances = distances > 0 ? values + batch_.heads * columns : nullptr;
    sums.distance_begin = shape.distance_begin;
    sums.distance_count = distances;
    if (count > 0) cuda_check(launch_sums(batch_, work_.states, sums, stream_), "sums");
    download(result_.sum_values.resize(count), values, count, stream_, "sums");
  }

  void take_sums() {
    result_.sums.assign(idx(batch_.heads), empty_sums(p_, p_.keys()));
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

  const ExtractJob& job_;
  const Problem& p_;
  const CudaPlan& cuda_;
  const BatchRows rows_of_;
  Lane& lane_;
  LaneMemory& memory_;
  const Poll& poll_;
  BatchResult& result_;
  const cudaStream_t stream_;
  PassWork work_;
  Batch batch_;
  std::int64_t rows_ = 0;
  std::vector<double> sinks_;
  Candidates candidates_;
  double* candidate_weights_ = nullptr;
  std::int64_t* offsets_ = nullptr;  // of the edges, [rows + 1]
  std::int32_t* edge_keys_ = nullptr;
  float* edge_weights_ = nullptr;
  std::int64_t guessed_ = -1;  // edges that there is room for already; -1: there is none
};

}  // namespace

void run_batch(const ExtractJob& job, std::span<const ChunkSpan> spans, Lane& lane, const Poll& poll,
               BatchResult& result) {
  BatchRun(job, spans, lane, poll, result).run();
}

}  // namespace ag::cuda
