// SPDX-License-Identifier: Apache-2.0
// attngraph/ggml.hpp shown attention nodes that are made by hand, against the fixture beside this file in place of
// ggml.
#include <attngraph/ggml.hpp>

#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {

using attngraph::options;
using attngraph::result;
using testing::HasSubstr;

constexpr std::int64_t kQueries = 6, kKeys = 11, kCells = 16, kHeads = 4, kKeyHeads = 2, kSize = 32;
constexpr double kThreshold = 0.05;

/// Queries and keys that f16 holds exactly, so that both roads see the same numbers. [H, N, D]
std::vector<float> values(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> all(static_cast<std::size_t>(count * kSize));
  for (float& x : all) x = std::round(64 * normal(random)) / 64;
  return all;
}

std::vector<std::uint16_t> halves(const std::vector<float>& from) {
  std::vector<std::uint16_t> to(from.size());
  ggml_fp32_to_fp16_row(from.data(), to.data(), static_cast<std::int64_t>(from.size()));
  return to;
}

/// A graph of nodes, as llama.cpp's builder makes it; tensors stay where they are.
class Nodes {
 public:
  ggml_tensor* make(const std::string& name, ggml_op op = GGML_OP_NONE, std::vector<ggml_tensor*> sources = {},
                    std::vector<float> parameters = {}) {
    ggml_tensor& t = all_.emplace_back();
    name.copy(t.name, sizeof(t.name) - 1);
    t.op = op;
    t.buffer = &buffer;
    std::copy(sources.begin(), sources.end(), t.src);
    if (!parameters.empty()) std::memcpy(t.op_params, parameters.data(), parameters.size() * sizeof(float));
    return &t;
  }
  /// [ne2, ne1, ne0] row-major over memory of the caller.
  ggml_tensor* over(const std::string& name, void* data, ggml_type type, std::int64_t ne0, std::int64_t ne1,
                    std::int64_t ne2) {
    ggml_tensor* t = make(name);
    t->data = data;
    t->type = type;
    const std::int64_t ne[4] = {ne0, ne1, ne2, 1};
    std::copy(ne, ne + 4, t->ne);
    t->nb[0] = ggml_block_bytes(type);
    t->nb[1] = ggml_row_size(type, ne0);
    t->nb[2] = t->nb[1] * static_cast<std::size_t>(ne1);
    t->nb[3] = t->nb[2] * static_cast<std::size_t>(ne2);
    return t;
  }
  ggml_backend_buffer buffer{true, 0};

 private:
  std::deque<ggml_tensor> all_;
};

/// Queries [Hq, Nq, D] at positions begin .., keys in a cache with cells to spare, and a mask over it.
struct Inputs {
  std::int64_t begin, count;
  std::vector<float> q, k = values(kKeyHeads * kCells, 2);
  std::vector<std::uint16_t> k16 = halves(k), mask16;
  std::vector<float> mask;

  explicit Inputs(std::int64_t first = kKeys - kQueries, std::int64_t queries = kQueries, std::int64_t window = 0)
      : begin(first), count(queries) {
    const std::vector<float> all = values(kHeads * kKeys, 1);
    for (std::int64_t h = 0; h < kHeads; ++h)
      q.insert(q.end(), all.begin() + (h * kKeys + begin) * kSize, all.begin() + (h * kKeys + begin + count) * kSize);
    for (std::int64_t i = 0; i < count; ++i)
      for (std::int64_t j = 0; j < kCells; ++j) {
        const bool seen = j <= begin + i && (window == 0 || j > begin + i - window);
        mask.push_back(seen ? 0.0F : -std::numeric_limits<float>::infinity());
        mask16.push_back(seen ? 0 : 0xFC00);
      }
  }
  ggml_tensor* query(Nodes& nodes) {
    return nodes.over("Qcur-3 (view) (permuted)", q.data(), GGML_TYPE_F32, kSize, count, kHeads);
  }
  ggml_tensor* key(Nodes& nodes) {
    return nodes.over("cache_k_l3 (view)", k16.data(), GGML_TYPE_F16, kSize, kCells, kKeyHeads);
  }
  ggml_tensor* half_mask(Nodes& nodes) { return nodes.over("kq_mask", mask16.data(), GGML_TYPE_F16, kCells, count, 1); }
  ggml_tensor* full_mask(Nodes& nodes) { return nodes.over("kq_mask", mask.data(), GGML_TYPE_F32, kCells, count, 1); }

