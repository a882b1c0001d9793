// SPDX-License-Identifier: Apache-2.0
// A strip swept by pieces, while the next piece is being multiplied, leaves a row as the sweep of the whole strip does:
// on a model of the tiles, with the vectors of this machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "cpu/aligned_buffer.hpp"
#include "cpu/pairs.hpp"
#include "support/compare.hpp"
#include "support/inputs.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "support/tensor.hpp"
#include "tile_model.hpp"

namespace ag::test {
namespace {

constexpr std::int64_t kStrip = cpu::kStripKeys<float>;

// Strips of keys and one block of rows, packed for the tiles.
class Strips {
 public:
  Strips(DType dtype, std::int64_t d, std::int64_t rows, std::int64_t strips, float factor)
      : kernel_(cpu::kernels<float>()), d_(d), rows_(rows), strips_(strips), factor_(factor) {
    cpu::use_tile_product<TileModel>(kernel_, dtype);
    depth_ = kernel_.depth(d);
    q_.assign(static_cast<std::size_t>(rows * d), 0.0f);
    k_.assign(static_cast<std::size_t>(strips * kStrip * d), 0.0f);
    states_.resize(static_cast<std::size_t>(rows));
    for (auto& state : states_) state.candidates.grow(strips * kStrip);
  }
  bool has_pieces() const { return kernel_.sweep_rows != nullptr; }
  float* query(std::int64_t r) { return q_.data() + r * d_; }
  float* key(std::int64_t j) { return k_.data() + j * d_; }
  cpu::RowState<float>& state(std::int64_t r) { return states_[static_cast<std::size_t>(r)]; }

  void pack() {
    packed_q_.reserve(kernel_.rows_per_block * depth_);
    packed_k_.reserve(strips_ * kStrip * depth_);
    scores_.reserve(kernel_.rows_per_block * kStrip);
    std::fill_n(packed_q_.data(), kernel_.rows_per_block * depth_, 0.0f);
    for (std::int64_t r = 0; r < rows_; ++r) kernel_.pack_query(query(r), d_, r, packed_q_.data());
    for (std::int64_t j = 0; j < strips_ * kStrip; j += kernel_.panel_keys)
      kernel_.pack_panel(key(j), d_, packed_k_.data() + j * depth_);
  }
  void sweep_whole(std::int64_t strip, const cpu::SweepRequest& request) {
    kernel_.score_strip(packed_q_.data(), keys_of(strip), d_, kStrip / kernel_.panel_keys, factor_, scores_.data());
    if (!kernel_.scales_scores) std::for_each_n(scores_.data(), rows_ * kStrip, [&](float& x) { x *= factor_; });
    std::vector<cpu::StripRow<float>> rows;
    for (std::int64_t r = 0; r < rows_; ++r)
      rows.push_back({scores_.data() + r * kStrip, kStrip, strip * kStrip, r, &state(r)});
    kernel_.sweep(rows.data(), rows_, request);
  }
  // Rows r with `takes_part(r)`; the bits of those to be done again.
  template <class TakesPart>
  std::uint32_t sweep_by_pieces(std::int64_t strip, const cpu::SweepRequest& request, TakesPart&& takes_part) {
    running_.rows = rows_;
    running_.factor = factor_;
    for (std::int64_t r = 0; r < rows_; ++r) running_.states[r] = takes_part(r) ? &state(r) : nullptr;
    kernel_.open_product();
    kernel_.open_sweep(running_);
    kernel_.score_under_sweep(packed_q_.data(), keys_of(strip), d_, kStrip / cpu::kPieceKeys, strip * kStrip, running_,
                              kernel_.sweep_rows);
    const std::uint32_t again = kernel_.close_sweep(running_, request);
    kernel_.close_product();
    return again;
  }

 private:
  const float* keys_of(std::int64_t strip) const { return packed_k_.data() + strip * kStrip * depth_; }

