// SPDX-License-Identifier: Apache-2.0
// The smaller words: views, errors, reports, control.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "core/control.hpp"
#include "core/error.hpp"
#include "core/problem.hpp"
#include "core/row_block.hpp"
#include "core/tensor_view.hpp"

namespace ag::test {
namespace {

TEST(TensorViews, AddressElementsByStride) {
  std::array<float, 24> data{};
  for (std::size_t n = 0; n < data.size(); ++n) data[n] = static_cast<float>(n);
  const TensorView view = contiguous_view(data.data(), DType::kF32, {2, 3, 4});
  EXPECT_EQ(view.strides[0], 12);
  EXPECT_EQ(view.strides[1], 4);
  EXPECT_EQ(view.strides[2], 1);
  EXPECT_EQ(load_double(DType::kF32, view.at(1, 2, 3)), 23.0);
  EXPECT_EQ(load_double(DType::kF32, view.at(1, 2)), 20.0) << "trailing indices are 0";

  TensorView reversed = view;
  reversed.data = data.data() + 23;
  for (std::size_t d = 0; d < 3; ++d) reversed.strides[d] = -view.strides[d];
  EXPECT_EQ(load_double(DType::kF32, reversed.at(0, 0, 0)), 23.0);
  EXPECT_EQ(load_double(DType::kF32, reversed.at(1, 2, 3)), 0.0);

  TensorView broadcast = view;
  broadcast.strides[0] = 0;
  EXPECT_EQ(broadcast.at(1, 1, 1), broadcast.at(0, 1, 1));
}

TEST(TensorViews, TakeLeadingOnes) {
  const float data[6] = {};
  const TensorView view = with_leading_ones(contiguous_view(data, DType::kF32, {2, 3}), 4);
  EXPECT_EQ(view.ndim, 4);
  EXPECT_EQ(shape_text(view), "[1, 1, 2, 3]");
  EXPECT_EQ(view.at(0, 0, 1, 2), contiguous_view(data, DType::kF32, {2, 3}).at(1, 2));
  EXPECT_EQ(shape_text(with_leading_ones(view, 4)), "[1, 1, 2, 3]");
}

TEST(TensorViews, KnowWhetherTheyAreThere) {
  EXPECT_FALSE(TensorView{});
  EXPECT_TRUE(contiguous_view(nullptr, DType::kF16, {0}));
}

TEST(Problems, QueryHeadsShareKeyHeadsInOrder) {
  Problem problem;
  problem.q = contiguous_view(nullptr, DType::kF32, {1, 6, 5, 4});
  problem.k = contiguous_view(nullptr, DType::kF32, {1, 2, 7, 4});
  std::vector<std::int64_t> shared;
  for (std::int64_t h = 0; h < 6; ++h) shared.push_back(problem.key_head_of(h));
  EXPECT_EQ(shared, (std::vector<std::int64_t>{0, 0, 0, 1, 1, 1}));
}

TEST(Errors, CarryStatusAndSentence) {
  try {
    fail(Status::kShape, "D is {}; the limit is {}", 513, 512);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::kShape);
    EXPECT_STREQ(error.what(), "D is 513; the limit is 512");
  }
}

TEST(Reports, AddUp) {
  RunReport a, b;
  a.eps = 1e-5;
  a.borderline = 3;
  a.empty_rows = 1;
  a.kept_mass_sum = 2.5;
  a.rows_with_keys = 4;
  a.backend = "cpu";
  a.target = "avx2";
  a.threads = 2;
  b = a;
  b.eps = 2e-5;
  b.rows_fp64 = 7;
  b.skipped_nonfinite = 8;
  b.threads = 1;
  b.backend = "reference";
  a.add(b);
  EXPECT_EQ(a.eps, 2e-5) << "the wider band holds for both";
  EXPECT_EQ(a.borderline, 6);
  EXPECT_EQ(a.empty_rows, 2);
  EXPECT_EQ(a.rows_fp64, 7);
  EXPECT_EQ(a.skipped_nonfinite, 8);
  EXPECT_EQ(a.kept_mass_sum, 5.0);
  EXPECT_EQ(a.rows_with_keys, 8);
  EXPECT_EQ(a.backend, "cpu, reference") << "all that answered";
  EXPECT_EQ(a.threads, 2);
  a.add(RunReport{});
  EXPECT_EQ(a.backend, "cpu, reference") << "an empty report says nothing";
}

TEST(Controls, AreQuietWithoutCallbacks) {
  Control control;
  EXPECT_NO_THROW(control.poll(0.5));
  EXPECT_FALSE(control.stopped());
}

TEST(Controls, StopWhenCancelled) {
  Control control([] { return true; }, {});
  try {
    control.poll(0.25);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Status::kCancelled);
  }
  EXPECT_TRUE(control.stopped());
}

TEST(Controls, TellProgressButNotAtEveryCall) {
  std::vector<double> seen;
  Control control({}, [&](double fraction) { seen.push_back(fraction); });
  for (int n = 0; n < 1000; ++n) control.poll(n / 1000.0);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.front(), 0.0);
  EXPECT_LT(seen.size(), 1000u);
}

}  // namespace
}  // namespace ag::test