  /// The same by the public door.
  result expected(options how, bool causal = true) const {
    const std::int64_t keys = begin + count;
    how.threshold(kThreshold).scale(0.2).layer(3).causal(causal).query_offset(causal ? begin : 0);
    return attngraph::context().extract({q.data(), {kHeads, count, kSize}},
                                        {k.data(), {kKeyHeads, keys, kSize}, {kCells * kSize, kSize, 1}}, how);
  }
};

std::vector<ggml_tensor*> flash(Nodes& nodes, ggml_tensor* q, ggml_tensor* k, ggml_tensor* mask,
                                ggml_tensor* sinks = nullptr, float softcap = 0, float max_bias = 0) {
  return {nodes.make("", GGML_OP_FLASH_ATTN_EXT, {q, k, nullptr, mask, sinks}, {0.2F, max_bias, softcap})};
}

/// As llama.cpp shows nodes: asked first, computed, shown when wanted.
void show(
    attngraph::ggml::capture& capture, const std::vector<ggml_tensor*>& nodes,
    const std::function<void()>& after = [] {}) {
  for (ggml_tensor* node : nodes) {
    if (attngraph::ggml::capture::callback(node, true, &capture))
      attngraph::ggml::capture::callback(node, false, &capture);
    after();
  }
}

options how() { return options().threshold(kThreshold); }

/// Equal, but for where a pass stands: capture counts rows from the beginning of the sequence.
void expect_same(const result& got, const result& want, double tolerance = 1e-6) {
  ASSERT_EQ(got.slice_count(), want.slice_count());
  EXPECT_GT(want.edge_count(), 2 * want.slice_count());
  for (std::int64_t i = 0; i < got.slice_count(); ++i) {
    const attngraph::slice a = got.slice(i), b = want.slice(i);
    ASSERT_EQ(std::vector(a.keys.begin(), a.keys.end()), std::vector(b.keys.begin(), b.keys.end()));
    EXPECT_EQ(a.layer, b.layer);
    EXPECT_EQ(a.key_count, b.key_count);
    for (std::size_t e = 0; e < a.size(); ++e) EXPECT_NEAR(a.weight(e), b.weight(e), tolerance);
    for (std::size_t r = 0; r < a.rows.logsumexp.size(); ++r)
      EXPECT_NEAR(a.rows.logsumexp[r], b.rows.logsumexp[r], 1e-5);
  }
}

TEST(Listener, ReadsFlashAttentionNodes) {
  Inputs in;
  Nodes nodes;
  attngraph::ggml::capture capture(how());
  // The first pass of this sequence begins at 0; these queries come after it.
  Inputs before(0, kKeys - kQueries);
  show(capture, flash(nodes, before.query(nodes), before.key(nodes), before.half_mask(nodes)));
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.half_mask(nodes)));
  Inputs whole(0, kKeys);
  expect_same(capture.graph(), whole.expected({}));
}

TEST(Listener, ReadsDeviceMemoryByCopyingIt) {
  Inputs in(0, kKeys);
  Nodes nodes;
  nodes.buffer.host = false;
  attngraph::ggml::capture capture(how());
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.half_mask(nodes)));
  expect_same(capture.graph(), in.expected({}));
  EXPECT_EQ(nodes.buffer.copies, 3);
}

