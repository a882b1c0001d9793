// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/row_block.hpp"

namespace ag::test {
namespace {

const RowStats kFirst{0.5, 0.25, 0.75, 1.5, 3, 1e-6};
const RowStats kEmpty{};
const RowStats kThird{2.5, 2.25, 1, 0.125, 0, 0.25};

void expect_same(const RowStats& actual, const RowStats& expected) {
  const auto same = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
  EXPECT_EQ(actual.logsumexp, expected.logsumexp);
  EXPECT_EQ(actual.maximum, expected.maximum);
  EXPECT_EQ(actual.kept_mass, expected.kept_mass);
  EXPECT_TRUE(same(actual.entropy, expected.entropy));
  EXPECT_EQ(actual.max_key, expected.max_key);
  EXPECT_TRUE(same(actual.eps, expected.eps));
}

RowStats without_eps(RowStats row) {
  row.eps = kNaN;
  return row;
}

TEST(RowColumns, GiveTheirRowsBack) {
  const RowColumns columns{kFirst, kEmpty, kThird};
  ASSERT_EQ(columns.size(), 3u);
  expect_same(columns.view()[0], without_eps(kFirst));
  expect_same(columns.view()[1], kEmpty);
  expect_same(columns.view().from(1)[1], without_eps(kThird));
}

TEST(RowColumns, TakeBlocksOfOthers) {
  const RowColumns source{kFirst, kEmpty, kThird};
  RowColumns columns{kThird};
  columns.append(source.view(), 2);
  RowStatsView without_entropy = source.view().from(2);
  without_entropy.entropy = nullptr;
  columns.append(without_entropy, 1);
  columns.append({}, 0);
  ASSERT_EQ(columns.size(), 4u);
  expect_same(columns.view()[1], without_eps(kFirst));
  expect_same(columns.view()[2], kEmpty);
  RowStats last = without_eps(kThird);
  last.entropy = kNaN;
  expect_same(columns.view()[3], last);
  for (const std::size_t size :
       {columns.maximum.size(), columns.kept_mass.size(), columns.entropy.size(), columns.max_key.size()})
    EXPECT_EQ(size, 4u);
  columns.clear();
  EXPECT_TRUE(columns.empty() && columns.max_key.empty() && columns.entropy.empty());
}

TEST(StatedColumns, RoundTheBandUp) {
  StatedColumns columns;
  const std::vector<double> bands = {0, 0.25, 1e-6, 1.0 / 3, 1e-60, 3.5e38, 1e300, kInfinity};
  for (const double band : bands) {
    RowStats row = kThird;
    row.eps = band;
    columns.push_back(row);
  }
  columns.push_back(kEmpty);
  for (std::size_t n = 0; n < bands.size(); ++n) {
    const double stored = columns.view()[static_cast<std::int64_t>(n)].eps;
    EXPECT_GE(stored, bands[n]);
    if (bands[n] > 1e-30 && bands[n] < 1e38) {
      EXPECT_LE(stored, bands[n] * (1 + 0x1p-23));
    }
  }
  EXPECT_EQ(columns.eps[0], 0.0f);
  EXPECT_EQ(columns.eps[1], 0.25f);
  EXPECT_TRUE(std::isnan(columns.view().from(8)[0].eps));
  columns.clear();
  EXPECT_TRUE(columns.empty() && columns.eps.empty());
}

TEST(RunReport, CountsFinishedRows) {
  const RowColumns columns{kFirst, kEmpty, kThird, kEmpty};
  RunReport report;
  report.add_rows(columns.view(), 4);
  report.add_rows(columns.view().from(2), 1);
  EXPECT_EQ(report.rows_with_keys, 3);
  EXPECT_EQ(report.empty_rows, 2);
  EXPECT_EQ(report.kept_mass_sum, 0.75 + 1 + 1);
}

}  // namespace
}  // namespace ag::test
