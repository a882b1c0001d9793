// SPDX-License-Identifier: Apache-2.0
// The sm_90a kernels alone: sums, largest products and candidates of tables of chunks, against plain loops in double.
#include "../../cuda/wgmma/wgmma_pass.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../../cuda/stages/key_range.hpp"
#include "support.hpp"
#if defined(ATTNGRAPH_EMULATION)
#include "emulation/runtime.hpp"
#endif

namespace ag::cuda {
namespace {

using test::DeviceArray;

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::uint16_t to_f16(float x) { return __half_as_ushort(__float2half_rn(x)); }
double from_f16(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
std::uint16_t to_bf16(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
double from_bf16(std::uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }

// splitmix64 as numbers of a normal's width.
struct Numbers {
  std::uint64_t state;
  double next() {
    double sum = -3;
    for (int i = 0; i < 6; ++i) {
      std::uint64_t z = state += 0x9e3779b97f4a7c15u;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      sum += static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
    }
    return sum;
  }
};

struct ChunkShape {
  std::int64_t heads = 1, queries = 1, key_count = 1, query_offset = 0, query_begin = 0;
};

struct Case {
  const char* name;
  DType dtype = DType::kF16;
  std::int64_t head_dim = 64, keys = 1;
  std::vector<ChunkShape> chunks = {};
  bool causal = false;
  std::int64_t window = 0;
  double scale = 0.125, sharpness = 1;
  double shift = 0;   // added to the first column of q, times 16 of k: scores far from 0
  double growth = 0;  // added to that column of k for each key: scores that grow
  double threshold = 0.02;
  std::vector<std::int64_t> bad_keys = {}, bad_rows = {};  // of chunk 0
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// A case on the device, and what is right.
class Problem {
 public:
  explicit Problem(const Case& c) : case_(c), pitch_((c.head_dim + 15) / 16 * 16) {
    const bool split = c.dtype == DType::kF32;
    Numbers numbers{7};
    for (const ChunkShape& shape : c.chunks) {
      Chunk chunk;
      chunk.heads = shape.heads;
      chunk.queries = chunk.all_queries = shape.queries;
      chunk.query_begin = shape.query_begin;
      chunk.keys = c.keys;
      chunk.head_dim = c.head_dim;
      chunk.first_row = rows_;
      chunk.mask.causal = c.causal ? 1 : 0;
      chunk.mask.window = c.window;
      chunk.mask.key_count = shape.key_count;
      chunk.mask.query_offset = shape.query_offset;
      rows_ += chunk.rows();
      most_rows_ = std::max(most_rows_, chunk.rows());
      chunks_.push_back(chunk);
    }
    // all_queries covers the range: rows of earlier queries are not stored in these tests.
    for (Chunk& chunk : chunks_) chunk.all_queries = chunk.query_begin + chunk.queries;
    q_.assign(static_cast<std::size_t>(rows_ * c.head_dim), 0);
    for (std::size_t i = 0; i < q_.size(); ++i) {
      const bool first = i % static_cast<std::size_t>(c.head_dim) == 0;
      q_[i] = stored(numbers.next() * c.sharpness + (first ? c.shift : 0));
    }
    k_.assign(chunks_.size() * static_cast<std::size_t>(c.keys * c.head_dim), 0);
    for (std::size_t n = 0; n < chunks_.size(); ++n) {
      for (std::int64_t j = 0; j < chunks_[n].mask.key_count; ++j) {
        for (std::int64_t d = 0; d < c.head_dim; ++d)
          key(n, j, d) = stored(numbers.next() + (d == 0 && c.shift != 0 ? 16 + c.growth * static_cast<double>(j) : 0));
      }
    }
    // Parts: f32 as high and low halves of values times 2^4.
    const std::size_t parts = split ? 2 : 1, width = static_cast<std::size_t>(pitch_) * parts;
    std::vector<std::uint16_t> q(static_cast<std::size_t>(rows_) * width),
        k(chunks_.size() * static_cast<std::size_t>(c.keys) * width);
    std::vector<double> norms;
    std::vector<std::vector<double>> chunk_norms;
    for (std::size_t n = 0; n < chunks_.size(); ++n) {
      const Chunk& chunk = chunks_[n];
      chunk_norms.emplace_back(static_cast<std::size_t>(chunk.heads * chunk.all_queries), 1.0);
      for (std::int64_t r = 0; r < chunk.rows(); ++r) {
        const std::int64_t g = r / chunk.queries, i = r % chunk.queries;
        put(&q[static_cast<std::size_t>(chunk.first_row + i * chunk.heads + g) * width],
            &q_[static_cast<std::size_t>((chunk.first_row + r) * c.head_dim)]);
      }
      for (std::int64_t j = 0; j < c.keys; ++j)
        put(&k[(n * static_cast<std::size_t>(c.keys) + static_cast<std::size_t>(j)) * width], &key(n, j, 0));
    }
    for (const std::int64_t r : c.bad_rows) {
      chunk_norms[0][static_cast<std::size_t>(r / chunks_[0].queries * chunks_[0].all_queries + chunks_[0].query_begin +
                                              r % chunks_[0].queries)] = kNan;
      const std::int64_t g = r / chunks_[0].queries, i = r % chunks_[0].queries;
      q[static_cast<std::size_t>(i * chunks_[0].heads + g) * width] = 0x7E00;
    }
    std::vector<std::uint8_t> bad(static_cast<std::size_t>(std::max<std::int64_t>(c.keys, 1)), 0);
    for (const std::int64_t j : c.bad_keys) {
      bad[static_cast<std::size_t>(j)] = 1;
      k[static_cast<std::size_t>(j) * width] = 0x7E00;
    }
    d_q_ = DeviceArray<std::uint16_t>(q);
    d_k_ = DeviceArray<std::uint16_t>(k);
    d_bad_ = DeviceArray<std::uint8_t>(bad);
    for (std::size_t n = 0; n < chunks_.size(); ++n) {
      d_norms_.emplace_back(chunk_norms[n]);
      chunks_[n].q_norms = d_norms_.back().data();
    }
    if (!c.bad_keys.empty()) chunks_[0].mask.bad_keys = d_bad_.data();
    std::vector<ChunkFacts> facts(chunks_.size());
    unit_ = static_cast<float>(c.scale * 1.4426950408889634 * (split ? 0x1p-8 : 1.0));
    for (ChunkFacts& f : facts) f.units.unit = unit_;
    d_chunks_ = DeviceArray<Chunk>(chunks_);
    d_facts_ = DeviceArray<ChunkFacts>(facts);
    d_items_ = DeviceArray<std::int32_t>(std::vector<std::int32_t>(2, 0));
    const auto rows = static_cast<std::size_t>(rows_);
    d_reference_ = DeviceArray<double>(std::vector<double>(rows, kNan));
    d_sum_ = DeviceArray<double>(std::vector<double>(rows, kNan));
    d_weighted_ = DeviceArray<double>(std::vector<double>(rows, kNan));
    d_top_ = DeviceArray<float>(std::vector<float>(rows, 0.0f));
    arguments_.batch.chunks = d_chunks_.data();
    arguments_.batch.facts = d_facts_.data();
    arguments_.batch.count = static_cast<std::int32_t>(chunks_.size());
    arguments_.batch.rows = rows_;
    arguments_.batch.most_rows = most_rows_;
    arguments_.batch.keys = c.keys;
    arguments_.batch.head_dim = c.head_dim;
    arguments_.operands.dtype = static_cast<std::int32_t>(c.dtype);
    arguments_.operands.split = split;
    arguments_.operands.packed = true;
    arguments_.operands.pitch = pitch_;
    arguments_.operands.q = d_q_.data();
    arguments_.operands.k = d_k_.data();
    arguments_.chunk_group = 2;
    arguments_.states.reference = d_reference_.data();
    arguments_.states.sum = d_sum_.data();
    arguments_.top = d_top_.data();
  }

  std::int64_t rows() const { return rows_; }

  // Base-2 scores of a row's allowed keys; others are -inf.
  std::vector<double> scores(std::int64_t row) const {
    std::size_t n = 0;
    while (row >= chunks_[n].first_row + chunks_[n].rows()) ++n;
    const Chunk& chunk = chunks_[n];
    const std::int64_t r = row - chunk.first_row;
    std::vector<double> s(static_cast<std::size_t>(case_.keys), -INFINITY);
    if (n == 0 && std::find(case_.bad_rows.begin(), case_.bad_rows.end(), r) != case_.bad_rows.end()) return s;
    const DeviceKeyRange range = key_range(chunk.mask, chunk.query_begin + r % chunk.queries);
    for (std::int64_t j = range.begin; j < range.end; ++j) {
      if (n == 0 && std::find(case_.bad_keys.begin(), case_.bad_keys.end(), j) != case_.bad_keys.end()) continue;
      double sum = 0;
      for (std::int64_t d = 0; d < case_.head_dim; ++d)
        sum += q_[static_cast<std::size_t>(row * case_.head_dim + d)] * key(n, j, d);
      s[static_cast<std::size_t>(j)] = sum * case_.scale * 1.4426950408889634;
    }
    return s;
  }

  void check() {
    std::vector<std::vector<double>> all;
    for (std::int64_t r = 0; r < rows_; ++r) all.push_back(scores(r));
    std::vector<RowCut> cuts;
    check_statistics(all, true, cuts);
    if (testing::Test::HasFatalFailure()) return;
    check_statistics(all, false, cuts);
    if (testing::Test::HasFatalFailure()) return;
    check_edges(all, cuts, d_top_.download());
  }

 private:
  static double tolerance(double score) { return 2e-5 + 4e-6 * std::abs(score); }

  void check_statistics(const std::vector<std::vector<double>>& all, bool entropy, std::vector<RowCut>& cuts) {
    test::cuda_ok(cudaMemset(d_items_.data(), 0, 8));
    StreamingArguments a = arguments_;
    a.entropy = entropy;
    a.states.weighted = entropy ? d_weighted_.data() : nullptr;
    run_wgmma_statistics(a, d_items_.data(), test::kDefaultStream);
    test::wait_for_device();
    const std::vector<double> reference = d_reference_.download(), sum = d_sum_.download(),
                              weighted = d_weighted_.download();
    const std::vector<float> top = d_top_.download();
    cuts.assign(static_cast<std::size_t>(rows_), {});
    for (std::int64_t r = 0; r < rows_; ++r) {
      const auto n = static_cast<std::size_t>(r);
      double largest = -INFINITY, total = 0;
      for (const double s : all[n]) largest = std::max(largest, s);
      if (largest == -INFINITY) {
        ASSERT_EQ(sum[n], 0) << "row " << r;
        ASSERT_EQ(top[n], kLowest) << "row " << r;
        if (entropy) {
          ASSERT_EQ(weighted[n], 0) << "row " << r;
        }
        cuts[n] = {std::numeric_limits<float>::max(), std::numeric_limits<float>::max()};
        continue;
      }
      for (const double s : all[n]) total += std::exp2(s - largest);
      const double log2_sum = largest + std::log2(total);
      const double error = std::abs((reference[n] + std::log(sum[n])) * 1.4426950408889634 - log2_sum);
      ASSERT_LT(error, tolerance(log2_sum)) << "row " << r;
      ASSERT_NEAR(static_cast<double>(top[n]) * unit_, largest, tolerance(largest)) << "row " << r;
      cuts[n] = {static_cast<float>((log2_sum + std::log2(case_.threshold)) / unit_), top[n]};
      if (!entropy) continue;
      // What entropy takes of them, in nats: errors of scores count by how far they are from their mean.
      double expected = 0, spread = 0;
      for (const double s : all[n]) {
        if (s == -INFINITY) continue;
        const double x = s / 1.4426950408889634 - reference[n], weight = std::exp2(s - log2_sum);
        expected += weight * x;
        spread += weight * std::abs(x);
      }
      ASSERT_NEAR(weighted[n] / sum[n], expected, tolerance(log2_sum) * (2 + spread)) << "row " << r;
    }
  }

  double stored(double x) const {
    if (case_.dtype == DType::kF32) return static_cast<double>(static_cast<float>(x));
    if (case_.dtype == DType::kBF16) return from_bf16(to_bf16(static_cast<float>(x)));
    return from_f16(to_f16(static_cast<float>(x)));
  }
  double& key(std::size_t n, std::int64_t j, std::int64_t d) {
    return k_[(n * static_cast<std::size_t>(case_.keys) + static_cast<std::size_t>(j)) *
                  static_cast<std::size_t>(case_.head_dim) +
              static_cast<std::size_t>(d)];
  }
  double key(std::size_t n, std::int64_t j, std::int64_t d) const { return const_cast<Problem*>(this)->key(n, j, d); }
  void put(std::uint16_t* to, const double* from) const {
    for (std::int64_t d = 0; d < case_.head_dim; ++d) {
      const auto x = static_cast<float>(from[d]);
      if (case_.dtype == DType::kBF16) {
        to[d] = to_bf16(x);
      } else if (case_.dtype == DType::kF16) {
        to[d] = to_f16(x);
      } else {
        to[d] = to_f16(x * 16);
        to[pitch_ + d] = to_f16(x * 16 - static_cast<float>(from_f16(to[d])));
      }
    }
  }

  void check_edges(const std::vector<std::vector<double>>& all, const std::vector<RowCut>& cuts,
                   const std::vector<float>& top) {
    const std::int64_t capacity = static_cast<std::int64_t>(1.1 / case_.threshold) + 4;
    const auto rows = static_cast<std::size_t>(rows_);
    const DeviceArray<RowCut> d_cuts(cuts);
    const DeviceArray<std::int32_t> d_keys(std::vector<std::int32_t>(rows * static_cast<std::size_t>(capacity), -1));
    const DeviceArray<std::int32_t> d_count(std::vector<std::int32_t>(rows, -1)),
        d_max_key(std::vector<std::int32_t>(rows, -1));
    StreamingArguments a = arguments_;
    a.cuts = d_cuts.data();
    a.states.max_key = d_max_key.data();
    a.candidates.count = d_count.data();
    a.candidates.capacity = capacity;
    // Counted, then written.
    run_wgmma_edges(a, d_items_.data() + 1, test::kDefaultStream);
    test::wait_for_device();
    const std::vector<std::int32_t> counted = d_count.download();
    test::cuda_ok(cudaMemset(d_items_.data(), 0, 8));
    a.candidates.keys = d_keys.data();
    run_wgmma_edges(a, d_items_.data() + 1, test::kDefaultStream);
    test::wait_for_device();
    ASSERT_EQ(counted, d_count.download());
    check_small_room(a, counted);
    const std::vector<std::int32_t> keys = d_keys.download(), max_key = d_max_key.download();
    for (std::size_t r = 0; r < rows; ++r) {
      const std::vector<double>& s = all[r];
      if (top[r] == kLowest) {
        ASSERT_EQ(counted[r], 0) << "row " << r;
        continue;
      }
      ASSERT_LE(counted[r], capacity) << "row " << r;
      const std::int32_t* const first = &keys[r * static_cast<std::size_t>(capacity)];
      ASSERT_TRUE(std::is_sorted(first, first + counted[r], std::less_equal<>())) << "row " << r;
      const double cut = static_cast<double>(cuts[r].cut) * unit_, largest = *std::max_element(s.begin(), s.end());
      for (std::int64_t j = 0; j < case_.keys; ++j) {
        const double score = s[static_cast<std::size_t>(j)];
        const std::int32_t* const at = std::find(first, first + counted[r], static_cast<std::int32_t>(j));
        const bool found = at != first + counted[r];
        if (score > cut + tolerance(score)) {
          ASSERT_TRUE(found) << "row " << r << " key " << j;
        }
        if (!(score >= cut - tolerance(cut))) {
          ASSERT_FALSE(found) << "row " << r << " key " << j;
        }
      }
      ASSERT_GE(max_key[r], 0) << "row " << r;
      ASSERT_LT(max_key[r], case_.keys) << "row " << r;
      ASSERT_GE(s[static_cast<std::size_t>(max_key[r])], largest - tolerance(largest)) << "row " << r;
    }
  }

  // Rows with more candidates than room say so, and leave their neighbours' room alone.
  void check_small_room(StreamingArguments a, const std::vector<std::int32_t>& counted) {
    constexpr std::int64_t kRoom = 2;
    const auto rows = static_cast<std::size_t>(rows_);
    const DeviceArray<std::int32_t> d_keys(std::vector<std::int32_t>(rows * kRoom, -1));
    a.candidates.keys = d_keys.data();
    a.candidates.capacity = kRoom;
    test::cuda_ok(cudaMemset(d_items_.data(), 0, 8));
    run_wgmma_edges(a, d_items_.data() + 1, test::kDefaultStream);
    test::wait_for_device();
    const std::vector<std::int32_t> keys = d_keys.download();
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::int32_t n = 0; n < kRoom; ++n) {
        ASSERT_EQ(keys[r * kRoom + static_cast<std::size_t>(n)] >= 0, n < counted[r]) << "row " << r;
      }
      if (counted[r] > 1) {
        ASSERT_LT(keys[r * kRoom], keys[r * kRoom + 1]) << "row " << r;
      }
    }
  }

  const Case case_;
  const std::int64_t pitch_;
  std::vector<Chunk> chunks_;
  std::vector<double> q_, k_;
  std::int64_t rows_ = 0, most_rows_ = 0;
  float unit_ = 1;
  DeviceArray<std::uint16_t> d_q_, d_k_;
  DeviceArray<std::uint8_t> d_bad_;
  std::vector<DeviceArray<double>> d_norms_;
  DeviceArray<Chunk> d_chunks_;
  DeviceArray<ChunkFacts> d_facts_;
  DeviceArray<std::int32_t> d_items_;
  DeviceArray<double> d_reference_, d_sum_, d_weighted_;
  DeviceArray<float> d_top_;
  StreamingArguments arguments_;
};

class WgmmaKernels : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
#if defined(ATTNGRAPH_EMULATION)
    emu::Settings settings = emu::settings_from_environment();
    settings.compute_capability = 90;
    settings.multiprocessors = 2;
    emu::reset_runtime(settings);
#else
    int major = 0;
    test::cuda_ok(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    if (major != 9 || !has_wgmma()) GTEST_SKIP() << "needs a device of compute capability 9.0 and a build for sm_90a";
#endif
  }
  void TearDown() override {
#if defined(ATTNGRAPH_EMULATION)
    emu::reset_runtime();
#endif
  }
};

TEST_P(WgmmaKernels, FindWhatPlainLoopsFind) { Problem(GetParam()).check(); }

// More chunks than rows of one, more items than blocks, ranges that begin and end in the middle of tiles.
const Case kCases[] = {
    {.name = "OneKey", .keys = 1, .chunks = {{1, 1, 1}}},
    {.name = "Full", .keys = 300, .chunks = {{1, 130, 300}}},
    {.name = "CausalOfGroupedHeads",
     .keys = 290,
     .chunks = {{3, 100, 290, 190}, {2, 70, 200, 0, 30}, {1, 290, 290}},
     .causal = true},
    {.name = "MoreTilesThanStages", .keys = 1400, .chunks = {{1, 40, 1400}}},
    {.name = "Window", .keys = 400, .chunks = {{2, 200, 400, 150}}, .causal = true, .window = 37},
    {.name = "WindowOfBothSides", .keys = 300, .chunks = {{1, 260, 300, 20}}, .window = 50},
    {.name = "RowsWithoutKeys", .keys = 140, .chunks = {{2, 90, 140, -40}, {1, 20, 0}}, .causal = true},
    {.name = "BadRowsAndKeys",
     .keys = 260,
     .chunks = {{2, 60, 260}, {1, 30, 130}},
     .bad_keys = {0, 5, 130, 131, 259},
     .bad_rows = {0, 17, 119}},
    {.name = "Bf16OfTwoPanels",
     .dtype = DType::kBF16,
     .head_dim = 128,
     .keys = 600,
     .chunks = {{2, 30, 600}},
     .scale = 0.088},
    {.name = "F16OfTwoPanels",
     .head_dim = 96,
     .keys = 460,
     .chunks = {{1, 150, 460, 310}},
     .causal = true,
     .scale = 0.1},
    {.name = "NarrowHeads", .head_dim = 20, .keys = 150, .chunks = {{5, 30, 150}}, .scale = 0.2},
    {.name = "SplitF32",
     .dtype = DType::kF32,
     .head_dim = 64,
     .keys = 470,
     .chunks = {{2, 70, 470, 400}},
     .causal = true},
    {.name = "SplitF32OfNarrowHeads", .dtype = DType::kF32, .head_dim = 40, .keys = 130, .chunks = {{1, 65, 130}}},
    {.name = "Sharp", .keys = 500, .chunks = {{1, 70, 500}}, .sharpness = 12, .threshold = 0.3},
    {.name = "ScoresFarAboveZero", .keys = 300, .chunks = {{1, 40, 300}}, .shift = 40},
    {.name = "ScoresThatGrow", .keys = 400, .chunks = {{1, 40, 400}}, .shift = 40, .growth = 0.1},
    // References move while what was summed still counts.
    {.name = "ScoresThatGrowSlowly", .keys = 400, .chunks = {{1, 40, 400}}, .shift = 4, .growth = 0.07},
    {.name = "ScoresFarBelowZero", .keys = 300, .chunks = {{1, 40, 300}}, .shift = -40},
};

INSTANTIATE_TEST_SUITE_P(Cases, WgmmaKernels, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

TEST_F(WgmmaKernels, AreRightUnderEverySchedule) {
  if (IsSkipped()) return;
  Case c = kCases[2];
  test::for_every_schedule([&] { Problem(c).check(); });
}

}  // namespace
}  // namespace ag::cuda
