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

constexpr int kThreads = 256;
constexpr int kRows = kThreads / kScorePartials;  // of a block
// Products of a row at a time, so that their keys come while others wait.
template <DType kType>
inline constexpr int kTogether = kType == DType::kF64 ? 2 : 4;
constexpr double kRoundoff = 0x1p-53;

// A team is the kScorePartials lanes that work on a row; a warp has four. Teams of a warp go together, so that all of
// its lanes take part in every shuffle: one without a row is idle.
struct Team {
  int first, member;  // lanes of the warp, of the team
  __device__ Team()
      : first(static_cast<int>(threadIdx.x) % 32 / kScorePartials * kScorePartials),
        member(static_cast<int>(threadIdx.x) % kScorePartials) {}
  __device__ unsigned ballot(bool x) const {
    return __ballot_sync(kAllLanes, x) >> first & ((1u << kScorePartials) - 1);
  }
  template <class T>
  __device__ T from(T x, int of) const {
    return __shfl_sync(kAllLanes, x, first + of);
  }
};

// The keys that query i may see, counted as far as it takes to know whether there are more than `enough`; of the teams
// that are `asked`.
__device__ __forceinline__ std::int64_t count_allowed(const Team& team, bool asked, const MaskView& mask,
                                                      std::int64_t head, std::int64_t i, std::int64_t enough) {
  const DeviceKeyRange range = asked ? key_range(mask, i) : DeviceKeyRange{0, 0};
  std::int64_t allowed = 0, first = range.begin;
  while (__any_sync(kAllLanes, first < range.end && allowed <= enough)) {
    const std::int64_t j = first + team.member;
    allowed += __popc(team.ballot(j < range.end && tensor_bias(mask, head, i, j) > -infinity_f64()));
    first += kScorePartials;
  }
  return allowed;
}

// What the candidates of a row come to: of one lane, then of the team.
struct Tally {
  std::int32_t candidates = 0, edges = 0, borderline = 0;
  bool all_equal = true;  // in score, all of them
  double maximum = 0;
  std::int32_t max_key = 0;
  ExactSum kept;

  __device__ void see(double score, std::int32_t key) {
    if (score > maximum || (score == maximum && key < max_key)) {
      maximum = score;
      max_key = key;
    }
  }

  __device__ void merge(const Team& team) {
    for (int step = kScorePartials / 2; step > 0; step /= 2) {
      const double other_maximum = __shfl_xor_sync(kAllLanes, maximum, step);
      see(other_maximum, __shfl_xor_sync(kAllLanes, max_key, step));
      kept.add(ExactSum{__shfl_xor_sync(kAllLanes, kept.high, step), __shfl_xor_sync(kAllLanes, kept.low, step)});
      candidates += __shfl_xor_sync(kAllLanes, candidates, step);
      edges += __shfl_xor_sync(kAllLanes, edges, step);
      borderline += __shfl_xor_sync(kAllLanes, borderline, step);
    }
    all_equal = team.ballot(!all_equal) == 0;
  }
};