TEST(Listener, KeepsStridesOfPermutedTensors) {
  Inputs in(0, kKeys);
  std::vector<std::uint16_t> apart(in.k16.size());  // [cell, head, D], the layout of a cache
  for (std::int64_t h = 0; h < kKeyHeads; ++h)
    for (std::int64_t j = 0; j < kCells; ++j)
      std::copy_n(in.k16.begin() + (h * kCells + j) * kSize, kSize, apart.begin() + (j * kKeyHeads + h) * kSize);
  Nodes nodes;
  ggml_tensor* k = nodes.over("cache_k_l3 (view) (permuted)", apart.data(), GGML_TYPE_F16, kSize, kCells, kKeyHeads);
  k->nb[1] = kKeyHeads * kSize * 2;
  k->nb[2] = kSize * 2;
  attngraph::ggml::capture capture(how());
  show(capture, flash(nodes, in.query(nodes), k, in.half_mask(nodes)));
  expect_same(capture.graph(), in.expected({}));
}

TEST(Listener, ReadsWindowSoftcapAndSinks) {
  Inputs in(0, kKeys, 4);
  std::vector<float> sinks{0.5F, -1, 2, 0};
  Nodes nodes;
  ggml_tensor* logits = nodes.over("sinks", sinks.data(), GGML_TYPE_F32, kHeads, 1, 1);
  attngraph::ggml::capture capture(how());
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.half_mask(nodes), logits, 1.5F));
  const result graph = capture.graph();
  expect_same(graph, in.expected(options().window(4).softcap(1.5).sinks({sinks.data(), {kHeads}})));
  EXPECT_EQ(graph.metadata("window"), "4");
}

TEST(Listener, TakesMasksOfOtherShapesAsTheyAre) {
  Inputs in(0, kKeys);
  in.mask[7 * kCells + 3] = -std::numeric_limits<float>::infinity();
  std::vector<unsigned char> seen;
  for (std::int64_t i = 0; i < kKeys; ++i)
    for (std::int64_t j = 0; j < kKeys; ++j) seen.push_back(in.mask[static_cast<std::size_t>(i * kCells + j)] == 0);
  Nodes nodes;
  attngraph::ggml::capture capture(how());
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.full_mask(nodes)));
  expect_same(capture.graph(), in.expected(options().mask({seen.data(), ATTNGRAPH_BOOL, {kKeys, kKeys}}), false));

  in.mask[9 * kCells + 1] = 1.5F;
  capture.clear();
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.full_mask(nodes)));
  expect_same(capture.graph(),
              in.expected(options().mask({in.mask.data(), ATTNGRAPH_F32, {kKeys, kKeys}, {kCells, 1}}), false));
}

// What llama.cpp writes into the mask where a head's slope comes in: the distance, below 0.
TEST(Listener, BiasesByDistanceBecomeSlopes) {
  Inputs in(0, kKeys);
  for (std::int64_t i = 0; i < kKeys; ++i)
    for (std::int64_t j = 0; j <= i; ++j) {
      const auto n = static_cast<std::size_t>(i * kCells + j);
      in.mask[n] = static_cast<float>(j - i);
      in.mask16[n] = halves({in.mask[n]})[0];
    }
  Nodes nodes;
  attngraph::ggml::capture capture(how());
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.half_mask(nodes), nullptr, 0, 8));
  const std::vector<double> slopes = attngraph::alibi_slopes(kHeads, 8);
  const result graph = capture.graph();
  expect_same(graph, in.expected(options().alibi({slopes.data(), {kHeads}})));
  EXPECT_EQ(graph.metadata("causal"), "true");
  EXPECT_EQ(graph.metadata("alibi"), "0.25,0.0625,0.015625,0.00390625");

  in.mask[9 * kCells + 1] = -3;  // no distance: the mask is taken as it is, times the slope
  std::vector<float> biases;
  for (const double slope : slopes)
    for (std::int64_t i = 0; i < kKeys; ++i)
      for (std::int64_t j = 0; j < kKeys; ++j)
        biases.push_back(static_cast<float>(slope) * in.mask[static_cast<std::size_t>(i * kCells + j)]);
  capture.clear();
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.full_mask(nodes), nullptr, 0, 8));
  expect_same(capture.graph(), in.expected(options().mask({biases.data(), {kHeads, kKeys, kKeys}}), false));
}

