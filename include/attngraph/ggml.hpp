// SPDX-License-Identifier: Apache-2.0
/**
 * Attention graphs out of models that run on ggml (llama.cpp and its relatives): header-only, compiled against the
 * ggml.h and ggml-backend.h that your program is built with. Nothing is linked beyond libattngraph and your own ggml.
 *
 *     attngraph::ggml::capture capture(attngraph::options().threshold(0.05));
 *     params.cb_eval = attngraph::ggml::capture::callback;          // llama_context_params
 *     params.cb_eval_user_data = &capture;
 *     params.swa_full = true;                                       // so that cells of the cache are positions
 *     ... llama_decode(...), as often as the prompt and what follows it need ...
 *     attngraph::result graph = capture.graph();
 *
 * The attention nodes themselves are read: queries after rotary embedding, the keys of the cache with all that stands
 * in it, mask, scale, softcap, slopes (ALiBi) and sinks, with flash attention (FLASH_ATTN_EXT) or without (kq,
 * kq_soft_max). Queries
 * are brought to the type of the keys, as ggml does to multiply them. One sequence at a time; passes that go on where
 * the last one ended (ubatches, decoded tokens) extend it. Refused with ATTNGRAPH_ERROR_UNSUPPORTED: other
 * position biases, several streams, key caches that are not F32, F16, BF16 or Q8_0.
 */
#ifndef ATTNGRAPH_GGML_HPP
#define ATTNGRAPH_GGML_HPP

#include <ggml-backend.h>
#include <ggml.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attngraph.hpp"

namespace attngraph::ggml {

namespace detail {

[[noreturn]] inline void unsupported(const std::string& what) { throw error(ATTNGRAPH_ERROR_UNSUPPORTED, what); }

inline float parameter(const ggml_tensor* t, int i) {
  float value = 0;
  std::memcpy(&value, t->op_params + i, sizeof(value));
  return value;
}

/// Memory of a tensor as the host can read it: its own, or a copy that came from the device.
class host_bytes {
 public:
  explicit host_bytes(const ggml_tensor* t, bool copy = false) : data_(static_cast<const std::byte*>(t->data)) {
    const ggml_backend_buffer_t buffer = t->view_src != nullptr ? t->view_src->buffer : t->buffer;
    const bool elsewhere = buffer != nullptr && !ggml_backend_buffer_is_host(buffer);
    if (!elsewhere && !copy) return;
    own_.resize(ggml_nbytes(t));
    if (elsewhere)
      ggml_backend_tensor_get(t, own_.data(), 0, own_.size());
    else
      std::memcpy(own_.data(), t->data, own_.size());
    data_ = own_.data();
  }
  host_bytes(host_bytes&&) = default;  // a moved vector keeps its memory
  host_bytes& operator=(host_bytes&&) = default;
  const std::byte* data() const noexcept { return data_; }

 private:
  std::vector<std::byte> own_;
  const std::byte* data_;
};

/// Whether the memory is a leaf's (a cache, an input), which later nodes of the graph do not use again.
inline bool stays(const ggml_tensor* t) {
  while (t->view_src != nullptr) t = t->view_src;
  return std::all_of(std::begin(t->src), std::end(t->src), [](const ggml_tensor* s) { return s == nullptr; });
}

/// The number behind the last "-" of a name or of its part before " (view)" and the like; -1 when there is none.
inline int number_in(std::string_view name) {
  name = name.substr(0, name.find(" ("));
  const std::size_t dash = name.rfind('-');
  if (dash == std::string_view::npos || dash + 1 == name.size() || name.size() - dash > 7) return -1;
  int number = 0;
  for (const char c : name.substr(dash + 1)) {
    if (c < '0' || c > '9') return -1;
    number = 10 * number + (c - '0');
  }
  return number;
}

/// The layer of a flash attention node: in its own name, or in that of what its queries come from.
inline int layer_of(const ggml_tensor* node) {
  std::vector<const ggml_tensor*> level{node};
  for (int depth = 0; depth < 8; ++depth) {
    std::vector<const ggml_tensor*> below;
    for (const ggml_tensor* t : level) {
      if (const int layer = number_in(t->name); layer >= 0) return layer;
      for (int i = 0; i < (t == node ? 1 : 2); ++i)
        if (t->src[i] != nullptr) below.push_back(t->src[i]);
    }
    level = std::move(below);
  }
  unsupported(std::string(node->name) + ": an attention node that does not say which layer it is of");
}

/// Queries [Hq, Nq, D] in the type of the keys that they meet.
struct queries {
  std::int64_t heads, count, size;
  std::vector<float> f32;           // for f32 keys, and what eight bits leave for q8_0 keys
  std::vector<std::uint16_t> bits;  // for f16 and bf16 keys
  attngraph_dtype dtype = ATTNGRAPH_F32;

