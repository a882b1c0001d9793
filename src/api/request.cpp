// SPDX-License-Identifier: Apache-2.0
#include "request.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <numeric>

#include "../core/checked.hpp"
#include "caller_struct.hpp"
#include "guard.hpp"
#include "tensor_argument.hpp"

namespace ag::api {
namespace {

constexpr std::int64_t kMaxKeylessRows = std::int64_t{1} << 24;
constexpr std::int32_t kMaxThreads = 4096;
constexpr std::uint32_t kKnownStats =
    ATTNGRAPH_STATS_ENTROPY | ATTNGRAPH_STATS_COLUMNS | ATTNGRAPH_STATS_DISTANCES | ATTNGRAPH_STATS_TOKENS;
static_assert(ATTNGRAPH_STATS_HEADS == (ATTNGRAPH_STATS_ENTROPY | ATTNGRAPH_STATS_COLUMNS | ATTNGRAPH_STATS_DISTANCES));

constexpr auto kOptionStarts = ATTNGRAPH_FIELD_STARTS(
    attngraph_options, alibi, offsetof(attngraph_options, threshold), offsetof(attngraph_options, top_k),
    offsetof(attngraph_options, mass), offsetof(attngraph_options, max_edges), offsetof(attngraph_options, allow_dense),
    offsetof(attngraph_options, decision), offsetof(attngraph_options, scale), offsetof(attngraph_options, softcap),
    offsetof(attngraph_options, causal), offsetof(attngraph_options, nonfinite),
    offsetof(attngraph_options, query_offset), offsetof(attngraph_options, window),
    offsetof(attngraph_options, key_lengths), offsetof(attngraph_options, mask), offsetof(attngraph_options, sinks),
    offsetof(attngraph_options, lse), offsetof(attngraph_options, lse_base), offsetof(attngraph_options, stats),
    offsetof(attngraph_options, query_begin), offsetof(attngraph_options, query_end),
    offsetof(attngraph_options, heads), offsetof(attngraph_options, head_count), offsetof(attngraph_options, layer),
    offsetof(attngraph_options, backend), offsetof(attngraph_options, threads), offsetof(attngraph_options, products),
    offsetof(attngraph_options, stream), offsetof(attngraph_options, cancelled), offsetof(attngraph_options, progress),
    offsetof(attngraph_options, user), offsetof(attngraph_options, workspace_bytes),
    offsetof(attngraph_options, token_ids), offsetof(attngraph_options, word_ids), offsetof(attngraph_options, alibi));

void check_selection(const attngraph_options& o) {
  if (!std::isfinite(o.threshold) || o.threshold < 0)
    fail(Status::kArgument, "threshold is {}; it is a finite number, at least 0", o.threshold);
  if (o.top_k < 0) fail(Status::kArgument, "top_k is {}; it is at least 1, or 0 for no such condition", o.top_k);
  if (!(o.mass >= 0 && o.mass <= 1))
    fail(Status::kArgument, "mass is {}; it is in (0, 1], or 0 for no such condition", o.mass);
  check_switch(o.allow_dense, "allow_dense");
  if (o.decision != ATTNGRAPH_DECISION_FAST && o.decision != ATTNGRAPH_DECISION_CERTIFIED)
    fail(Status::kArgument, "decision is {}; this library knows {} (fast) and {} (certified)", o.decision,
         static_cast<int>(ATTNGRAPH_DECISION_FAST), static_cast<int>(ATTNGRAPH_DECISION_CERTIFIED));
}

void check_ways(const attngraph_options& o) {
  check_switch(o.nonfinite, "nonfinite");
  if ((o.stats & ~kKnownStats) != 0)
    fail(Status::kArgument, "stats has the unknown bits {:#x}; this library knows {:#x}", o.stats & ~kKnownStats,
         kKnownStats);
  if (o.threads < 0 || o.threads > kMaxThreads)
    fail(Status::kArgument, "threads is {}; it is 1 to {}, or 0 for all", o.threads, kMaxThreads);
  check_switch(o.products, "products");
  if (o.layer < 0) fail(Status::kArgument, "layer is {}; a label is at least 0", o.layer);
}

void check_mask_rules(const attngraph_options& o) {
  check_switch(o.causal, "causal");
  check_switch(o.lse_base, "lse_base");
  if (o.window < 0) fail(Status::kArgument, "window is {}; it is at least 1, or 0 for none", o.window);
  if (o.query_offset != ATTNGRAPH_ALIGN_BOTTOM_RIGHT &&
      (o.query_offset > kMaxPosition || o.query_offset < -kMaxPosition)) {
    fail(Status::kArgument, "query_offset is {}; it is between -2^60 and 2^60, or ATTNGRAPH_ALIGN_BOTTOM_RIGHT",
         o.query_offset);
  }
}

std::vector<std::int64_t> key_lengths(const attngraph_options& o, std::int64_t batch, std::int64_t keys) {
  if (o.key_lengths == nullptr) return {};
  std::vector<std::int64_t> lengths(o.key_lengths, o.key_lengths + batch);
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    if (lengths[b] < 0 || lengths[b] > keys)
      fail(Status::kArgument, "key_lengths[{}] is {}; there are {} keys", b, lengths[b], keys);
  }
  return lengths;
}

// Broadcast: sizes of 1 become the full size with stride 0.
TensorView mask_tensor(const attngraph_tensor* mask, const std::array<std::int64_t, 4>& full, Data data) {
  TensorView view = tensor_argument(mask, {"mask", 1, 4, kMaskTypes, data == Data::kNeeded});
  const std::string given = shape_text(view);
  for (std::size_t d = 0; d < full.size(); ++d) {
    if (view.shape[d] == full[d]) continue;
    if (view.shape[d] != 1) {
      fail(Status::kShape, "mask is {}; it must broadcast to [B, Hq, Nq, Nk] = [{}, {}, {}, {}]", given, full[0],
           full[1], full[2], full[3]);
    }
    view.shape[d] = full[d];
    view.strides[d] = 0;
  }
  return view;
}

std::vector<std::int64_t> chosen_heads(const attngraph_options& o, std::int64_t count) {
  if (o.heads == nullptr) {
    if (o.head_count != 0)
      fail(Status::kArgument, "head_count is {}, but heads is NULL; NULL with 0 means all", o.head_count);
    std::vector<std::int64_t> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    return all;
  }
  if (o.head_count < 1 || o.head_count > count) {
    fail(Status::kArgument, "head_count is {}; of {} query heads 1 to {} can be chosen, or all with heads = NULL",
         o.head_count, count, count);
  }
  std::vector<std::int64_t> heads(o.heads, o.heads + o.head_count);
  for (std::size_t n = 0; n < heads.size(); ++n) {
    if (heads[n] < 0 || heads[n] >= count)
      fail(Status::kArgument, "heads[{}] is {}; query heads are 0 to {}", n, heads[n], count - 1);
    if (n > 0 && heads[n] <= heads[n - 1])
      fail(Status::kArgument, "heads[{}] is {} after {}; heads ascend, each once", n, heads[n], heads[n - 1]);
  }
  return heads;
}

void check_sizes(std::int64_t queries, std::int64_t keys) {
  if (keys > kMaxKeys) fail(Status::kShape, "Nk is {}; the limit is {} keys", keys, kMaxKeys);
  if (queries > kMaxPosition) fail(Status::kShape, "Nq is {}; the limit is 2^60 queries", queries);
}

// What both kinds of problem share; shape is [B, Hq, Nq, Nk].
void fill_request(Request& request, const attngraph_options& o, const std::array<std::int64_t, 4>& shape, Data data) {
  const auto [batch, heads, queries, keys] = shape;
  check_sizes(queries, keys);
  // Strides of 0 can make more rows than there are numbers to count them.
  const std::int64_t rows = checked_mul(checked_mul(batch, heads, "B * Hq"), queries, "B * Hq * Nq");
  // Rows without a key have no byte behind them: a file of 128 bytes can claim any number.
  if (keys == 0 && rows > kMaxKeylessRows) {
    fail(Status::kShape, "there are {} rows, and not one key; the limit of such rows is {}", rows, kMaxKeylessRows);
  }

  request.mask.causal = o.causal != 0;
  request.mask.query_offset = o.query_offset == ATTNGRAPH_ALIGN_BOTTOM_RIGHT ? keys - queries : o.query_offset;
  request.mask.window = std::min(o.window, 4 * kMaxPosition - 1);
  request.mask.key_lengths = key_lengths(o, batch, keys);
  if (o.mask != nullptr) request.mask.tensor = mask_tensor(o.mask, shape, data);

  request.selection = {o.threshold, o.top_k, o.mass, o.max_edges};
  request.stats = {(o.stats & ATTNGRAPH_STATS_ENTROPY) != 0, (o.stats & ATTNGRAPH_STATS_COLUMNS) != 0,
                   (o.stats & ATTNGRAPH_STATS_DISTANCES) != 0, (o.stats & ATTNGRAPH_STATS_TOKENS) != 0};
  request.nonfinite = o.nonfinite == ATTNGRAPH_NONFINITE_SKIP ? Nonfinite::kSkip : Nonfinite::kError;

  const bool all = o.query_begin == 0 && o.query_end == 0;
  if (o.query_begin < 0 || o.query_end < o.query_begin || o.query_end > queries)
    fail(Status::kArgument, "the query range is {} to {}; it must be within 0 to {}, or 0 to 0 for all", o.query_begin,
         o.query_end, queries);
  request.query_begin = o.query_begin;
  request.query_end = all ? queries : o.query_end;
  request.heads = chosen_heads(o, heads);
  request.layer = o.layer;
  request.stream = o.stream;
}

void check_pair(const TensorView& q, const TensorView& k) {
  const auto both = [&](const char* what) {
    return fmt::format("{}: q is {}, k is {}", what, shape_text(q), shape_text(k));
  };
  if (q.dtype != k.dtype)
    fail(Status::kDType, "q is {} and k is {}; convert one of them", name_of(q.dtype), name_of(k.dtype));
  if (q.shape[0] != k.shape[0]) fail(Status::kShape, "{}", both("the batch sizes differ"));
  if (q.shape[3] != k.shape[3]) fail(Status::kShape, "{}", both("the head sizes D differ"));
  if (q.shape[3] < 1 || q.shape[3] > kLargestHeadDim)
    fail(Status::kShape, "the head size D is {}; it is 1 to {}", q.shape[3], kLargestHeadDim);
  const std::int64_t query_heads = q.shape[1], key_heads = k.shape[1];
  if (key_heads == 0 ? query_heads != 0 : query_heads % key_heads != 0)
    fail(Status::kShape, "{}", both("query heads must be a multiple of key heads"));
}

TensorView sinks_tensor(const attngraph_tensor* tensor, const Problem& problem, Data data) {
  TensorView view = tensor_argument(tensor, {"sinks", 1, 2, kFloatTypes, data == Data::kNeeded});
  if (view.shape[1] != problem.query_heads() || (tensor->ndim == 2 && view.shape[0] != problem.batch())) {
    fail(Status::kShape, "sinks is {}; it must be [Hq] or [B, Hq] with B = {}, Hq = {}", shape_text(view),
         problem.batch(), problem.query_heads());
  }
  view.shape[0] = problem.batch();  // the stride of a leading one is 0
  return view;
}

// Slopes of all batches. They are read here, once, so that everything behind it has them as they are.
std::vector<double> alibi_slopes(const attngraph_tensor* tensor, const Problem& problem, Data data) {
  const TensorView view = tensor_argument(tensor, {"alibi", 1, 2, kFloatTypes, data == Data::kNeeded});
  const std::int64_t batch = problem.batch(), heads = problem.query_heads();
  if (view.shape[1] != heads || (tensor->ndim == 2 && view.shape[0] != batch)) {
    fail(Status::kShape, "alibi is {}; it must be [Hq] or [B, Hq] with B = {}, Hq = {}", shape_text(view), batch,
         heads);
  }
  if (view.device >= 0)
    fail(Status::kUnsupported, "alibi is in the memory of CUDA device {}; slopes are read on the host: copy them there",
         view.device);
  const std::int64_t first = problem.mask.query_offset, end = first + problem.queries();
  if (first < -kMostAlibiPosition || end > kMostAlibiPosition || problem.keys() > kMostAlibiPosition) {
    fail(Status::kUnsupported,
         "alibi with queries at positions {} to {} and {} keys; distances are known for positions below 2^30", first,
         end - 1, problem.keys());
  }
  std::vector<double> slopes(static_cast<std::size_t>(batch * heads));  // zeros where there are no data
  if (view.data == nullptr) return slopes;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const double slope = load_double(view.dtype, view.at(tensor->ndim == 2 ? b : 0, h));
      if (!std::isfinite(slope))
        fail(Status::kNonfinite, "alibi holds {} at batch {}, head {}; a slope is finite", slope, b, h);
      slopes[static_cast<std::size_t>(b * heads + h)] = slope;
    }
  }
  return slopes;
}