  cpu::Kernels<float> kernel_;
  std::int64_t d_, rows_, strips_, depth_ = 0;
  float factor_;
  std::vector<float> q_, k_;
  std::vector<cpu::RowState<float>> states_;
  cpu::AlignedBuffer<float> packed_q_, packed_k_, scores_;
  cpu::RunningSweep<float> running_{};
};

// Exact in every dtype.
float value(Random& random) { return static_cast<float>(random.below(33) - 16) / 8; }

cpu::SweepRequest with_cut(double weight) { return {.log2_cut = std::log2(weight)}; }

std::set<std::pair<std::int64_t, float>> candidates_from(const cpu::RowState<float>& row, float cut) {
  std::set<std::pair<std::int64_t, float>> found;
  for (std::int64_t n = 0; n < row.candidates.size(); ++n) {
    if (row.candidates.scores()[n] >= cut) found.emplace(row.candidates.keys()[n], row.candidates.scores()[n]);
  }
  return found;
}

TEST(Pieces, LeaveARowAsTheSweepOfTheWholeStripDoes) {
  const cpu::SweepRequest request = with_cut(0.01);
  constexpr std::pair<std::int64_t, float> kBlocks[] = {{1, 0.37f}, {5, 0.0f}, {16, -0.37f}, {17, -0.37f}, {32, 0.37f}};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const auto& [rows, factor] : kBlocks) {
      SCOPED_TRACE(::testing::Message() << name_of(dtype) << ", " << rows << " rows, factor " << factor);
      Strips whole(dtype, 33, rows, 3, factor), pieces(dtype, 33, rows, 3, factor);
      if (!whole.has_pieces()) GTEST_SKIP() << "no vectors of eight floats";
      for (Strips* strips : {&whole, &pieces}) {
        Random random(static_cast<std::uint64_t>(rows));
        for (std::int64_t n = 0; n < rows * 33; ++n) strips->query(0)[n] = value(random);
        for (std::int64_t n = 0; n < 3 * kStrip * 33; ++n) strips->key(0)[n] = value(random) / 4;
        strips->pack();
      }
      for (const std::int64_t strip : {2, 0, 1}) {
        whole.sweep_whole(strip, request);
        if (strip == 2) {
          pieces.sweep_whole(strip, request);
        } else {
          ASSERT_EQ(pieces.sweep_by_pieces(strip, request, [](std::int64_t) { return true; }), 0u);
        }
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        const cpu::RowState<float>&w = whole.state(r), &p = pieces.state(r);
        EXPECT_EQ(p.maximum, w.maximum);
        EXPECT_EQ(p.max_key, w.max_key);
        EXPECT_EQ(p.reference, w.reference);
        EXPECT_NEAR(p.sum / w.sum, 1, 1e-6);
        EXPECT_NEAR(p.cut, w.cut, 1e-5);
        EXPECT_EQ(candidates_from(p, w.cut + 1e-5f), candidates_from(w, w.cut + 1e-5f));
      }
      EXPECT_EQ(TileModel::faults, 0);
    }
  }
}

// One key of strip 0 rises `above` the reference, for the query of row 1 alone.
TEST(Pieces, GiveBackRowsWhoseScoresRiseTooFar) {
  const cpu::SweepRequest request = with_cut(0.01);
  for (const float above : {2.0f, 16.0f, 17.0f, 300.0f}) {
    SCOPED_TRACE(above);
    Strips strips(DType::kBF16, 32, 3, 2, 1.0f);
    if (!strips.has_pieces()) GTEST_SKIP() << "no vectors of eight floats";
    for (std::int64_t r = 0; r < 3; ++r) strips.query(r)[r] = 1;
    strips.key(77)[1] = above;
    strips.pack();
    strips.sweep_whole(1, request);
    const double before = strips.state(1).sum;
    const auto candidates = strips.state(1).candidates.size();
    const std::uint32_t again = strips.sweep_by_pieces(0, request, [](std::int64_t r) { return r != 2; });
    const cpu::RowState<float>& row = strips.state(1);
    if (above > 16) {
      EXPECT_EQ(again, 2u);
      EXPECT_EQ(row.sum, before);
      EXPECT_EQ(row.maximum, 0.0f);
      EXPECT_EQ(row.max_key, kStrip);
      EXPECT_EQ(row.candidates.size(), candidates);
    } else {
      EXPECT_EQ(again, 0u);
      EXPECT_EQ(row.maximum, above);
      EXPECT_EQ(row.reference, above);
      EXPECT_EQ(row.max_key, 77);
      EXPECT_NEAR(row.sum, 1 + (2 * kStrip - 1) * std::exp2(-above), 1e-3);
    }
    EXPECT_NEAR(strips.state(0).sum, 2 * kStrip, 1e-3);
    EXPECT_EQ(strips.state(0).max_key, 0) << "the first of equal ones";
    EXPECT_NEAR(strips.state(2).sum, kStrip, 1e-3) << "took no part";
  }
}