  queries(const ggml_tensor* q, ggml_type key_type) : heads(q->ne[2]), count(q->ne[1]), size(q->ne[0]) {
    if (q->type != GGML_TYPE_F32) unsupported(std::string(q->name) + ": queries are f32 in every known graph");
    if (q->ne[3] != 1) unsupported(std::string(q->name) + ": " + std::to_string(q->ne[3]) + " streams; 1 is supported");
    const host_bytes memory(q);
    f32.resize(static_cast<std::size_t>(heads * count * size));
    float* to = f32.data();
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t i = 0; i < count; ++i)
        for (std::int64_t d = 0; d < size; ++d, ++to)
          std::memcpy(to,
                      memory.data() + static_cast<std::size_t>(h) * q->nb[2] + static_cast<std::size_t>(i) * q->nb[1] +
                          static_cast<std::size_t>(d) * q->nb[0],
                      sizeof(float));
    const auto n = static_cast<std::int64_t>(f32.size());
    switch (key_type) {
      case GGML_TYPE_F16:
        bits.resize(f32.size());
        ggml_fp32_to_fp16_row(f32.data(), reinterpret_cast<ggml_fp16_t*>(bits.data()), n);
        dtype = ATTNGRAPH_F16;
        break;
      case GGML_TYPE_BF16:
        bits.resize(f32.size());
        ggml_fp32_to_bf16_row(f32.data(), reinterpret_cast<ggml_bf16_t*>(bits.data()), n);
        dtype = ATTNGRAPH_BF16;
        break;
      case GGML_TYPE_Q8_0: {
        const ggml_type_traits* traits = ggml_get_type_traits(key_type);
        std::vector<std::byte> blocks(ggml_row_size(key_type, n));
        traits->from_float_ref(f32.data(), blocks.data(), n);
        traits->to_float(blocks.data(), f32.data(), n);
        break;
      }
      default: break;
    }
  }
  tensor view() const {
    return {dtype == ATTNGRAPH_F32 ? static_cast<const void*>(f32.data()) : bits.data(), dtype, {heads, count, size}};
  }
};

/// The first keys of a cache [Hkv, n, D], in place where they can be.
class keys {
 public:
  keys(const ggml_tensor* k, std::int64_t limit, bool copy) : memory_(k, copy), count_(std::min(limit, k->ne[1])) {
    if (k->ne[3] != 1) unsupported(std::string(k->name) + ": " + std::to_string(k->ne[3]) + " streams; 1 is supported");
    switch (k->type) {
      case GGML_TYPE_F32:
      case GGML_TYPE_F16:
      case GGML_TYPE_BF16: break;
      case GGML_TYPE_Q8_0: {
        values_.resize(static_cast<std::size_t>(k->ne[2] * count_ * k->ne[0]));
        float* to = values_.data();
        for (std::int64_t h = 0; h < k->ne[2]; ++h)
          for (std::int64_t j = 0; j < count_; ++j, to += k->ne[0])
            ggml_get_type_traits(k->type)->to_float(
                memory_.data() + static_cast<std::size_t>(h) * k->nb[2] + static_cast<std::size_t>(j) * k->nb[1], to,
                k->ne[0]);
        break;
      }
      default:
        unsupported(std::string(k->name) + " is " + ggml_type_name(k->type) +
                    "; keys can be read from f32, f16, bf16 and q8_0: choose one of them as type_k");
    }
    type_ = k->type;
    heads_ = k->ne[2];
    size_ = k->ne[0];
    for (int d = 0; d < 3; ++d) bytes_[d] = k->nb[d];
  }
  ggml_type type() const noexcept { return type_; }
  std::int64_t count() const noexcept { return count_; }
  tensor view() const {
    if (type_ == GGML_TYPE_Q8_0) return {values_.data(), ATTNGRAPH_F32, {heads_, count_, size_}};
    const attngraph_dtype dtype = type_ == GGML_TYPE_F32   ? ATTNGRAPH_F32
                                  : type_ == GGML_TYPE_F16 ? ATTNGRAPH_F16
                                                           : ATTNGRAPH_BF16;
    const std::size_t element = type_ == GGML_TYPE_F32 ? 4 : 2;
    const auto stride = [&](int d) { return static_cast<std::int64_t>(bytes_[d] / element); };
    return {memory_.data(), dtype, {heads_, count_, size_}, {stride(2), stride(1), stride(0)}};
  }

