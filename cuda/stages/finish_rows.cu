// SPDX-License-Identifier: Apache-2.0
// Rows after their score pass: splits merged, every candidate decided again in double, statistics.
#include <cfloat>

#include "../device/exact_sum.cuh"
#include "../device/launch.hpp"
#include "candidates.cuh"
#include "chunk_place.cuh"
#include "core/edge_rule.hpp"
#include "score_f64.cuh"
#include "stages.hpp"

namespace ag::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kGroups = 32 / kScorePartials;  // candidates at a time
constexpr double kRoundoff = 0x1p-53;

// The keys that query i may see, counted as far as it takes to know whether there are more than `enough`.
__device__ __forceinline__ std::int64_t count_allowed(const MaskView& mask, std::int64_t head, std::int64_t i,
                                                      std::int64_t enough) {
  const DeviceKeyRange range = key_range(mask, i);
  std::int64_t allowed = 0;
  for (std::int64_t first = range.begin; first < range.end && allowed <= enough; first += 32) {
    const std::int64_t j = first + threadIdx.x % 32;
    const bool is_allowed = j < range.end && tensor_bias(mask, head, i, j) > -infinity_f64();
    allowed += __popc(__ballot_sync(kAllLanes, is_allowed));
  }
  return allowed;
}

// A candidate in the hands of the kScorePartials lanes of its group, of which the first alone touches memory.
struct Candidate {
  std::int64_t at = 0;  // in the arrays
  bool present = false;
  std::int32_t key = -1;
  float score = 0;
};

// f(candidate) for all of a row, kGroups at a time; every lane calls it equally often.
template <class F>
__device__ __forceinline__ void for_each_candidate(const Candidates& candidates, const CandidateRow& place,
                                                   std::int64_t count, F&& f) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int speaker = lane / kScorePartials * kScorePartials;
  for (std::int64_t n = 0; n < count; n += kGroups) {
    Candidate c;
    c.present = n + lane / kScorePartials < count;
    c.at = place.begin + n + lane / kScorePartials;
    if (c.present && lane == speaker) {
      c.key = candidates.keys[c.at];
      c.score = candidates.scores[c.at];
    }
    c.key = __shfl_sync(kAllLanes, c.key, speaker);
    c.score = __shfl_sync(kAllLanes, c.score, speaker);
    f(c);
  }
}

// What the candidates of a row come to: of one group of lanes, then of the warp.
struct Tally {
  std::int64_t candidates = 0, edges = 0;
  unsigned borderline = 0;
  bool all_equal = true;  // in score, all of them
  double maximum = 0;
  std::int64_t max_key = 0;
  ExactSum kept;

  __device__ void see(double score, std::int64_t key) {
    if (score > maximum || (score == maximum && key < max_key)) {
      maximum = score;
      max_key = key;
    }
  }

  __device__ void merge_groups() {
    for (int step = 16; step >= kScorePartials; step /= 2) {
      const double other_maximum = __shfl_xor_sync(kAllLanes, maximum, step);
      see(other_maximum, __shfl_xor_sync(kAllLanes, max_key, step));
      kept.add(ExactSum{__shfl_xor_sync(kAllLanes, kept.high, step), __shfl_xor_sync(kAllLanes, kept.low, step)});
      candidates += __shfl_xor_sync(kAllLanes, candidates, step);
      edges += __shfl_xor_sync(kAllLanes, edges, step);
      borderline += __shfl_xor_sync(kAllLanes, borderline, step);
    }
    all_equal = __all_sync(kAllLanes, all_equal);
  }
};

