// SPDX-License-Identifier: Apache-2.0
// What is asked. src/api builds it from the caller's structs and has checked every shape and value; backends may rely
// on it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "mask.hpp"
#include "score.hpp"
#include "tensor_view.hpp"

namespace ag {

inline constexpr std::int64_t kMaxHeadDim = 512;

// The conditions hold together; each is a prefix of the row's keys in order (weight descending, key ascending).
struct Selection {
  double threshold = 0;         // 0: none
  std::int64_t top_k = 0;       // 0: none
  double mass = 0;              // 0: none
  std::uint64_t max_edges = 0;  // 0: no limit; kept by a sink, not by backends
};

struct StatsRequest {
  bool entropy = false;
  bool columns = false;
  bool distances = false;
  bool tokens = false;  // kept by graph/token_sums.hpp, not by backends
};

enum class Nonfinite { kError, kSkip };

// What Q/K and matrix problems share.
struct Request {
  MaskRules mask;
  Selection selection;
  StatsRequest stats;
  Nonfinite nonfinite = Nonfinite::kError;
  std::int64_t query_begin = 0;  // rows [query_begin, query_end) of Nq; positions stay global
  std::int64_t query_end = 0;
  std::vector<std::int64_t> heads;  // query heads, ascending, never empty unless Hq == 0
  std::int64_t layer = 0;
  void* stream = nullptr;  // of CUDA: inputs in device memory are ready when the work queued on it is done
};

class KeptKeys;

struct Problem : Request {
  TensorView q;  // [B, Hq, Nq, D] f64, f32, f16 or bf16
  TensorView k;  // [B, Hkv, Nk, D], same dtype
  double scale = 1;
  double softcap = 0;         // 0: none
  std::vector<double> alibi;  // [B][Hq] slopes of distance, or empty
  TensorView sinks;           // none, or [B, Hq] (stride 0 over B when shared)
  TensorView logsumexp;       // none, or [B, Hq, Nq]
  double logsumexp_unit = 1;  // ln(base): stored value * unit is natural
  KeptKeys* kept = nullptr;   // k is what it holds; null: nobody has looked at k before

  std::int64_t batch() const { return q.shape[0]; }
  std::int64_t query_heads() const { return q.shape[1]; }
  std::int64_t key_heads() const { return k.shape[1]; }
  std::int64_t queries() const { return q.shape[2]; }
  std::int64_t keys() const { return k.shape[2]; }
  std::int64_t head_dim() const { return q.shape[3]; }
  std::int64_t key_head_of(std::int64_t h) const { return h / (query_heads() / key_heads()); }
  ScoreRule score_rule() const { return {scale, softcap}; }
  double slope(std::int64_t b, std::int64_t h) const {
    return alibi.empty() ? 0.0 : alibi[static_cast<std::size_t>(b * query_heads() + h)];
  }
};

// The query heads of one (batch, key head): they share keys, and what is known of them.
struct HeadGroup {
  std::int64_t batch = 0;
  std::int64_t key_head = 0;
  std::vector<std::int64_t> heads;
};

// All heads of the problem, in order.
inline std::vector<HeadGroup> head_groups(const Problem& problem) {
  std::vector<HeadGroup> groups;
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

// No pair of the problem is further apart: positions of queries against keys, and what the largest slope makes of it.
inline double most_alibi_bias(const Problem& problem) {
  double slope = 0;
  for (const double each : problem.alibi) slope = std::max(slope, std::abs(each));
  const std::int64_t first = problem.mask.query_offset, keys = problem.keys();
  return slope * static_cast<double>(std::max({std::abs(first), std::abs(first - keys), first + problem.queries()}));
}

struct MatrixProblem : Request {
  TensorView weights;  // [B, H, Nq, Nk] f64, f32, f16 or bf16

  std::int64_t batch() const { return weights.shape[0]; }
  std::int64_t query_heads() const { return weights.shape[1]; }
  std::int64_t queries() const { return weights.shape[2]; }
  std::int64_t keys() const { return weights.shape[3]; }
};

}  // namespace ag
