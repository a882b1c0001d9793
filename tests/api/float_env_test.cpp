// SPDX-License-Identifier: Apache-2.0
// A caller's floating-point settings neither change an answer nor are changed.
#include <cfenv>

#include "support.hpp"

namespace attngraph_test {
namespace {

class FloatEnv : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Api, FloatEnv, testing::ValuesIn(working_backends()),
                         [](const auto& backend) { return backend.param; });

// Everything is prepared under the default settings, asked under those of a test, and read under the default again:
// only the library works under the test's settings.
class Question {
 public:
  explicit Question(const std::string& backend) : backend_(backend) {
    options_.backend = backend_.c_str();
    matrix_options_ = options_;
    matrix_options_.threshold = 1e-45;
  }

  struct Answers {
    Result edges, matrix;
    std::int64_t swept = 0;
  };

  Answers ask() const {
    Answers answers;
    attngraph_result* result = nullptr;
    if (attngraph_extract(context_.get(), &q_view_, &q_view_, &options_, &result) == ATTNGRAPH_OK)
      answers.edges.reset(result);
    if (attngraph_filter_matrix(context_.get(), &w_view_, &matrix_options_, &result) == ATTNGRAPH_OK)
      answers.matrix.reset(result);
    attngraph_sweep_row row{};
    const double threshold = 1.5e-40;
    if (attngraph_result_sweep(answers.matrix.get(), &threshold, 1, &row) == ATTNGRAPH_OK) answers.swept = row.edges;
    return answers;
  }

 private:
  std::string backend_;
  Tensor<float> q_ = random_tensor({2, 40, 16}, 11);
  // Weights below the smallest normal float, which flush-to-zero would lose.
  Tensor<float> w_{{1, 4}, {1e-40f, 2e-40f, 0.0f, 1e-44f}, ATTNGRAPH_F32};
  attngraph_tensor q_view_ = q_.view(), w_view_ = w_.view();
  attngraph_options options_ = default_options(), matrix_options_ = default_options();
  Context context_ = make_context();
};

void expect_same(const Question::Answers& a, const Question::Answers& b) {
  ASSERT_TRUE(a.edges && a.matrix && b.edges && b.matrix);
  EXPECT_EQ(table_of(a.edges.get()), table_of(b.edges.get()));
  EXPECT_EQ(table_of(a.matrix.get()), table_of(b.matrix.get()));
  EXPECT_EQ(a.swept, b.swept);
}

TEST_P(FloatEnv, RoundingModesOfTheCallerDoNotMatter) {
  const Question question(GetParam());
  const Question::Answers expected = question.ask();
  ASSERT_GT(attngraph_result_edge_count(expected.edges.get()), 100);
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    SCOPED_TRACE(mode);
    std::fesetround(mode);
    const Question::Answers answers = question.ask();
    const int after = std::fegetround();
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(after, mode);
    expect_same(answers, expected);
  }
}

#if defined(__SSE2__)
TEST_P(FloatEnv, FlushToZeroOfTheCallerDoesNotMatter) {
  const Question question(GetParam());
  const Question::Answers expected = question.ask();
  ASSERT_EQ(attngraph_result_edge_count(expected.matrix.get()), 3);
  ASSERT_EQ(expected.swept, 1);
  const unsigned before = __builtin_ia32_stmxcsr();
  constexpr unsigned kFlushBoth = 0x8040;  // FTZ and DAZ
  __builtin_ia32_ldmxcsr(before | kFlushBoth);
  const Question::Answers answers = question.ask();
  const unsigned after = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before);
  EXPECT_EQ(after & kFlushBoth, kFlushBoth);
  expect_same(answers, expected);
}
#endif

}  // namespace
}  // namespace attngraph_test