TensorView logsumexp_tensor(const attngraph_tensor* tensor, const Problem& problem, Data data) {
  const TensorView view = tensor_argument(tensor, {"lse", 1, 3, kFloatTypes, data == Data::kNeeded});
  if (view.shape[0] != problem.batch() || view.shape[1] != problem.query_heads() ||
      view.shape[2] != problem.queries()) {
    fail(Status::kShape, "lse is {}; it must be [B, Hq, Nq] = [{}, {}, {}]", shape_text(view), problem.batch(),
         problem.query_heads(), problem.queries());
  }
  return view;
}

void check_qk_threshold(const attngraph_options& o) {
  if (o.threshold > 1) fail(Status::kArgument, "threshold is {}; softmax weights are at most 1", o.threshold);
  if (o.threshold == 0 && o.top_k == 0 && o.mass == 0 && o.allow_dense == 0) {
    fail(Status::kArgument,
         "threshold is 0, so every allowed pair would be an edge; give a threshold, top_k or mass, or set allow_dense");
  }
}

void check_matrix_options(const attngraph_options& o) {
  const char* const given = !std::isnan(o.scale) ? "scale"
                            : o.softcap != 0     ? "softcap"
                            : o.sinks != nullptr ? "sinks"
                            : o.lse != nullptr   ? "lse"
                            : o.alibi != nullptr ? "alibi"
                                                 : nullptr;
  if (given != nullptr) fail(Status::kArgument, "{} does not apply to a ready matrix; leave it out", given);
}

}  // namespace

