// SPDX-License-Identifier: Apache-2.0
// Keys that come piece by piece: whatever the pieces are, the rows asked are those of the whole pass, bit for bit.
#include <attngraph/attngraph.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace {

using attngraph::options;
using testing::HasSubstr;

constexpr std::int64_t kBatch = 2, kQueryHeads = 6, kKeyHeads = 2, kDim = 24;

std::size_t bytes_of(attngraph_dtype dtype) { return dtype == ATTNGRAPH_F64 ? 8 : dtype == ATTNGRAPH_F32 ? 4 : 2; }

// [B, H, n, D] with values of some -3 to 3.
struct Values {
  Values(attngraph_dtype of, std::int64_t heads, std::int64_t count, unsigned seed) : dtype(of), h(heads), n(count) {
    std::mt19937 random(seed);
    data.resize(static_cast<std::size_t>(kBatch * heads * count * kDim) * bytes_of(of));
    for (std::size_t at = 0; at < data.size(); at += bytes_of(of)) {
      const double x = static_cast<double>(random() % 6001) / 1000 - 3;
      const auto f = static_cast<float>(x);
      std::uint32_t bits = 0;
      std::memcpy(&bits, &f, 4);
      const auto bf16 = static_cast<std::uint16_t>(bits >> 16);
      // A sign, an exponent from 2^-7 to 2^1, ten bits.
      const auto f16 = static_cast<std::uint16_t>((random() & 0x83FFu) | (8 + random() % 9) << 10);
      if (of == ATTNGRAPH_F64) std::memcpy(data.data() + at, &x, 8);
      if (of == ATTNGRAPH_F32) std::memcpy(data.data() + at, &f, 4);
      if (of == ATTNGRAPH_F16) std::memcpy(data.data() + at, &f16, 2);
      if (of == ATTNGRAPH_BF16) std::memcpy(data.data() + at, &bf16, 2);
    }
  }
  // Positions [begin, end), in place.
  attngraph::tensor at(std::int64_t begin, std::int64_t end) const {
    return {data.data() + static_cast<std::size_t>(begin * kDim) * bytes_of(dtype),
            dtype,
            {kBatch, h, end - begin, kDim},
            {h * n * kDim, n * kDim, kDim, 1}};
  }
  attngraph_dtype dtype;
  std::int64_t h, n;
  std::vector<unsigned char> data;
};

attngraph::session make_session(std::int64_t window = 0, attngraph_nonfinite rule = ATTNGRAPH_NONFINITE_ERROR) {
  attngraph_session_options how = ATTNGRAPH_SESSION_OPTIONS_INIT;
  how.window = window;
  how.nonfinite = rule;
  return attngraph::session(attngraph::context("cpu"), how);
}