 private:
  host_bytes memory_;
  std::int64_t count_, heads_ = 0, size_ = 0;
  ggml_type type_ = GGML_TYPE_F32;
  std::size_t bytes_[3] = {};
  std::vector<float> values_;
};

/// An element of a mask from its bits: f16 (half) or f32.
inline float mask_value(std::uint32_t bits, bool half) {
  if (half) return ggml_fp16_to_fp32(static_cast<ggml_fp16_t>(bits));
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// What a mask allows: by rules where they say it all, as an array where they do not.
struct pattern {
  bool causal = false, adds = false;
  bool falls = false;  // what it adds is the distance of the key, below 0, and nothing else: times a slope, ALiBi
  std::int64_t window = 0;
  std::vector<unsigned char> seen;  // [heads, queries, keys]; empty when every key or a rule
};

/// @param mask [1 or H, >= queries, >= keys] of 0, -inf and, rarely, something else that is added to the scores
/// @param begin position of the first query
/// @param biased by distances, as they are written where a head's slope comes in
inline pattern pattern_of(const ggml_tensor* mask, const std::byte* data, std::int64_t begin, std::int64_t queries,
                          std::int64_t keys, bool biased) {
  if (mask->type != GGML_TYPE_F16 && mask->type != GGML_TYPE_F32)
    unsupported(std::string(mask->name) + " is " + ggml_type_name(mask->type) + "; masks are f16 or f32");
  const bool half = mask->type == GGML_TYPE_F16;
  pattern p;
  p.falls = biased;
  bool all = true, rule = mask->ne[2] == 1, from_first = true, windowed = true;
  std::int64_t window = 0;
  p.seen.reserve(static_cast<std::size_t>(mask->ne[2] * queries * keys));
  std::vector<std::int64_t> firsts;
  for (std::int64_t h = 0; h < mask->ne[2]; ++h)
    for (std::int64_t i = 0; i < queries; ++i) {
      const std::byte* row =
          data + static_cast<std::size_t>(h) * mask->nb[2] + static_cast<std::size_t>(i) * mask->nb[1];
      std::int64_t first = -1, last = -1, count = 0;
      for (std::int64_t j = 0; j < keys; ++j) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, row + static_cast<std::size_t>(j) * mask->nb[0], half ? 2 : 4);
        const bool seen = bits != (half ? 0xFC00U : 0xFF800000U);
        p.seen.push_back(seen ? 1 : 0);
        if (!seen) continue;
        if (biased && mask_value(bits, half) != -static_cast<float>(std::abs(begin + i - j)))
          p.falls = false;
        else if (!biased && (bits & (half ? 0x7FFFU : 0x7FFFFFFFU)) != 0)
          p.adds = true;
        if (first < 0) first = j;
        last = j;
        ++count;
      }
      all = all && count == keys;
      rule = rule && count > 0 && count == last - first + 1 && last == begin + i;
      from_first = from_first && first == 0;
      window = std::max(window, count);
      firsts.push_back(first);
    }
  if (p.adds || p.falls != biased) return {false, true, false, 0, {}};
  for (std::int64_t i = 0; rule && i < queries; ++i)
    windowed = windowed && firsts[static_cast<std::size_t>(i)] == std::max<std::int64_t>(0, begin + i - window + 1);
  if (rule && from_first) return {true, false, biased, 0, {}};
  if (rule && windowed) return {true, false, biased, window, {}};
  if (all) p.seen.clear();
  return p;
}