attngraph_options read_options(const attngraph_options* options) {
  const attngraph_options o = read_struct<attngraph_options>(options, ATTNGRAPH_OPTIONS_INIT, "options",
                                                             "ATTNGRAPH_OPTIONS_INIT", kOptionStarts);
  check_selection(o);
  check_mask_rules(o);
  check_ways(o);
  return o;
}

Problem make_problem(const attngraph_tensor* q, const attngraph_tensor* k, const attngraph_options& o, Data data) {
  Problem problem;
  problem.q = tensor_argument(q, {"q", 2, 4, kFloatTypes, data == Data::kNeeded});
  problem.k = tensor_argument(k, {"k", 2, 4, kFloatTypes, data == Data::kNeeded});
  check_pair(problem.q, problem.k);
  check_qk_threshold(o);
  fill_request(problem, o, {problem.batch(), problem.query_heads(), problem.queries(), problem.keys()}, data);

  problem.scale = std::isnan(o.scale) ? 1 / std::sqrt(static_cast<double>(problem.head_dim())) : o.scale;
  if (std::isinf(problem.scale)) fail(Status::kArgument, "scale is {}; it is finite, or NaN for 1 / sqrt(D)", o.scale);
  problem.softcap = o.softcap;
  if (!std::isfinite(o.softcap) || o.softcap < 0)
    fail(Status::kArgument, "softcap is {}; it is finite and at least 0, where 0 means none", o.softcap);
  if (o.sinks != nullptr && o.lse != nullptr)
    fail(Status::kArgument, "sinks and lse are both given; a given lse includes the sinks already: leave sinks out");
  if (o.sinks != nullptr) problem.sinks = sinks_tensor(o.sinks, problem, data);
  if (o.lse != nullptr) problem.logsumexp = logsumexp_tensor(o.lse, problem, data);
  if (o.alibi != nullptr) {
    problem.alibi = alibi_slopes(o.alibi, problem, data);
    if (const double most = most_alibi_bias(problem); most > kMostAlibiBias)
      fail(Status::kRange, "alibi makes biases of up to {:g}; the limit is {:g}: scale down the slopes", most,
           kMostAlibiBias);
  }
  problem.logsumexp_unit = o.lse_base == ATTNGRAPH_LSE_BASE_2 ? std::numbers::ln2 : 1.0;
  return problem;
}