// A team a row; each of its lanes decides a candidate, whose product all of them have made.
template <DType kType>
__global__ void __launch_bounds__(kThreads, 2)
    finish_rows_kernel(Batch batch, RowStates states, Candidates candidates, double* weights_f64, RowResults results,
                       std::int64_t* edge_counts, FinishReport* report) {
  ATTNGRAPH_SHARED(s_eps, double[kThreads / 32]);
  const Team team;
  const bool speaks = team.member == 0;
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kRows + threadIdx.x / kScorePartials;
  const bool in_batch = n < batch.count * batch.most_rows;
  const ChunkPlace at(in_batch ? n : 0, batch.most_rows);
  const Chunk& chunk = batch.chunks[at.chunk];
  const bool exists = in_batch && at.unit < chunk.rows();
  const std::int64_t local = exists ? at.unit : 0;
  const std::int64_t row = chunk.first_row + local;
  const std::int64_t g = local / chunk.queries, head = chunk.head_ids[g];
  const std::int64_t i = chunk.query_begin + (local - g * chunk.queries);
  const ChunkFacts& facts = batch.facts[at.chunk];
  const BandModel& model = facts.model();

  const double sink = chunk.sink != nullptr ? chunk.sink[g] : -infinity_f64();
  const bool is_given = chunk.given_logsumexp != nullptr;
  const double given = is_given ? chunk.given_logsumexp[local] : 0.0;
  const double norm = chunk.norm_of(local);
  // A team without a row must not read what the row's own team writes.
  const double sum = exists ? states.sum[row] : 0.0, reference = exists ? states.reference[row] : 0.0;
  const std::int32_t pass_max_key = exists ? states.max_key[row] : -1;
  const CandidateRow place = candidate_row(candidates, row);
  const std::int32_t counted = candidates.count[row];
  const bool overflows = counted > place.capacity;
  const std::int32_t count = !exists ? 0 : overflows ? static_cast<std::int32_t>(place.capacity) : counted;
  std::int32_t* const own_keys = candidates.keys + place.begin;
  float* const own_scores = candidates.scores + place.begin;
  const bool empty = !(norm == norm) || fabs(given) == infinity_f64() || !(sum > 0);
  __syncwarp();  // whoever speaks writes the states, which all have read
  if (exists && speaks && facts.in_double()) atomicAdd(&report->rows_fp64, 1ull);

  // The denominator stays reference + rest: at scores of 1e30 their sum could not tell one key from two equal ones.
  const double own_rest = log(sum);
  const double rest = is_given                 ? given - reference
                      : sink > -infinity_f64() ? log_add(own_rest, sink - reference)
                                               : own_rest;
  const double logsumexp = is_given ? given : reference + rest;
  // The pass knew the maximum in its own precision; where its key is an edge, the candidates correct it.
  const bool has_maximum = pass_max_key >= 0 && pass_max_key < batch.keys;  // anything else is a bug of the pass
  const std::int32_t max_key = has_maximum ? pass_max_key : 0;
  const bool works = exists && !empty;
  Tally tally;
  tally.max_key = max_key;
  const double max_bias = works ? pair_bias(chunk.mask, head, i, max_key) : 0.0;
  const PairDots<kType> pair_dots(chunk, head, i);
  const std::int32_t maximum_key[1] = {works ? max_key : -1};
  double maximum_dot[1];
  pair_dots(maximum_key, maximum_dot);
  const double pass_maximum = score_of(chunk, maximum_dot[0], max_bias);
  tally.maximum = pass_maximum;
  const double eps = works ? model.eps(norm, pass_maximum) + 8 * kRoundoff * fabs(logsumexp) : 0.0;
  const double band = model.band(norm) + 2 * model.bias_error(pass_maximum);

  for (std::int32_t base = 0; __any_sync(kAllLanes, base < count); base += kScorePartials) {
    const std::int32_t own = base + team.member;
    const bool present = own < count;
    std::int32_t stored_key = -1;
    bool ruled_out = true;
    if (present) {
      stored_key = own_keys[own];
      // What the final sum rules out costs no product. The pass may have had a score of more digits than float stores.
      ruled_out = !works;
      if (works && candidates.scored) {
        const double stored = kLn2 * static_cast<double>(own_scores[own]);
        const double slack = band + 0x1p-22 * fabs(stored);
        ruled_out = edge_margin(stored - reference, rest, chunk.log_threshold) < -slack;
      }
    }
    const std::int32_t key = ruled_out ? -1 : stored_key;
    double dot = 0;
#pragma unroll 1
    for (int m = 0; m < kScorePartials; m += kTogether<kType>) {
      std::int32_t keys[kTogether<kType>];
      bool wanted = false;
#pragma unroll
      for (int n = 0; n < kTogether<kType>; ++n) {
        keys[n] = team.from(key, m + n);
        wanted = wanted || keys[n] >= 0;
      }
      if (!__any_sync(kAllLanes, wanted)) continue;
      double dots[kTogether<kType>];
      pair_dots(keys, dots);
#pragma unroll
      for (int n = 0; n < kTogether<kType>; ++n) dot = team.member == m + n ? dots[n] : dot;
    }
    if (!present) continue;
    if (empty) {
      if (stored_key >= 0) own_keys[own] = ~stored_key;
      continue;
    }
    ++tally.candidates;
    bool edge = false;
    double weight = 0;
    if (key >= 0) {
      const double score = score_of(chunk, dot, pair_bias(chunk.mask, head, i, key));
      const double margin = edge_margin(score - reference, rest, chunk.log_threshold);
      edge = is_edge(margin);
      tally.borderline += fabs(margin) <= eps ? 1 : 0;
      weight = exp((score - reference) - rest);
      // A probability that rounding carried past 1 is 1. A given logsumexp may be that of other scores: then it shows.
      if (!is_given) weight = fmin(weight, 1.0);
      tally.see(score, key);
      tally.all_equal = tally.all_equal && score == pass_maximum;
    } else {
      tally.all_equal = false;
    }
    if (edge) {
      ++tally.edges;
      tally.kept.add(weight);
      if (!(weight <= static_cast<double>(FLT_MAX))) {
        atomicMax(&report->weight.inverse_place, ~static_cast<unsigned long long>(row * batch.keys + key));
      }
    }
    own_scores[own] = static_cast<float>(weight);
    if (weights_f64 != nullptr) weights_f64[place.begin + own] = weight;
    if (!edge) own_keys[own] = ~stored_key;
  }
  tally.merge(team);
  double kept_mass = tally.kept.value();

  // The tie rule: nothing but these keys is in the denominator, and all of them are equal.
  const bool may_be_uniform = works && tally.all_equal && tally.candidates > 0 && !is_given && sink == -infinity_f64();
  if (__any_sync(kAllLanes, may_be_uniform)) {
    const std::int64_t allowed = count_allowed(team, may_be_uniform, chunk.mask, head, i, tally.candidates);
    if (may_be_uniform && allowed == tally.candidates) {
      const bool edge = is_uniform_row_edge(tally.candidates, chunk.threshold);
      const double weight = 1.0 / static_cast<double>(tally.candidates);
      for (std::int32_t own = team.member; own < count; own += kScorePartials) {
        const std::int32_t key = own_keys[own];
        own_scores[own] = static_cast<float>(weight);
        if (weights_f64 != nullptr) weights_f64[place.begin + own] = weight;
        own_keys[own] = (key < 0) == edge ? ~key : key;
      }
      tally.edges = edge ? tally.candidates : 0;
      tally.borderline = 0;
      kept_mass = edge ? static_cast<double>(tally.candidates) * weight : 0.0;
    }
  }

  if (exists && speaks) {
    edge_counts[row] = empty ? 0 : tally.edges;
    // Of an empty row, exp(sink) is all that is left of the denominator.
    results.logsumexp[row] = !empty ? logsumexp : is_given ? -infinity_f64() : sink;
    results.maximum[row] = !empty ? tally.maximum : -infinity_f64();
    results.max_key[row] = !empty ? tally.max_key : -1;
    results.kept_mass[row] = !empty ? kept_mass : 0;
    results.eps[row] = __double2float_ru(eps);
    if (results.entropy != nullptr) {
      double entropy = 0;
      if (!empty) {
        // Of the keys' own softmax, rescaled to the denominator in use, plus the sink's term.
        entropy = exp(own_rest - rest) * (rest - states.weighted[row] / states.sum[row]);
        if (sink > -infinity_f64()) entropy += exp(sink - logsumexp) * (logsumexp - sink);
      }
      results.entropy[row] = entropy;
    }
    states.reference[row] = !empty ? reference : 0;
    states.sum[row] = !empty ? rest : 0;
    states.max_key[row] = !empty ? tally.max_key : -1;
    if (works && tally.borderline > 0) {
      atomicAdd(&report->borderline, static_cast<unsigned long long>(tally.borderline));
    }
    if (works && (overflows || !has_maximum)) atomicAdd(&report->rows_overflowed, 1ull);
  }

  // One atomic a block: all of them go to one address. Bits of doubles that are not negative have the order of their
  // values.
  const double of_warp = warp_max(eps);
  if (threadIdx.x % 32 == 0) s_eps[threadIdx.x / 32] = of_warp;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double of_block = s_eps[0];
  for (int w = 1; w < kThreads / 32; ++w) of_block = s_eps[w] > of_block ? s_eps[w] : of_block;
  atomicMax(&report->eps_bits, static_cast<unsigned long long>(__double_as_longlong(of_block)));
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
  const cudaLaunchConfig_t config = launch_config(blocks_for(batch.count * batch.most_rows, kRows), kThreads, stream);
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