// The first key of all is far above the others for every third query: those rows are done again, a strip at a time.
TEST(Pieces, GiveTheEdgesOfTheReferenceWhereAKeyIsHeavy) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    SCOPED_TRACE(name_of(dtype));
    constexpr std::int64_t kQueries = 70, kKeys = 1800, kD = 32;
    Random random(5);
    std::vector<double> q = random.normals(kQueries * kD), k = random.normals(kKeys * kD);
    for (std::int64_t i = 0; i < kQueries; ++i) q[static_cast<std::size_t>(i * kD)] = i % 3 == 0 ? 6 : 0;
    for (std::int64_t j = 0; j < kKeys; ++j) k[static_cast<std::size_t>(j * kD)] = j == 5 ? 10 : 0;
    const Tensor queries(dtype, {1, 1, kQueries, kD}, q), keys(dtype, {1, 1, kKeys, kD}, k);
    Problem problem;
    problem.q = queries.view();
    problem.k = keys.view();
    problem.heads = {0};
    problem.query_end = kQueries;
    problem.selection.threshold = 0.01;
    problem.scale = 0.3;
    const EdgeList reference = run_extract(find_backend("reference"), problem);
    const WithTileModel model;
    const EdgeList actual = run_extract(find_backend("cpu"), problem);
    ASSERT_GT(actual.edge_count(), kQueries / 3);
    expect_same_graph(actual, reference, problem);
    // The rows beside a row are others in each range.
    EdgeList parts;
    std::vector<float> weights;
    std::vector<double> logsumexps;
    for (std::int64_t begin = 0; begin < kQueries; begin += 23) {
      problem.query_begin = begin;
      problem.query_end = std::min(begin + 23, kQueries);
      const EdgeList part = run_extract(find_backend("cpu"), problem);
      weights.insert(weights.end(), part.weights_f32.begin(), part.weights_f32.end());
      logsumexps.insert(logsumexps.end(), part.rows.logsumexp.begin(), part.rows.logsumexp.end());
    }
    EXPECT_EQ(weights, actual.weights_f32);
    EXPECT_EQ(logsumexps, std::vector<double>(actual.rows.logsumexp.begin(), actual.rows.logsumexp.end()));
    EXPECT_EQ(TileModel::faults, 0);
  }
}

// What a caller runs may use tiles of its own.
TEST(Pieces, NoFunctionOfTheCallerRunsWhileTilesAreConfigured) {
  Case c = {.name = "long", .seed = 3, .dtype = DType::kBF16, .queries = 600, .keys = 1600, .head_dim = 32};
  const Inputs inputs(c);
  const WithTileModel model;
  int told = 0, meanwhile = 0;
  Control control(
      [&] {
        meanwhile += TileModel::configured;
        return false;
      },
      [&](double) { ++told; });
  CollectSink sink;
  const Backend& cpu = find_backend("cpu");
  sink.finish(cpu.extract(inputs.problem(), plan_for(cpu, inputs.problem()), sink, control));
  EXPECT_GT(told, 1);
  EXPECT_EQ(meanwhile, 0);
}

}  // namespace
}  // namespace ag::test