TEST(Listener, NoMaskMeansEveryKey) {
  Inputs in(0, kKeys);
  Nodes nodes;
  attngraph::ggml::capture capture(how());
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), nullptr));
  expect_same(capture.graph(), in.expected({}, false));
}

TEST(Listener, BringsQueriesToTheTypeOfTheKeys) {
  Inputs in(0, kKeys);
  for (float& x : in.q) x *= 1.01F;  // no longer exact in any of them
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
    SCOPED_TRACE(type);
    std::vector<ggml_bf16_t> bits(in.k.size());
    std::vector<unsigned char> blocks(ggml_row_size(GGML_TYPE_Q8_0, kHeads * kCells * kSize));
    void* data = in.k.data();
    Inputs rounded = in;
    const auto n = static_cast<std::int64_t>(in.k.size()), m = static_cast<std::int64_t>(in.q.size());
    if (type == GGML_TYPE_BF16) {
      ggml_fp32_to_bf16_row(in.k.data(), bits.data(), n);
      data = bits.data();
      for (std::vector<float>* x : {&rounded.k, &rounded.q})
        for (float& v : *x) {
          ggml_bf16_t b{};
          ggml_fp32_to_bf16_row(&v, &b, 1);
          const std::uint32_t wide = std::uint32_t{b.bits} << 16;
          std::memcpy(&v, &wide, 4);
        }
    } else if (type == GGML_TYPE_Q8_0) {
      fixture_to_q8(in.q.data(), blocks.data(), m);
      fixture_from_q8(blocks.data(), rounded.q.data(), m);
      fixture_to_q8(in.k.data(), blocks.data(), n);
      fixture_from_q8(blocks.data(), rounded.k.data(), n);
      data = blocks.data();
    }
    Nodes nodes;
    attngraph::ggml::capture capture(how());
    ggml_tensor* k = nodes.over("cache_k_l3", data, type, kSize, kCells, kKeyHeads);
    show(capture, flash(nodes, in.query(nodes), k, in.half_mask(nodes)));
    expect_same(capture.graph(), rounded.expected({}));
  }
}

/// kq, what lies between, kq_soft_max.
std::vector<ggml_tensor*> unfused(Nodes& nodes, Inputs& in, const std::vector<std::pair<ggml_op, float>>& between,
                                  float scale) {
  std::vector<ggml_tensor*> graph{nodes.make("kq-3", GGML_OP_MUL_MAT, {in.key(nodes), in.query(nodes)})};
  for (const auto& [op, value] : between) {
    graph.push_back(nodes.make("between", op, {graph.back()}, {value}));
    if (op == GGML_OP_UNARY) graph.back()->op_params[0] = GGML_UNARY_OP_TANH;
  }
  graph.push_back(nodes.make("kq_soft_max-3", GGML_OP_SOFT_MAX, {graph.back(), in.full_mask(nodes)}, {scale, 0.0F}));
  return graph;
}

TEST(Listener, ReadsSoftmaxNodesAfterTheQueriesAreGone) {
  const Inputs in(0, kKeys);
  const std::vector<std::pair<ggml_op, float>> softcap{
      {GGML_OP_SCALE, 0.2F / 1.5F}, {GGML_OP_UNARY, 0.0F}, {GGML_OP_SCALE, 1.5F}};
  for (const bool capped : {false, true}) {
    Inputs shown = in;
    Nodes nodes;
    attngraph::ggml::capture capture(how());
    const auto graph = capped ? unfused(nodes, shown, softcap, 1.0F) : unfused(nodes, shown, {}, 0.2F);
    show(capture, graph, [&] { std::fill(shown.q.begin(), shown.q.end(), std::nanf("")); });
    expect_same(capture.graph(), in.expected(capped ? options().softcap(1.5) : options()));
  }
}