// A warp a row.
template <DType kType>
__global__ void __launch_bounds__(kThreads, 4)
    finish_rows_kernel(Batch batch, RowStates states, Candidates candidates, double* weights_f64, RowResults results,
                       std::int64_t* edge_counts, FinishReport* report) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool speaks = lane % kScorePartials == 0;  // for its group
  const std::int64_t n = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (n >= batch.count * batch.most_rows) return;
  const ChunkPlace at(n, batch.most_rows);
  const Chunk& chunk = batch.chunks[at.chunk];
  const std::int64_t local = at.unit;
  if (local >= chunk.rows()) return;
  const std::int64_t row = chunk.first_row + local;
  const std::int64_t g = local / chunk.queries, head = chunk.head_ids[g];
  const std::int64_t i = chunk.query_begin + (local - g * chunk.queries);
  const ChunkFacts& facts = batch.facts[at.chunk];
  const BandModel& model = facts.model();

  const double sink = chunk.sink != nullptr ? chunk.sink[g] : -infinity_f64();
  const bool is_given = chunk.given_logsumexp != nullptr;
  const double given = is_given ? chunk.given_logsumexp[local] : 0.0;
  const double norm = chunk.norm_of(local);
  const double sum = states.sum[row], reference = states.reference[row];
  const double weighted = states.weighted != nullptr ? states.weighted[row] : 0.0;
  const std::int32_t pass_max_key = states.max_key[row];
  const CandidateRow place = candidate_row(candidates, row);
  const std::int64_t counted = candidates.count[row];
  const std::int64_t count = counted < place.capacity ? counted : place.capacity;
  const bool empty = !(norm == norm) || fabs(given) == infinity_f64() || !(sum > 0);
  __syncwarp();  // lane 0 writes the states, which all have read
  if (lane == 0 && facts.in_double()) atomicAdd(&report->rows_fp64, 1ull);

  if (empty) {
    for_each_candidate(candidates, place, count, [&](const Candidate& c) {
      if (c.present && c.key >= 0 && speaks) candidates.keys[c.at] = ~c.key;
    });
    if (lane != 0) return;
    edge_counts[row] = 0;
    // exp(sink) is all that is left of the denominator.
    results.logsumexp[row] = is_given ? -infinity_f64() : sink;
    results.maximum[row] = -infinity_f64();
    results.max_key[row] = -1;
    results.kept_mass[row] = 0;
    results.eps[row] = 0;
    if (results.entropy != nullptr) results.entropy[row] = 0;
    states.reference[row] = 0;
    states.sum[row] = 0;
    states.max_key[row] = -1;
    return;
  }

  // The denominator stays reference + rest: at scores of 1e30 their sum could not tell one key from two equal ones.
  const double own_rest = log(sum);
  const double rest = is_given ? given - reference : log_add(own_rest, sink - reference);
  const double logsumexp = is_given ? given : reference + rest;
  // The pass knew the maximum in its own precision; where its key is an edge, the candidates correct it.
  const bool has_maximum = pass_max_key >= 0 && pass_max_key < batch.keys;  // anything else is a bug of the pass
  const std::int32_t max_key = has_maximum ? pass_max_key : 0;
  Tally tally;
  tally.max_key = max_key;
  const double max_bias = pair_bias(chunk.mask, head, i, max_key);
  const double pass_maximum = pair_score<kType>(chunk, head, i, max_key, max_bias);
  tally.maximum = pass_maximum;
  const double eps = model.eps(norm, pass_maximum) + 8 * kRoundoff * fabs(logsumexp);
  const double band = model.band(norm) + 2 * model.bias_error(pass_maximum);

  for_each_candidate(candidates, place, count, [&](const Candidate& c) {
    // What the final sum rules out costs no product. The pass may have had a score of more digits than float stores.
    const double stored = kLn2 * static_cast<double>(c.score);
    const double slack = band + 0x1p-22 * fabs(stored);
    const bool ruled_out = edge_margin(stored - reference, rest, chunk.log_threshold) < -slack;
    const std::int64_t key = c.present && !ruled_out ? c.key : -1;
    const double bias = key >= 0 ? pair_bias(chunk.mask, head, i, key) : 0.0;
    const double score = pair_score<kType>(chunk, head, i, key, bias);
    if (!c.present) return;
    ++tally.candidates;
    bool edge = false;
    double weight = 0;
    if (key >= 0) {
      const double margin = edge_margin(score - reference, rest, chunk.log_threshold);
      edge = is_edge(margin);
      tally.borderline += fabs(margin) <= eps;
      weight = exp((score - reference) - rest);
      // A probability that rounding carried past 1 is 1. A given logsumexp may be that of other scores: then it shows.
      if (!is_given) weight = fmin(weight, 1.0);
      tally.see(score, key);
    }
    tally.all_equal = tally.all_equal && key >= 0 && score == pass_maximum;
    if (edge) {
      ++tally.edges;
      tally.kept.add(weight);
    }
    if (!speaks) return;
    if (edge && !(weight <= static_cast<double>(FLT_MAX))) {
      atomicMax(&report->weight.inverse_place, ~static_cast<unsigned long long>(row * batch.keys + key));
    }
    candidates.scores[c.at] = static_cast<float>(weight);
    if (weights_f64 != nullptr) weights_f64[c.at] = weight;
    if (!edge) candidates.keys[c.at] = ~c.key;
  });
  tally.merge_groups();
  double kept_mass = tally.kept.value();

  // The tie rule: nothing but these keys is in the denominator, and all of them are equal.
  const bool may_be_uniform = tally.all_equal && tally.candidates > 0 && !is_given && sink == -infinity_f64();
  if (may_be_uniform && count_allowed(chunk.mask, head, i, tally.candidates) == tally.candidates) {
    const bool edge = is_uniform_row_edge(tally.candidates, chunk.threshold);
    const double weight = 1.0 / static_cast<double>(tally.candidates);
    for_each_candidate(candidates, place, count, [&](const Candidate& c) {
      if (!c.present || !speaks) return;
      candidates.scores[c.at] = static_cast<float>(weight);
      if (weights_f64 != nullptr) weights_f64[c.at] = weight;
      candidates.keys[c.at] = (c.key < 0) == edge ? ~c.key : c.key;
    });
    tally.edges = edge ? tally.candidates : 0;
    tally.borderline = 0;
    kept_mass = edge ? static_cast<double>(tally.candidates) * weight : 0.0;
  }

  if (lane != 0) return;
  edge_counts[row] = tally.edges;
  results.logsumexp[row] = logsumexp;
  results.maximum[row] = tally.maximum;
  results.max_key[row] = static_cast<std::int32_t>(tally.max_key);
  results.kept_mass[row] = kept_mass;
  results.eps[row] = __double2float_ru(eps);
  if (results.entropy != nullptr) {
    // Of the keys' own softmax, rescaled to the denominator in use, plus the sink's term.
    double entropy = exp(own_rest - rest) * (rest - weighted / sum);
    if (sink > -infinity_f64()) entropy += exp(sink - logsumexp) * (logsumexp - sink);
    results.entropy[row] = entropy;
  }
  states.reference[row] = reference;
  states.sum[row] = rest;
  states.max_key[row] = static_cast<std::int32_t>(tally.max_key);

  // Bits of doubles that are not negative have the order of their values.
  atomicMax(&report->eps_bits, static_cast<unsigned long long>(__double_as_longlong(eps)));
  if (tally.borderline > 0) atomicAdd(&report->borderline, static_cast<unsigned long long>(tally.borderline));
  if (counted > place.capacity || !has_maximum) atomicAdd(&report->rows_overflowed, 1ull);
}

