// SPDX-License-Identifier: Apache-2.0
// cuda_streaming's pass against plain loops in double: every shape, mask and variant.
#include <cmath>
#include <vector>

#include "score_pass_checks.hpp"

namespace ag::test {
namespace {

TEST(StreamingRows, FindsSumsAndEdgesUnderEverySchedule) {
  PassCase c;
  c.queries = 70;
  c.keys = 300;
  c.causal = true;
  c.query_offset = 230;
  fill_random(c, 1, 2);
  for_every_schedule([&] {
    for (const bool entropy : {false, true}) {
      c.options.entropy = entropy;
      check(c);
    }
  });
}

TEST(StreamingRows, TakesEveryHeadSize) {
#if defined(ATTNGRAPH_EMULATION)
  emu::reset_counters();
#endif
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    for (const std::int64_t dim : {1, 32, 48, 64, 80, 96, 100, 128, 192, 256}) {
      PassCase c;
      c.dtype = dtype;
      c.dim = dim;
      c.queries = 19;
      c.keys = 75;
      c.scale = 1 / std::sqrt(static_cast<double>(dim));
      fill_random(c, static_cast<std::uint64_t>(dim), 2);
      check(c);
      c.options.entropy = true;
      check(c);
      if (dim == 1 || dim == 100 || dim == 192) {  // one for each instance of the general variant
        c.softcap = 20;
        check(c);
      }
    }
  }
#if defined(ATTNGRAPH_EMULATION)
  EXPECT_GT(emu::counters().ldmatrix, 0u);
  EXPECT_EQ(emu::counters().ldmatrix_conflicts, 0u) << "the swizzle of some head size lets two rows share a bank";
#endif
}

TEST(StreamingRows, ManyRowsOfManyHeadsShareBlocks) {
  PassCase c;
  c.heads = 3;
  c.queries = 61;  // 183 rows: two blocks, and one that is not full
  c.keys = 131;
  c.query_begin = 5;
  c.causal = true;
  c.query_offset = 40;
  fill_random(c, 3, 2);
  check(c);
}

TEST(StreamingRows, CausalFromTheFirstQuery) {
  PassCase c;
  c.heads = 2;
  c.queries = c.keys = 160;
  c.causal = true;
  fill_random(c, 4, 2);
  check(c);
  c.query_offset = -20;  // the first queries see nothing
  check(c);
}

TEST(StreamingRows, WindowsAndLengths) {
  for (const bool causal : {true, false}) {
    PassCase c;
    c.queries = 90;
    c.keys = 400;
    c.query_offset = 300;
    c.window = 37;
    c.key_count = 371;
    c.causal = causal;
    fill_random(c, 5, 2);
    check(c);
    c.key_count = 0;
    check(c);
  }
}

TEST(StreamingRows, BadKeysAndBadQueriesAreMasked) {
  PassCase c;
  c.queries = 150;  // whole warps of rows, which see all keys of a step
  c.keys = 140;
  c.bad_keys = {0, 31, 64, 65, 139};
  c.bad_queries = {3};
  fill_random(c, 6, 2);
  check(c);
}

TEST(StreamingRows, MaskTensorsOfEveryType) {
  for (const DType dtype : {DType::kBool, DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    PassCase c;
    c.heads = 2;
    c.queries = 40;
    c.query_begin = 3;
    c.keys = 90;
    c.causal = true;
    c.query_offset = 45;
    c.mask_dtype = dtype;
    fill_random(c, 7, 2);
    Random random(8);
    for (std::int64_t n = 0; n < c.heads * (c.query_begin + c.queries) * c.keys; ++n) {
      const double kind = random.uniform();
      const double bias = kind < 0.2 ? kNone : kind < 0.3 ? lowest_of(dtype) : random.normal();
      c.mask.push_back(dtype == DType::kBool ? static_cast<double>(kind < 0.7) : bias);
    }
    std::fill_n(c.mask.begin() + 5 * c.keys, c.keys, dtype == DType::kBool ? 0 : kNone);  // a row without keys
    check(c);
  }
}

TEST(StreamingRows, SlopesOfDistance) {
  for (const bool causal : {true, false}) {
    for (const std::int64_t dim : {64, 256}) {
      PassCase c;
      c.dim = dim;
      c.heads = 3;
      c.queries = 50;
      c.query_begin = 4;
      c.keys = 300;
      c.causal = causal;
      c.query_offset = 140;  // queries among the keys: they fall off on both sides
      c.slopes = {0.5, 0.0, 0.01};
      fill_random(c, 11, 2);
      check(c);
      c.softcap = 5;
      c.options.entropy = true;
      check(c);
    }
  }
  PassCase far;
  far.queries = 3;
  far.keys = 80;
  far.query_offset = -100'000'000;  // keys follow at distances that float rounds
  far.slopes = {1e-7};
  fill_random(far, 12, 2);
  check(far);
}

TEST(StreamingRows, SoftcapAndEntropy) {
  for (const double scale : {0.125, -0.125, 1.0}) {
    PassCase c;
    c.dtype = DType::kBF16;
    c.queries = 33;
    c.keys = 200;
    c.scale = scale;
    c.softcap = 5;
    c.options.entropy = true;
    fill_random(c, 9, 3);
    check(c);
    c.softcap = 0;
    check(c);
  }
}

TEST(StreamingRows, ScalesOfEitherSignAndZero) {
  for (const double scale : {-0.125, 0.0, 1e-20}) {
    for (const std::int64_t dim : {64, 256}) {  // queries in registers, in shared memory
      PassCase c;
      c.dim = dim;
      c.queries = 20;
      c.keys = 80;
      c.scale = scale;
      c.threshold = scale == 0.0 ? 1.0 / 80 : 0.01;
      fill_random(c, 10, 2);
      check(c);
    }
  }
}

// Exact numbers: every score is a whole multiple of 1/8.
TEST(StreamingRows, TheSmallestOfEqualKeysIsTheMaximum) {
  PassCase c;
  c.dim = 32;
  c.queries = 10;
  c.keys = 500;
  c.threshold = 0.001;
  fill_constant(c, 1, 1);
  check(c);
  for (const std::int64_t j : {450, 270, 499, 130}) {  // equals, in tiles that are visited in another order
    for (std::int64_t d = 0; d < c.dim; ++d) c.k[static_cast<std::size_t>(j * c.dim + d)] = 2;
  }
  check(c);
}

}  // namespace
}  // namespace ag::test