MatrixProblem make_matrix_problem(const attngraph_tensor* weights, const attngraph_options& o, Data data) {
  MatrixProblem problem;
  problem.weights = tensor_argument(weights, {"weights", 2, 4, kFloatTypes, data == Data::kNeeded});
  check_matrix_options(o);
  fill_request(problem, o, {problem.batch(), problem.query_heads(), problem.queries(), problem.keys()}, data);
  if (problem.mask.tensor && problem.mask.tensor.dtype != DType::kBool) {
    fail(Status::kUnsupported, "mask is {}, additive; weights of a ready matrix can only be masked by bool",
         name_of(problem.mask.tensor.dtype));
  }
  return problem;
}

TensorView weights_to_write(const attngraph_tensor* weights, const Problem& problem) {
  const TensorView view = tensor_argument(weights, {"weights", 2, 4, {DType::kF32}, true});
  const TensorView wanted = contiguous_view(
      view.data, DType::kF32, {problem.batch(), problem.query_heads(), problem.queries(), problem.keys()});
  for (std::size_t d = 0; d < 4; ++d) {
    if (view.shape[d] != wanted.shape[d])
      fail(Status::kShape, "weights is {}; it must be [B, Hq, Nq, Nk] = {}", shape_text(view), shape_text(wanted));
  }
  for (std::size_t d = 0; d < 4; ++d) {
    if (view.shape[d] > 1 && view.strides[d] != wanted.strides[d])
      fail(Status::kUnsupported, "weights is not row-major; its rows, heads and batches must lie side by side");
  }
  TensorView out = wanted;
  out.device = view.device;
  return out;
}

}  // namespace ag::api

void attngraph_options_init(attngraph_options* options) {
  if (options == nullptr) return;
  const attngraph_options defaults = ATTNGRAPH_OPTIONS_INIT;
  *options = defaults;
}

attngraph_status attngraph_alibi_slopes(int64_t heads, double max_bias, double* slopes) {
  using namespace ag;
  return api::guarded([&] {
    if (heads < 1 || heads > std::int64_t{1} << 20)
      fail(Status::kArgument, "heads is {}; there are slopes for 1 to 2^20", heads);
    if (!(std::isfinite(max_bias) && max_bias > 0))
      fail(Status::kArgument, "max_bias is {}; it is above 0, and 8 unless the model says otherwise", max_bias);
    double* const out = &api::required(slopes, "slopes");
    const auto whole = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(heads)));
    const double step = max_bias / static_cast<double>(whole);
    for (std::int64_t h = 0; h < heads; ++h) {
      const double steps = h < whole ? static_cast<double>(h + 1) : static_cast<double>(2 * (h - whole) + 1) / 2;
      out[h] = std::exp2(-step * steps);
    }
  });
}
