// SPDX-License-Identifier: Apache-2.0
// A row has the same bits in a whole pass and in a step that knows no later key: nothing that a row yields may depend
// on the rows beside it, on keys that it does not see, or on how many there are. Every instruction set.
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "support/inputs.hpp"
#include "support/random.hpp"
#include "support/run.hpp"
#include "tile_model.hpp"

namespace ag::test {
namespace {

constexpr const char* kTileModel = "model of tiles";

std::vector<std::string> sets_and_model() {
  std::vector<std::string> all = cpu_targets();
  all.emplace_back(kTileModel);
  return all;
}

class Steps : public ::testing::TestWithParam<std::string> {
 protected:
  Steps() {
    if (GetParam() == kTileModel) {
      model_.emplace();
    } else {
      forced_.emplace(Target{"cpu", GetParam()});
    }
  }

 private:
  std::optional<ForcedTarget> forced_;
  std::optional<WithTileModel> model_;
};
INSTANTIATE_TEST_SUITE_P(, Steps, ::testing::ValuesIn(sets_and_model()),
                         [](const auto& test) { return test_name(test.param); });

// Queries [begin, end) of a causal problem whose queries are its last ones, and the keys up to the last of them.
Problem step_of(const Problem& whole, std::int64_t begin, std::int64_t end) {
  Problem step = whole;
  const auto from = [](TensorView& view, std::size_t d, std::int64_t first, std::int64_t count) {
    if (!view) return;
    view.data = static_cast<const std::byte*>(view.data) +
                first * view.strides[d] * static_cast<std::int64_t>(size_of(view.dtype));
    view.shape[d] = count;
  };
  const std::int64_t keys = end + whole.mask.query_offset;
  from(step.q, 2, begin, end - begin);
  from(step.k, 2, 0, keys);
  from(step.mask.tensor, 2, begin, end - begin);
  from(step.mask.tensor, 3, 0, keys);
  from(step.logsumexp, 2, begin, end - begin);
  step.mask.query_offset += begin;
  step.query_begin = 0;
  step.query_end = end - begin;
  return step;
}

template <class T>
bool same_bits(const T& a, const T& b) {
  return a == b || (std::isnan(static_cast<double>(a)) && std::isnan(static_cast<double>(b)));
}

// Row i of the step is row begin + i of the whole, in everything.
void expect_rows_of(const EdgeList& step, const EdgeList& whole, std::int64_t begin) {
  ASSERT_EQ(step.slices.size(), whole.slices.size());
  for (std::size_t s = 0; s < step.slices.size(); ++s) {
    const Slice &a = step.slices[s], &w = whole.slices[s];
    for (std::int64_t i = 0; i < a.info.query_count; ++i) {
      SCOPED_TRACE(::testing::Message() << "head " << a.info.id.head << ", query " << begin + i);
      const auto oa = static_cast<std::size_t>(a.first_offset + i),
                 ow = static_cast<std::size_t>(w.first_offset + begin + i);
      const auto ea = static_cast<std::size_t>(a.first_edge + step.offsets[oa]);
      const auto ew = static_cast<std::size_t>(w.first_edge + whole.offsets[ow]);
      const auto count = static_cast<std::size_t>(step.offsets[oa + 1] - step.offsets[oa]);
      ASSERT_EQ(static_cast<std::int64_t>(count), whole.offsets[ow + 1] - whole.offsets[ow]);
      for (std::size_t e = 0; e < count; ++e) {
        ASSERT_EQ(step.keys[ea + e], whole.keys[ew + e]);
        ASSERT_EQ(step.weights_f32[ea + e], whole.weights_f32[ew + e]);
      }
      const auto ra = static_cast<std::size_t>(a.first_row + i), rw = static_cast<std::size_t>(w.first_row + begin + i);
      EXPECT_EQ(step.rows.logsumexp[ra], whole.rows.logsumexp[rw]);
      EXPECT_EQ(step.rows.maximum[ra], whole.rows.maximum[rw]);
      EXPECT_EQ(step.rows.max_key[ra], whole.rows.max_key[rw]);
      EXPECT_EQ(step.rows.kept_mass[ra], whole.rows.kept_mass[rw]);
      EXPECT_TRUE(same_bits(step.rows.entropy[ra], whole.rows.entropy[rw]));
    }
  }
}

void expect_steps_of(const Problem& problem, std::uint64_t seed) {
  const Backend& cpu = find_backend("cpu");
  const EdgeList whole = run_extract(cpu, problem, 2);
  double eps = 0;
  std::int64_t borderline = 0, in_double = 0;
  Random random(seed);
  for (std::int64_t begin = 0; begin < problem.queries();) {
    const std::int64_t count = random.below(3) == 0 ? 1 + random.below(40) : 1;
    const std::int64_t end = std::min(begin + count, problem.queries());
    const EdgeList step = run_extract(cpu, step_of(problem, begin, end));
    expect_rows_of(step, whole, begin);
    if (::testing::Test::HasFailure()) return;
    eps = std::max(eps, step.report.eps);
    borderline += step.report.borderline;
    in_double += step.report.rows_fp64;
    begin = end;
  }
  EXPECT_EQ(eps, whole.report.eps);
  EXPECT_EQ(borderline, whole.report.borderline);
  EXPECT_EQ(in_double, whole.report.rows_fp64);
}

Case a_case(const char* name, DType dtype = DType::kF32) {
  return {.name = name,
          .seed = 3,
          .dtype = dtype,
          .query_heads = 3,
          .key_heads = 1,
          .queries = 130,
          .keys = 1090,  // the last ones stand on both sides of a strip's end, for float and for double
          .head_dim = 16,
          .threshold = 0.004,
          .causal = true,
          .query_offset = 960,
          .stats = {.entropy = true}};
}

TEST_P(Steps, AreTheWholeInEveryType) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
    SCOPED_TRACE(name_of(dtype));
    expect_steps_of(Inputs(a_case("types", dtype)).problem(), 1);
  }
}