TEST(Listener, LeavesOtherLayersAlone) {
  Inputs in(0, kKeys);
  Nodes nodes;
  attngraph::ggml::capture capture(how(), {5});
  for (ggml_tensor* node : flash(nodes, in.query(nodes), in.key(nodes), in.half_mask(nodes)))
    EXPECT_FALSE(attngraph::ggml::capture::callback(node, true, &capture));
  for (ggml_tensor* node : unfused(nodes, in, {}, 0.2F))
    EXPECT_FALSE(attngraph::ggml::capture::callback(node, true, &capture));
  EXPECT_EQ(capture.graph().edge_count(), 0);
}

TEST(Listener, LabelsKeys) {
  Inputs in(0, kKeys);
  Nodes nodes;
  attngraph::ggml::capture capture(how());
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.half_mask(nodes)));
  const std::vector<std::string> tokens(kKeys, "word");
  EXPECT_EQ(capture.graph(tokens).token(10), "word");
}

TEST(Listener, RefusesWhatEdgesWouldNotShow) {
  Inputs in(0, kKeys);
  Nodes nodes;
  const auto message = [&](const std::vector<ggml_tensor*>& graph) -> std::string {
    attngraph::ggml::capture capture(how());
    show(capture, graph);
    try {
      capture.graph();
    } catch (const attngraph::error& e) {
      EXPECT_EQ(e.status(), ATTNGRAPH_ERROR_UNSUPPORTED);
      return e.what();
    }
    return "";
  };
  ggml_tensor *q = in.query(nodes), *k = in.key(nodes), *mask = in.half_mask(nodes);
  EXPECT_THAT(message(unfused(nodes, in, {{GGML_OP_ADD, 0.0F}}, 0.2F)), HasSubstr("softmax of a ADD"));
  EXPECT_THAT(message({nodes.make("norm-3", GGML_OP_ADD)}), HasSubstr("no attention node"));
  ggml_tensor* small = nodes.over("cache_k_l3", in.k16.data(), GGML_TYPE_Q4_0, kSize, kCells, kKeyHeads);
  EXPECT_THAT(message(flash(nodes, q, small, mask)), HasSubstr("q4_0"));
  ggml_tensor* streams = in.query(nodes);
  streams->ne[3] = 2;
  EXPECT_THAT(message(flash(nodes, streams, k, mask)), HasSubstr("2 streams"));
  ggml_tensor* nameless = nodes.over("q", in.q.data(), GGML_TYPE_F32, kSize, kKeys, kHeads);
  EXPECT_THAT(message(flash(nodes, nameless, k, mask)), HasSubstr("which layer"));
}

TEST(Listener, ThrowsNothingThroughTheCallbackAndStopsThePass) {
  Inputs in(0, kKeys);
  Nodes nodes;
  attngraph::ggml::capture capture(how());
  ggml_tensor* streams = in.query(nodes);
  streams->ne[3] = 2;
  const auto graph = flash(nodes, streams, in.key(nodes), in.half_mask(nodes));
  EXPECT_TRUE(attngraph::ggml::capture::callback(graph[0], true, &capture));
  EXPECT_FALSE(attngraph::ggml::capture::callback(graph[0], false, &capture));  // the pass ends here
  EXPECT_TRUE(capture.failed());
  EXPECT_THROW(capture.graph(), attngraph::error);
  capture.clear();
  show(capture, flash(nodes, in.query(nodes), in.key(nodes), in.half_mask(nodes)));
  expect_same(capture.graph(), in.expected({}));
}

}  // namespace