/// A mask [1 or H, >= queries, >= keys] times the slope of every head: [H, queries, keys].
inline std::vector<float> times_slopes(const ggml_tensor* mask, const std::byte* data,
                                       const std::vector<double>& slopes, std::int64_t queries, std::int64_t keys) {
  const bool half = mask->type == GGML_TYPE_F16;
  std::vector<float> all;
  all.reserve(slopes.size() * static_cast<std::size_t>(queries * keys));
  for (std::size_t h = 0; h < slopes.size(); ++h)
    for (std::int64_t i = 0; i < queries; ++i)
      for (std::int64_t j = 0; j < keys; ++j) {
        std::uint32_t bits = 0;
        std::memcpy(&bits,
                    data + (mask->ne[2] == 1 ? 0 : h) * mask->nb[2] + static_cast<std::size_t>(i) * mask->nb[1] +
                        static_cast<std::size_t>(j) * mask->nb[0],
                    half ? 2 : 4);
        all.push_back(static_cast<float>(slopes[h] * static_cast<double>(mask_value(bits, half))));
      }
  return all;
}

/// Rows of one (layer, head), one pass after the other.
struct growing_slice {
  std::int64_t key_count = 0;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> keys, max_key;
  std::vector<float> weights;
  std::vector<double> logsumexp, maximum, kept_mass, entropy;

  void add(const slice& s) {
    const std::int64_t end = offsets.back();
    for (std::size_t r = 1; r < s.offsets.size(); ++r) offsets.push_back(end + s.offsets[r]);
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(keys, s.keys);
    append(weights, s.weights_f32);
    append(logsumexp, s.rows.logsumexp);
    append(maximum, s.rows.maximum);
    append(max_key, s.rows.max_key);
    append(kept_mass, s.rows.kept_mass);
    append(entropy, s.rows.entropy);
    key_count = std::max(key_count, s.key_count);
  }
};

}  // namespace detail

/// Listens to the evaluation callback and keeps the edges of every attention node. One thread at a time.
class capture {
 public:
  /// @param how    what is an edge (threshold, top_k, mass, heads, ...); scale, softcap, masks and sinks are the
  /// model's
  /// @param layers empty: all. The computation is not cut at layers that are left out
  explicit capture(options how = {}, std::vector<int> layers = {})
      : how_(std::move(how)), layers_(std::move(layers)), context_("cpu") {}
  capture(const capture&) = delete;
  capture& operator=(const capture&) = delete;

  /// ggml_backend_sched_eval_callback; user_data is the capture. Throws nothing: a failure stops the computation of the
  /// pass, later nodes are left alone, and graph() throws it.
  static bool callback(ggml_tensor* node, bool ask, void* user_data) noexcept {
    auto& self = *static_cast<capture*>(user_data);
    if (self.thrown_) return ask;
    try {
      return self.saw(node, ask);
    } catch (...) {
      self.thrown_ = std::current_exception();
      return ask;
    }
  }

  /// Whether a pass failed; graph() throws why.
  bool failed() const noexcept { return thrown_ != nullptr; }