TEST_P(Steps, AreTheWholeWhateverSelectsAndMasks) {
  std::vector<Case> cases(10, a_case("selections"));
  cases[0].threshold = 0, cases[0].top_k = 20;
  cases[1].threshold = 0, cases[1].mass = 0.8;
  cases[2].top_k = 9, cases[2].mass = 0.5;
  cases[3].window = 300;
  cases[4].sinks = true, cases[4].threshold = 0, cases[4].mass = 0.6;
  cases[5].softcap = 5;
  cases[6].lse = GivenLse::kBaseE;
  cases[7].mask = MaskKind::kAdditive;
  cases[8].mask = MaskKind::kBool, cases[8].sinks = true;
  cases[9].alibi = {0.25, 0.03, 0.004};
  for (std::size_t n = 0; n < cases.size(); ++n) {
    SCOPED_TRACE(n);
    // What else selects or masks is no matter of the product.
    if (GetParam() == kTileModel && n != 3 && n != 9) continue;
    expect_steps_of(Inputs(cases[n]).problem(), n);
  }
}

// Long keys and long queries here and there: rows before the first of them are done in float, some later ones in
// double.
TEST_P(Steps, AreTheWholeWherePrecisionChanges) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(name_of(dtype));
    const Case c = a_case("long keys", dtype);
    const QkValues plain(c, 0.25);
    std::vector<double> q = plain.q, k = plain.k;
    const auto lengthen = [](std::vector<double>& values, std::size_t row, double factor) {
      for (std::size_t d = 0; d < 16; ++d) values[row * 16 + d] *= factor;
    };
    for (const std::size_t key : {1000u, 1050u}) lengthen(k, key, 3000);
    for (const std::size_t query : {5u, 60u, 61u, 70u, 100u, 200u, 300u}) lengthen(q, query, 1e3);
    Inputs inputs(c);
    const Tensor longer_q(dtype, {1, 3, 130, 16}, q), longer_k(dtype, {1, 1, 1090, 16}, k);
    inputs.problem().q = longer_q.view();
    inputs.problem().k = longer_k.view();
    const EdgeList whole = run_extract(find_backend("cpu"), inputs.problem());
    EXPECT_GT(whole.report.rows_fp64, 3);
    EXPECT_LT(whole.report.rows_fp64, 3 * 130);
    expect_steps_of(inputs.problem(), 8);
  }
}

// What only an additive mask shows, once the scores are made.
TEST_P(Steps, AreTheWholeWhereABiasNeedsDouble) {
  const Case c = a_case("biases");
  Inputs inputs(c);
  std::vector<double> bias(130 * 1090, 0.0);
  for (const std::size_t row : {3u, 40u, 41u}) {
    for (std::size_t j = 0; j < 1090; ++j) bias[row * 1090 + j] = 2e5 + static_cast<double>(j % 3);
  }
  const Tensor mask(DType::kF32, {1, 1, 130, 1090}, bias);
  inputs.problem().mask.tensor = mask.view();
  inputs.problem().mask.tensor.shape[1] = 3;
  inputs.problem().mask.tensor.strides[1] = 0;
  EXPECT_EQ(run_extract(find_backend("cpu"), inputs.problem()).report.rows_fp64, 9);
  expect_steps_of(inputs.problem(), 9);
}

}  // namespace
}  // namespace ag::test