template <class T>
bool same(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

// Rows [begin, begin + n) of the whole are those of the step, whose queries count from 0, in all bits.
void expect_rows(const attngraph::result& step, const attngraph::result& whole, std::int64_t begin) {
  ASSERT_EQ(step.slice_count(), whole.slice_count());
  for (std::int64_t s = 0; s < step.slice_count(); ++s) {
    const attngraph::slice a = step.slice(s), w = whole.slice(s);
    const auto first = static_cast<std::size_t>(begin), n = static_cast<std::size_t>(a.query_count);
    const std::int64_t edges = w.offsets[first];
    for (std::size_t r = 0; r <= n; ++r) ASSERT_EQ(a.offsets[r], w.offsets[first + r] - edges) << "row " << first + r;
    const auto from = static_cast<std::size_t>(edges), count = static_cast<std::size_t>(a.offsets[n]);
    EXPECT_TRUE(same(a.keys, w.keys.subspan(from, count)));
    EXPECT_TRUE(same(a.weights_f32, w.weights_f32.subspan(from, count)));
    EXPECT_TRUE(same(a.rows.logsumexp, w.rows.logsumexp.subspan(first, n)));
    EXPECT_TRUE(same(a.rows.maximum, w.rows.maximum.subspan(first, n)));
    EXPECT_TRUE(same(a.rows.max_key, w.rows.max_key.subspan(first, n)));
    EXPECT_TRUE(same(a.rows.kept_mass, w.rows.kept_mass.subspan(first, n)));
  }
}

// Random pieces of keys; after each, rows of some of the queries at the end, or of earlier ones.
void expect_steps(const Values& q, const Values& k, const options& how, unsigned seed, std::int64_t window = 0) {
  attngraph::context context("cpu");
  const attngraph::result whole = context.extract(q.at(0, q.n), k.at(0, k.n), options(how).query_offset(0));
  attngraph::session session = make_session(window);
  std::mt19937 random(seed);
  for (std::int64_t count = 0; count < k.n;) {
    const auto more =
        std::min(k.n - count, static_cast<std::int64_t>(random() % 3 == 0 ? 1 + random() % 300 : 1 + random() % 4));
    session.append(k.at(count, count + more));
    const std::int64_t oldest = window > 0 ? count : 0;
    count += more;
    std::int64_t begin = random() % 4 == 0
                             ? oldest + static_cast<std::int64_t>(random() % static_cast<unsigned>(count - oldest))
                             : count - more;
    const std::int64_t end =
        std::min(count, begin + 1 + static_cast<std::int64_t>(random() % static_cast<unsigned>(more)));
    expect_rows(session.rows(q.at(begin, end), options(how).query_offset(begin)), whole, begin);
    if (testing::Test::HasFailure()) FAIL() << count << " keys, queries " << begin << " to " << end;
  }
  EXPECT_EQ(session.describe().keys, k.n);
}

options causal() { return options().threshold(0.01).causal(); }

TEST(Session, StepsAreTheWholeInEveryType) {
  for (const attngraph_dtype dtype : {ATTNGRAPH_F32, ATTNGRAPH_F16, ATTNGRAPH_BF16, ATTNGRAPH_F64}) {
    SCOPED_TRACE(dtype);
    const Values q(dtype, kQueryHeads, 1150, 1), k(dtype, kKeyHeads, 1150, 2);
    expect_steps(q, k, causal(), 3);
  }
}

// Long enough for its packed keys to lie in blocks, which windows and drafts give back.
TEST(Session, LongSequencesAreTheWholeToo) {
  const auto expect_steps_of = [](attngraph_dtype dtype, std::int64_t window) {
    SCOPED_TRACE(testing::Message() << dtype << ", window " << window);
    const Values q(dtype, kQueryHeads, 7, 21), k(dtype, kKeyHeads, 56000, 22);
    options how = causal();
    if (window > 0) how.window(window);
    attngraph::session session = make_session(window);
    attngraph::context context("cpu");
    std::int64_t count = 0;
    for (const std::int64_t more : {24000, 1, 27000, 4000, 2}) {
      session.append(k.at(count, count + more));
      count += more;
      for (const std::int64_t rows : {1, 3, 7}) {
        if (rows > more) continue;
        const options here = options(how).query_offset(count - rows);
        expect_rows(session.rows(q.at(0, rows), here), context.extract(q.at(0, rows), k.at(0, count), here), 0);
      }
      if (testing::Test::HasFailure()) FAIL() << count << " keys";
      if (more == 4000) session.truncate(count -= 3000);
    }
  };
  expect_steps_of(ATTNGRAPH_F32, 0);
  expect_steps_of(ATTNGRAPH_F16, 47000);
  expect_steps_of(ATTNGRAPH_BF16, 0);
}

TEST(Session, StepsAreTheWholeWhateverSelects) {
  const Values q(ATTNGRAPH_F32, kQueryHeads, 700, 4), k(ATTNGRAPH_F32, kKeyHeads, 700, 5);
  expect_steps(q, k, causal().threshold(0).top_k(7), 1);
  expect_steps(q, k, causal().threshold(0).mass(0.7), 2);
  expect_steps(q, k, causal().window(90), 3);
  expect_steps(q, k, causal().softcap(4), 4);
  expect_steps(q, k, causal().heads({1, 4, 5}), 5);
  expect_steps(q, k, causal().threads(2), 6);
  expect_steps(q, k, causal().decision(ATTNGRAPH_DECISION_CERTIFIED), 7);
  const std::vector<float> sinks = {0, 1, 2, -1, 0.5F, 3};
  expect_steps(q, k, causal().sinks({sinks.data(), {kQueryHeads}}), 8);
}

TEST(Session, AGivenLogsumexpIsOfTheCall) {
  const Values q(ATTNGRAPH_F32, kQueryHeads, 300, 6), k(ATTNGRAPH_F32, kKeyHeads, 300, 7);
  std::vector<double> lse(static_cast<std::size_t>(kBatch * kQueryHeads * 300));
  for (std::size_t n = 0; n < lse.size(); ++n) lse[n] = 6 + static_cast<double>(n % 7) / 8;
  const auto lse_at = [&](std::int64_t begin, std::int64_t end) {
    return attngraph::tensor(lse.data() + begin, ATTNGRAPH_F64, {kBatch, kQueryHeads, end - begin},
                             {kQueryHeads * 300, 300, 1});
  };
  attngraph::context context("cpu");
  const attngraph::result whole =
      context.extract(q.at(0, 300), k.at(0, 300), causal().query_offset(0).lse(lse_at(0, 300)));
  attngraph::session session = make_session();
  for (std::int64_t i = 0; i < 300; i += 30) {
    session.append(k.at(i, i + 30));
    expect_rows(session.rows(q.at(i, i + 30), causal().lse(lse_at(i, i + 30))), whole, i);
  }
}

// A key of 1e6 comes late: rows before it stay as they were, those after it are done in double.
TEST(Session, ALongKeyChangesNoEarlierRow) {
  const Values q(ATTNGRAPH_F32, kQueryHeads, 600, 8);
  Values k(ATTNGRAPH_F32, kKeyHeads, 600, 9);
  const float longer = 1e6F;
  std::memcpy(k.data.data() + static_cast<std::size_t>(400 * kDim) * 4, &longer, 4);
  attngraph::context context("cpu");
  const attngraph::report report = context.extract(q.at(0, 600), k.at(0, 600), causal().query_offset(0)).report();
  EXPECT_EQ(report.rows_fp64, 3 * 200) << "of one sequence's first key head";
  expect_steps(q, k, causal(), 10);
}

TEST(Session, AWindowDropsKeysAndChangesNoRow) {
  const Values q(ATTNGRAPH_F16, kQueryHeads, 4000, 11), k(ATTNGRAPH_F16, kKeyHeads, 4000, 12);
  expect_steps(q, k, causal().window(200), 13, 200);
  attngraph::session session = make_session(200);
  std::uint64_t most = 0;
  for (std::int64_t i = 0; i < 4000; i += 10) {
    session.append(k.at(i, i + 10));
    session.rows(q.at(i, i + 10), causal().window(200));
    most = std::max(most, session.describe().bytes);
  }
  EXPECT_EQ(session.describe().first_key, 3584) << "whole strips";
  // 200 keys, 10 new ones and 511 of the strip, three strips of 512 packed; as they came, twice that and half of it.
  const std::uint64_t heads = kBatch * kKeyHeads, stored = heads * kDim * 2, packed = heads * (kDim * 4 + 64);
  EXPECT_LE(most, 3 * 721 * stored + 3 * 512 * packed);
  try {
    session.rows(q.at(3999, 4000), causal());
    FAIL() << "keys that are gone are not seen";
  } catch (const attngraph::error& error) {
    EXPECT_EQ(error.status(), ATTNGRAPH_ERROR_ARGUMENT);
    EXPECT_THAT(error.what(), HasSubstr("the session has dropped those before 3584: its window is 200"));
  }
  EXPECT_THROW(session.rows(q.at(3999, 4000), causal().window(200).backend("reference")), attngraph::error);
}

TEST(Session, DraftsAreForgotten) {
  const Values q(ATTNGRAPH_F32, kQueryHeads, 800, 14), k(ATTNGRAPH_F32, kKeyHeads, 800, 15);
  const Values guess(ATTNGRAPH_F32, kKeyHeads, 800, 16);
  attngraph::context context("cpu");
  const attngraph::result whole = context.extract(q.at(0, 800), k.at(0, 800), causal().query_offset(0));
  attngraph::session session = make_session();
  for (std::int64_t i = 0; i < 800; i += 100) {
    session.append(guess.at(i, std::min<std::int64_t>(i + 170, 800)));
    session.rows(q.at(i, i + 1), causal());
    EXPECT_EQ(session.common(k.at(0, 800)), i);
    session.truncate(i);
    session.append(k.at(i, i + 100));
    EXPECT_EQ(session.common(k.at(0, i + 50)), i + 50);
    expect_rows(session.rows(q.at(i, i + 100), causal()), whole, i);
  }
  EXPECT_THROW(session.truncate(801), attngraph::error);
  EXPECT_EQ(session.common(Values(ATTNGRAPH_F64, kKeyHeads, 3, 15).at(0, 3)), 0) << "another type";
}

// Counted, not timed: a step packs the panel that its key falls into, and nothing else.
TEST(Session, AStepPacksItsOwnKeysAlone) {
  const Values q(ATTNGRAPH_F32, kQueryHeads, 3000, 17), k(ATTNGRAPH_F32, kKeyHeads, 3000, 18);
  attngraph::session session = make_session();
  session.append(k.at(0, 2000));
  session.rows(q.at(1999, 2000), causal());
  const std::uint64_t heads = kBatch * kKeyHeads, before = session.describe().packed_bytes;
  EXPECT_LE(before, heads * (2000 + 64) * (kDim * 6 + 256));
  for (std::int64_t i = 2000; i < 2500; ++i) {
    session.append(k.at(i, i + 1));
    session.rows(q.at(i, i + 1), causal());
  }
  const std::uint64_t panel = 64 * (kDim * 6 + 256);  // of the widest form
  EXPECT_LE(session.describe().packed_bytes - before, 500 * heads * panel);
  EXPECT_LE(session.describe().bytes, heads * (3 * 2500 / 2 * kDim * 4 + 5 * 512 * (kDim * 6 + 256)))
      << "the stated bound";
}

TEST(Session, KeysThatAreNotFiniteAreRefusedOrSkipped) {
  const float bad = std::numeric_limits<float>::quiet_NaN();
  const Values q(ATTNGRAPH_F32, kQueryHeads, 40, 19);
  Values k(ATTNGRAPH_F32, kKeyHeads, 40, 20);
  const Values good = k;
  std::memcpy(k.data.data() + static_cast<std::size_t>((40 + 25) * kDim + 3) * 4, &bad, 4);  // second head, key 25
  attngraph::session session = make_session();
  session.append(good.at(0, 20));
  try {
    session.append(k.at(20, 40));
    FAIL() << "NaN";
  } catch (const attngraph::error& error) {
    EXPECT_EQ(error.status(), ATTNGRAPH_ERROR_NONFINITE);
    EXPECT_THAT(error.what(), HasSubstr("k holds nan at batch 0, head 1, position 25, dimension 3"));
  }
  EXPECT_EQ(session.describe().keys, 20) << "as it was";
  session.append(good.at(20, 40));
  attngraph::context context("cpu");
  const attngraph::result whole = context.extract(q.at(0, 40), good.at(0, 40), causal().query_offset(0));
  expect_rows(session.rows(q.at(0, 40), causal().query_offset(0)), whole, 0);

  attngraph::session skipping = make_session(0, ATTNGRAPH_NONFINITE_SKIP);
  const options skip = causal().nonfinite(ATTNGRAPH_NONFINITE_SKIP);
  const attngraph::result masked = context.extract(q.at(0, 40), k.at(0, 40), options(skip).query_offset(0));
  std::int64_t told = 0;
  for (std::int64_t i = 0; i < 40; i += 4) {
    skipping.append(k.at(i, i + 4));
    const attngraph::result step = skipping.rows(q.at(i, i + 4), skip);
    expect_rows(step, masked, i);
    told += step.report().skipped_nonfinite;
  }
  EXPECT_EQ(told, masked.report().skipped_nonfinite) << "each key is counted once";
}

TEST(Session, RefusesWhatDoesNotFit) {
  attngraph::session session = make_session();
  const Values q(ATTNGRAPH_F32, kQueryHeads, 4, 21), k(ATTNGRAPH_F32, kKeyHeads, 4, 22);
  const auto refused = [](auto&& call) {
    try {
      call();
    } catch (const attngraph::error& error) {
      return std::string(attngraph_status_name(error.status())) + ": " + error.what();
    }
    return std::string("not refused");
  };
  EXPECT_THAT(refused([&] { session.rows(q.at(0, 1)); }), HasSubstr("ARGUMENT: the session has no keys"));
  session.append(k.at(0, 4));
  const Values halves(ATTNGRAPH_F16, kKeyHeads, 1, 23);
  EXPECT_THAT(refused([&] { session.append(halves.at(0, 1)); }),
              HasSubstr("DTYPE: k is f16, but the session keeps f32"));
  EXPECT_THAT(refused([&] { session.append(Values(ATTNGRAPH_F32, 3, 1, 1).at(0, 1)); }),
              HasSubstr("SHAPE: k is [2, 3, 1, 24], but the session keeps [2, 2, N, 24]"));
  const float x = 0;
  EXPECT_THAT(refused([&] {
                session.append({&x, ATTNGRAPH_F32, {2, 2, std::int64_t{1} << 31, 24}, {0, 0, 0, 0}});
              }),
              HasSubstr("SHAPE: the session has 4 keys and would get 2147483648 more"));
  EXPECT_THAT(refused([&] { session.rows(Values(ATTNGRAPH_F32, 5, 1, 1).at(0, 1)); }),
              HasSubstr("multiple of key heads"));
  EXPECT_THAT(refused([&] { make_session(-1); }), HasSubstr("window is -1"));
  EXPECT_EQ(attngraph_session_append(nullptr, k.at(0, 1).c()), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(session.describe().keys, 4);
  attngraph_session_destroy(nullptr);
}

// More memory than there is: the session is as it was. In a child, whose address space is 8 GiB.
TEST(Session, OutOfMemoryChangesNothing) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's shadow needs more address space";
#endif
  attngraph::session session = make_session();
  const Values q(ATTNGRAPH_F32, kQueryHeads, 4, 24), k(ATTNGRAPH_F32, kKeyHeads, 4, 25);
  session.append(k.at(0, 4));
  const attngraph::result before = session.rows(q.at(0, 4), causal());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit limit{std::uint64_t{8} << 30, std::uint64_t{8} << 30};
    setrlimit(RLIMIT_AS, &limit);
    const float x = 0;
    const attngraph::tensor huge(&x, ATTNGRAPH_F32, {2, 2, std::int64_t{1} << 30, 24}, {0, 0, 0, 0});
    const bool refused = attngraph_session_append(session.c(), huge.c()) == ATTNGRAPH_ERROR_OUT_OF_MEMORY;
    const bool kept = session.describe().keys == 4;
    expect_rows(session.rows(q.at(0, 4), causal()), before, 0);
    _exit(refused && kept && !testing::Test::HasFailure() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(Session, InUseIsBusy) {
  attngraph::session session = make_session();
  const Values q(ATTNGRAPH_F32, kQueryHeads, 4, 26), k(ATTNGRAPH_F32, kKeyHeads, 4, 27);
  session.append(k.at(0, 4));
  attngraph_status status = ATTNGRAPH_OK;
  session.rows(q.at(0, 4), causal().progress([&](double) {
    try {
      session.append(k.at(0, 1));
    } catch (const attngraph::error& error) {
      status = error.status();
    }
  }));
  EXPECT_EQ(status, ATTNGRAPH_ERROR_BUSY);
  EXPECT_EQ(session.describe().keys, 4);
}

TEST(Session, EveryBackendAnswersAndCertifiedEdgesAreTheSame) {
  const Values q(ATTNGRAPH_F32, kQueryHeads, 60, 28), k(ATTNGRAPH_F32, kKeyHeads, 60, 29);
  attngraph::session session{attngraph::context()};
  session.append(k.at(0, 60));
  const options exact = causal().decision(ATTNGRAPH_DECISION_CERTIFIED);
  const attngraph::result cpu = session.rows(q.at(0, 60), options(exact).backend("cpu"));
  const attngraph::result reference = session.rows(q.at(0, 60), options(exact).backend("reference"));
  for (std::int64_t s = 0; s < cpu.slice_count(); ++s) {
    EXPECT_TRUE(same(cpu.slice(s).keys, reference.slice(s).keys));
    EXPECT_TRUE(same(cpu.slice(s).offsets, reference.slice(s).offsets));
  }
}

}  // namespace