// The logarithm of the weight that no float holds: only a given logsumexp of other scores makes one.
template <DType kType>
__global__ void describe_weight_fault_kernel(Batch batch, RowResults results, FinishReport* report) {
  if (report->weight.inverse_place == 0) return;
  const auto place = static_cast<std::int64_t>(~report->weight.inverse_place);
  const std::int64_t row = place / batch.keys, key = place % batch.keys;
  const Chunk& chunk = batch.chunks[chunk_of_row(batch, row)];
  const std::int64_t local = row - chunk.first_row;
  const std::int64_t head = chunk.head_ids[local / chunk.queries], i = chunk.query_begin + local % chunk.queries;
  const double score = pair_score<kType>(chunk, head, i, key, pair_bias(chunk.mask, head, i, key));
  if (threadIdx.x == 0) report->weight.value = score - results.logsumexp[row];
}

}  // namespace

cudaError_t launch_finish_rows(const Batch& batch, const RowStates& states, const Candidates& candidates,
                               double* d_weights_f64, const RowResults& results, std::int64_t* d_edge_counts,
                               FinishReport* d_report, bool given_logsumexp, cudaStream_t stream) {
  if (batch.rows == 0) return cudaSuccess;
  const std::int64_t warps = batch.count * batch.most_rows;
  const cudaLaunchConfig_t config = launch_config(blocks_for(warps, kThreads / 32), kThreads, stream);
  const cudaLaunchConfig_t one = launch_config(1, 32, stream);
  return with_float_dtype(batch.dtype, [&](auto type) {
    constexpr DType kType = decltype(type)::value;
    const cudaError_t code = cudaLaunchKernelEx(&config, finish_rows_kernel<kType>, batch, states, candidates,
                                                d_weights_f64, results, d_edge_counts, d_report);
    if (code != cudaSuccess || !given_logsumexp) return code;
    return cudaLaunchKernelEx(&one, describe_weight_fault_kernel<kType>, batch, results, d_report);
  });
}

}  // namespace ag::cuda