  /// Everything since the beginning or clear(), one slice per (layer, query head). @param tokens labels, one per key
  result graph(std::span<const std::string> tokens = {}) const {
    if (thrown_) std::rethrow_exception(thrown_);
    if (!seen_) detail::unsupported("no attention node was shown; the model has none, or another form of it");
    sink to = sink::collect();
    if (!tokens.empty()) to.set_tokens(tokens);
    for (const auto& [name, value] : facts_) to.set_metadata(name, value);
    for (const auto& [label, s] : slices_) {
      const attngraph_rows rows{s.logsumexp.data(), s.maximum.data(), s.max_key.data(), s.kept_mass.data(),
                                s.entropy.data()};
      attngraph_csr csr{};
      csr.layer = label.first;
      csr.head = label.second;
      csr.query_count = static_cast<std::int64_t>(s.offsets.size()) - 1;
      csr.key_count = s.key_count;
      csr.edge_count = s.offsets.back();
      csr.offsets = s.offsets.data();
      csr.keys = s.keys.data();
      csr.weights = s.weights.data();
      csr.weight_dtype = ATTNGRAPH_F32;
      to.add_slice(csr, &rows);
    }
    return to.take_result();
  }

  /// Forget all, for another sequence.
  void clear() {
    products_.clear();
    patterns_.clear();
    slices_.clear();
    facts_.clear();
    ends_.clear();
    thrown_ = nullptr;
    seen_ = false;
  }

 private:
  /// Queries and keys of a product that a softmax has not met yet.
  struct product {
    int layer;
    detail::queries q;
    detail::keys k;
  };
  struct known_pattern {
    std::int64_t begin, queries;
    detail::pattern p;
  };

  bool saw(ggml_tensor* node, bool ask) {
    switch (node->op) {
      case GGML_OP_FLASH_ATTN_EXT: {
        const int layer = detail::layer_of(node);
        seen_ = true;
        if (!ask) {
          const detail::keys k(node->src[1], end_after(layer, node->src[0]), false);
          attention(layer, detail::queries(node->src[0], k.type()), k, node->src[3], node->src[4],
                    detail::parameter(node, 0), detail::parameter(node, 1), detail::parameter(node, 2));
        }
        return !ask || wanted(layer);
      }
      case GGML_OP_MUL_MAT: {
        const int layer = detail::number_in(node->name);
        if (layer < 0 || std::string_view(node->name).substr(0, 3) != "kq-") return !ask;
        seen_ = true;
        if (!ask) {
          // The memory of the queries, and of keys outside a cache, is used again before the softmax.
          detail::keys k(node->src[0], end_after(layer, node->src[1]), !detail::stays(node->src[0]));
          detail::queries q(node->src[1], k.type());
          products_.insert_or_assign(node, product{layer, std::move(q), std::move(k)});
        }
        return !ask || wanted(layer);
      }
      case GGML_OP_SOFT_MAX: {
        const int layer = detail::number_in(node->name);
        if (layer < 0 || std::string_view(node->name).substr(0, 12) != "kq_soft_max-") return !ask;
        if (ask && wanted(layer)) softmax(layer, node);
        return !ask;  // mask and parameters are there already: no need to see it computed
      }
      default: return !ask;
    }
  }

  bool wanted(int layer) const {
    return layers_.empty() || std::find(layers_.begin(), layers_.end(), layer) != layers_.end();
  }

  std::int64_t end_after(int layer, const ggml_tensor* q) const {
    const auto found = ends_.find(layer);
    return (found == ends_.end() ? 0 : found->second) + q->ne[1];
  }

  /// From a softmax back to its product. The scores are a qk, or a c tanh(b qk): softcap a c, scale a b c.
  void softmax(int layer, const ggml_tensor* node) {
    double outer = detail::parameter(node, 0), inner = 1;
    bool tanh = false;
    const ggml_tensor* below = node->src[0];
    auto found = products_.find(below);
    for (; found == products_.end(); found = products_.find(below)) {
      if (below == nullptr) detail::unsupported(std::string(node->name) + " is no softmax of queries times keys");
      if (below->op == GGML_OP_SCALE && detail::parameter(below, 1) == 0)
        (tanh ? inner : outer) *= detail::parameter(below, 0);
      else if (below->op == GGML_OP_UNARY && ggml_get_unary_op(below) == GGML_UNARY_OP_TANH && !tanh)
        tanh = true;
      else
        detail::unsupported(std::string(node->name) + " is the softmax of a " + ggml_op_desc(below) +
                            ", which is no form of scaled products that edges show");
      below = below->src[0];
    }
    const product made = std::move(found->second);
    products_.erase(found);
    attention(layer, made.q, made.k, node->src[1], node->src[2], outer * inner, detail::parameter(node, 1),
              tanh ? outer : 0);
  }

