// SPDX-License-Identifier: Apache-2.0
// A slice as a grid of cells.
#include <gmock/gmock.h>

#include "support.hpp"

namespace attngraph_test {
namespace {

TEST(Bins, OfASliceAreItsEdgesInAGrid) {
  const Context context = make_context();
  const float values[] = {1, 0, 0.25f, 0.75f};
  const std::int64_t shape[] = {2, 2};
  attngraph_tensor matrix{values, ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F32, 2, shape, nullptr};
  attngraph_result* made = nullptr;
  attngraph_options options = default_options();
  ASSERT_EQ(attngraph_filter_matrix(context.get(), &matrix, &options, &made), ATTNGRAPH_OK);
  const Result result(made);
  attngraph_bins bins = ATTNGRAPH_BINS_INIT;
  bins.rows = 1;
  bins.columns = 2;
  double cells[3] = {-1, -1, -1};
  ASSERT_EQ(attngraph_result_bins(result.get(), 0, &bins, cells), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_THAT(cells, testing::ElementsAre(1, 0.75, -1));
  bins.value = ATTNGRAPH_BIN_MEAN;
  ASSERT_EQ(attngraph_result_bins(result.get(), 0, &bins, cells), ATTNGRAPH_OK);
  EXPECT_THAT(cells, testing::ElementsAre(0.625, 0.375, -1));

  bins.value = 7;
  EXPECT_EQ(attngraph_result_bins(result.get(), 0, &bins, cells), ATTNGRAPH_ERROR_ARGUMENT);
  bins.value = ATTNGRAPH_BIN_SUM;
  EXPECT_EQ(attngraph_result_bins(result.get(), 1, &bins, cells), ATTNGRAPH_ERROR_NOT_FOUND);
  EXPECT_EQ(attngraph_result_bins(result.get(), 0, &bins, nullptr), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_result_bins(result.get(), 0, nullptr, cells), ATTNGRAPH_ERROR_ARGUMENT);
  bins.query_end = 3;
  EXPECT_EQ(attngraph_result_bins(result.get(), 0, &bins, cells), ATTNGRAPH_ERROR_ARGUMENT);
  bins.struct_size = 1;
  EXPECT_EQ(attngraph_result_bins(result.get(), 0, &bins, cells), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_THAT(cells, testing::ElementsAre(0.625, 0.375, -1));
}

}  // namespace
}  // namespace attngraph_test