  void attention(int layer, const detail::queries& q, const detail::keys& k, const ggml_tensor* mask,
                 const ggml_tensor* sinks, double scale, float max_bias, double softcap) {
    const std::int64_t begin = ends_[layer];
    options how = how_;
    how.layer(layer).scale(scale).softcap(softcap);
    if (mask == nullptr) return keep(layer, q, k, sinks, how);
    const detail::host_bytes data(mask);
    const bool biased = max_bias > 0;
    const detail::pattern& p = known(mask, data.data(), begin, q.count, k.count(), biased);
    const std::vector<double> slopes = biased ? alibi_slopes(q.heads, max_bias) : std::vector<double>();
    std::vector<float> scaled;
    if (p.causal) how.causal().query_offset(begin).window(p.window);
    if (p.falls) how.query_offset(begin).alibi(tensor(slopes.data(), {q.heads}));
    if (p.adds && biased) {  // not the distances, or in f16 not exactly
      scaled = detail::times_slopes(mask, data.data(), slopes, q.count, k.count());
      how.mask(tensor(scaled.data(), {q.heads, q.count, k.count()}));
    } else if (p.adds) {
      const std::size_t element = mask->type == GGML_TYPE_F16 ? 2 : 4;
      const auto stride = [&](int d) { return static_cast<std::int64_t>(mask->nb[d] / element); };
      how.mask(tensor(data.data(), mask->type == GGML_TYPE_F16 ? ATTNGRAPH_F16 : ATTNGRAPH_F32,
                      {mask->ne[2], q.count, k.count()}, {stride(2), stride(1), stride(0)}));
    } else if (!p.seen.empty()) {
      how.mask(tensor(p.seen.data(), ATTNGRAPH_BOOL, {mask->ne[2], q.count, k.count()}));
    }
    keep(layer, q, k, sinks, how);
  }

  void keep(int layer, const detail::queries& q, const detail::keys& k, const ggml_tensor* sinks, options& how) {
    std::vector<float> logits;
    if (sinks != nullptr) {
      const detail::host_bytes data(sinks);
      logits.resize(static_cast<std::size_t>(sinks->ne[0]));
      std::memcpy(logits.data(), data.data(), logits.size() * sizeof(float));
      how.sinks(tensor(logits.data(), {sinks->ne[0]}));
    }
    const result made = context_.extract(q.view(), k.view(), how);
    if (facts_.empty())
      for (const std::string& name : made.metadata_names())
        facts_.emplace_back(name, std::string(*made.metadata(name)));
    for (std::int64_t i = 0; i < made.slice_count(); ++i) {
      const slice s = made.slice(i);
      slices_[{s.layer, s.head}].add(s);
    }
    ends_[layer] += q.count;
  }

  const detail::pattern& known(const ggml_tensor* mask, const std::byte* data, std::int64_t begin, std::int64_t queries,
                               std::int64_t keys, bool biased) {
    const auto found = patterns_.find(mask->data);
    if (found != patterns_.end() && found->second.begin == begin && found->second.queries == queries)
      return found->second.p;
    known_pattern made{begin, queries, detail::pattern_of(mask, data, begin, queries, keys, biased)};
    return patterns_.insert_or_assign(mask->data, std::move(made)).first->second.p;
  }

  options how_;
  std::vector<int> layers_;
  context context_;
  std::map<const ggml_tensor*, product> products_;
  std::map<const void*, known_pattern> patterns_;
  std::map<std::pair<std::int64_t, std::int64_t>, detail::growing_slice> slices_;
  std::vector<std::pair<std::string, std::string>> facts_;
  std::map<int, std::int64_t> ends_;  // layer: position after its last query
  std::exception_ptr thrown_;
  bool seen_ = false;
};

}  // namespace attngraph::ggml

#endif
