// SPDX-License-Identifier: Apache-2.0
// Everything that can be wrong with a call before any work, each with its status and with the words that help.
#include <cmath>
#include <functional>
#include <limits>

#include "support.hpp"

namespace attngraph_test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t kMax64 = std::numeric_limits<std::int64_t>::max();

// One call on B = 2, Hq = 4, Hkv = 2, Nq = 3, Nk = 5, D = 8, with every part at hand to be made wrong.
struct Call {
  std::vector<std::int64_t> q_shape{2, 4, 3, 8}, k_shape{2, 2, 5, 8}, w_shape{2, 4, 3, 5};
  std::vector<std::int64_t> extra_shape, extra_strides;
  std::vector<std::int64_t> numbers{5, 5, 0, 1};
  std::vector<double> values = std::vector<double>(2 * 4 * 5 * 8, 0.25);
  attngraph_tensor q = tensor(q_shape, ATTNGRAPH_F64), k = tensor(k_shape, ATTNGRAPH_F64),
                   w = tensor(w_shape, ATTNGRAPH_F64), extra{};
  attngraph_options options = default_options();

  Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  attngraph_tensor tensor(const std::vector<std::int64_t>& shape, attngraph_dtype dtype) {
    return {values.data(), ATTNGRAPH_DEVICE_CPU, 0, dtype, static_cast<std::int32_t>(shape.size()), shape.data(),
            nullptr};
  }
  const attngraph_tensor* extra_of(std::vector<std::int64_t> shape, attngraph_dtype dtype = ATTNGRAPH_F64) {
    extra_shape = std::move(shape);
    extra = tensor(extra_shape, dtype);
    return &extra;
  }
};

struct Case {
  const char* what;
  std::function<void(Call&)> change;
  attngraph_status status;
  const char* words;  // in the message
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.what; }

class WrongExtract : public testing::TestWithParam<Case> {};
class RightExtract : public testing::TestWithParam<Case> {};
class WrongFilter : public testing::TestWithParam<Case> {};
class RightFilter : public testing::TestWithParam<Case> {};

attngraph_status extract_with(Call& call, attngraph_result** result) {
  return attngraph_extract(make_context().get(), &call.q, &call.k, &call.options, result);
}

attngraph_status filter_with(Call& call, attngraph_result** result) {
  return attngraph_filter_matrix(make_context().get(), &call.w, &call.options, result);
}

template <class Do>
void expect_refused(const Case& c, Do&& perform) {
  Call call;
  c.change(call);
  attngraph_result* const untouched = reinterpret_cast<attngraph_result*>(&call);
  attngraph_result* result = untouched;
  EXPECT_EQ(attngraph_status_name(perform(call, &result)), attngraph_status_name(c.status)) << attngraph_last_error();
  EXPECT_EQ(result, untouched);
  EXPECT_NE(std::string(attngraph_last_error()).find(c.words), std::string::npos)
      << "'" << c.words << "' is not in: " << attngraph_last_error();
  EXPECT_EQ(std::string(attngraph_last_error()).find('\n'), std::string::npos);
}

template <class Do>
void expect_accepted(const Case& c, Do&& perform) {
  Call call;
  c.change(call);
  attngraph_result* result = nullptr;
  EXPECT_EQ(perform(call, &result), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_NE(result, nullptr);
  attngraph_result_destroy(result);
}

TEST_P(WrongExtract, IsRefused) { expect_refused(GetParam(), extract_with); }
TEST_P(RightExtract, IsAccepted) { expect_accepted(GetParam(), extract_with); }
TEST_P(WrongFilter, IsRefused) { expect_refused(GetParam(), filter_with); }
TEST_P(RightFilter, IsAccepted) { expect_accepted(GetParam(), filter_with); }

std::string name_of_case(const testing::TestParamInfo<Case>& param) {
  std::string name = param.param.what;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}

#define CASE(what, status, words, ...)                                  \
  Case {                                                                \
    what, [](Call& c) { __VA_ARGS__; }, ATTNGRAPH_ERROR_##status, words \
  }
#define GOOD(what, ...)                                  \
  Case {                                                 \
    what, [](Call& c) { __VA_ARGS__; }, ATTNGRAPH_OK, "" \
  }

INSTANTIATE_TEST_SUITE_P(
    Tensors, WrongExtract,
    testing::Values(
        CASE("ndim 1", SHAPE, "q has 1 dimensions", c.q.ndim = 1), CASE("ndim 5", SHAPE, "2 to 4", c.q.ndim = 5),
        CASE("ndim negative", SHAPE, "-1", c.k.ndim = -1),
        CASE("shape null", ARGUMENT, "k.shape is NULL", c.k.shape = nullptr),
        CASE("data null", ARGUMENT, "q.data is NULL", c.q.data = nullptr),
        CASE("size negative", SHAPE, "q.shape[2] is -3", c.q_shape[2] = -3),
        CASE("dtype int", DTYPE, "q is i32", c.q.dtype = ATTNGRAPH_I32),
        CASE("dtype bool", DTYPE, "bool", c.k.dtype = ATTNGRAPH_BOOL),
        CASE("dtype unknown", DTYPE, "unknown dtype 99", c.q.dtype = 99),
        CASE("dtype zero", DTYPE, "unknown dtype 0", c.q.dtype = 0),
        CASE("dtypes differ", DTYPE, "q is f64 and k is f32", c.k.dtype = ATTNGRAPH_F32),
        CASE("device cuda", UNSUPPORTED, "CUDA", c.k.device_type = ATTNGRAPH_DEVICE_CUDA),
        CASE("device unknown", ARGUMENT, "device_type 7", c.k.device_type = 7),
        CASE("batch differs", SHAPE, "batch", c.k_shape[0] = 1),
        CASE("dim differs", SHAPE, "head sizes D differ", c.k_shape[3] = 4),
        CASE("heads no multiple", SHAPE, "multiple", c.k_shape[1] = 3),
        CASE("heads fewer than key heads", SHAPE, "multiple", (c.q_shape[1] = 1)),
        CASE("no key heads", SHAPE, "multiple", c.k_shape[1] = 0),
        CASE("dim zero", SHAPE, "D is 0; it is 1 to 1024", c.q_shape[3] = c.k_shape[3] = 0),
        CASE("dim 1025", SHAPE, "D is 1025; it is 1 to 1024",
             (c.q_shape = {1, 1, 0, 1025}, c.k_shape = {1, 1, 0, 1025})),
        CASE("too many keys", SHAPE, "2147483647",
             (c.k_shape[2] = std::int64_t{1} << 31, c.extra_strides.assign(4, 0),
              c.k.strides = c.extra_strides.data())),
        CASE("elements overflow", LIMIT, "overflow", (c.q_shape = {kMax64, 4, 4, 8})),
        CASE("reach overflows", LIMIT, "overflow",
             (c.extra_strides = {kMax64, 0, 0, 1}, c.q.strides = c.extra_strides.data(),
              c.q_shape[0] = c.k_shape[0] = 3)),
        CASE("reach beyond memory", SHAPE, "address space",
             (c.extra_strides = {std::int64_t{1} << 59, 0, 0, 1}, c.q.strides = c.extra_strides.data(),
              c.q_shape[0] = c.k_shape[0] = 2, c.q.data = reinterpret_cast<const void*>(~std::uintptr_t{0} - 4096))),
        CASE("reach before memory", SHAPE, "address space",
             (c.extra_strides = {-(std::int64_t{1} << 59), 0, 0, 1}, c.q.strides = c.extra_strides.data()))),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    Selection, WrongExtract,
    testing::Values(CASE("threshold nan", ARGUMENT, "threshold is nan", c.options.threshold = kNaN),
                    CASE("threshold negative", ARGUMENT, "threshold is -0.1", c.options.threshold = -0.1),
                    CASE("threshold above 1", ARGUMENT, "at most 1", c.options.threshold = std::nextafter(1.0, 2.0)),
                    CASE("threshold infinite", ARGUMENT, "threshold is inf", c.options.threshold = kInfinity),
                    CASE("threshold zero alone", ARGUMENT, "allow_dense", c.options.threshold = 0),
                    CASE("allow_dense 2", ARGUMENT, "allow_dense is 2",
                         (c.options.threshold = 0, c.options.allow_dense = 2)),
                    CASE("top_k negative", ARGUMENT, "top_k is -1", c.options.top_k = -1),
                    CASE("mass negative", ARGUMENT, "mass is -0.5", c.options.mass = -0.5),
                    CASE("mass above 1", ARGUMENT, "mass is 1.5", c.options.mass = 1.5),
                    CASE("mass nan", ARGUMENT, "mass is nan", c.options.mass = kNaN),
                    CASE("decision unknown", ARGUMENT, "decision is 2", c.options.decision = 2)),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    ScoresAndMasks, WrongExtract,
    testing::Values(
        CASE("scale infinite", ARGUMENT, "scale is -inf", c.options.scale = -kInfinity),
        CASE("softcap negative", ARGUMENT, "softcap is -1", c.options.softcap = -1),
        CASE("softcap nan", ARGUMENT, "softcap is nan", c.options.softcap = kNaN),
        CASE("softcap infinite", ARGUMENT, "softcap is inf", c.options.softcap = kInfinity),
        CASE("causal 2", ARGUMENT, "causal is 2", c.options.causal = 2),
        CASE("nonfinite 2", ARGUMENT, "nonfinite is 2", c.options.nonfinite = 2),
        CASE("window negative", ARGUMENT, "window is -1", c.options.window = -1),
        CASE("offset beyond", ARGUMENT, "query_offset", c.options.query_offset = kMax64),
        CASE("offset before", ARGUMENT, "query_offset", c.options.query_offset = -kMax64),
        CASE("length beyond", ARGUMENT, "key_lengths[0] is 6; there are 5 keys",
             (c.numbers[0] = 6, c.options.key_lengths = c.numbers.data())),
        CASE("length negative", ARGUMENT, "key_lengths[1] is -1",
             (c.numbers[1] = -1, c.options.key_lengths = c.numbers.data())),
        CASE("mask keys", SHAPE, "mask is [1, 1, 3, 4]", c.options.mask = c.extra_of({3, 4})),
        CASE("mask heads", SHAPE, "[2, 4, 3, 5]", c.options.mask = c.extra_of({2, 3, 5})),
        CASE("mask ndim", SHAPE, "mask has 5 dimensions", c.options.mask = c.extra_of({1, 2, 4, 3, 5})),
        CASE("mask dtype", DTYPE, "mask is i64", c.options.mask = c.extra_of({3, 5}, ATTNGRAPH_I64)),
        CASE("mask data", ARGUMENT, "mask.data", (c.options.mask = c.extra_of({3, 5}), c.extra.data = nullptr)),
        CASE("sinks heads", SHAPE, "sinks is [1, 2]", c.options.sinks = c.extra_of({2})),
        CASE("sinks batch", SHAPE, "B = 2, Hq = 4", c.options.sinks = c.extra_of({1, 4})),
        CASE("sinks dtype", DTYPE, "sinks is bool", c.options.sinks = c.extra_of({4}, ATTNGRAPH_BOOL)),
        CASE("lse shape", SHAPE, "[2, 4, 3]", c.options.lse = c.extra_of({4, 3})),
        CASE("lse dtype", DTYPE, "lse is i32", c.options.lse = c.extra_of({2, 4, 3}, ATTNGRAPH_I32)),
        CASE("lse and sinks", ARGUMENT, "leave sinks out",
             (c.options.lse = c.extra_of({2, 4, 3}), c.options.sinks = &c.extra)),
        CASE("alibi heads", SHAPE, "alibi is [1, 2]", c.options.alibi = c.extra_of({2})),
        CASE("alibi batch", SHAPE, "B = 2, Hq = 4", c.options.alibi = c.extra_of({1, 4})),
        CASE("alibi dtype", DTYPE, "alibi is i64", c.options.alibi = c.extra_of({4}, ATTNGRAPH_I64)),
        CASE("alibi on a device", UNSUPPORTED, "read on the host",
             (c.options.alibi = c.extra_of({4}), c.extra.device_type = ATTNGRAPH_DEVICE_CUDA)),
        CASE("alibi nan", NONFINITE, "alibi holds nan at batch 0, head 1",
             (c.options.alibi = c.extra_of({4}), c.values[1] = kNaN)),
        CASE("alibi too steep", RANGE, "the limit is 1e+12", (c.options.alibi = c.extra_of({4}), c.values[3] = 1e12)),
        CASE("alibi too far", UNSUPPORTED, "below 2^30",
             (c.options.alibi = c.extra_of({4}), c.options.query_offset = std::int64_t{1} << 30)),
        CASE("lse_base", ARGUMENT, "lse_base is 2", c.options.lse_base = 2)),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    PartsAndWays, WrongExtract,
    testing::Values(CASE("range beyond", ARGUMENT, "0 to 4", c.options.query_end = 4),
                    CASE("range negative", ARGUMENT, "-1 to 2", (c.options.query_begin = -1, c.options.query_end = 2)),
                    CASE("range backwards", ARGUMENT, "2 to 1", (c.options.query_begin = 2, c.options.query_end = 1)),
                    CASE("heads none", ARGUMENT, "head_count is 0", c.options.heads = c.numbers.data()),
                    CASE("heads count alone", ARGUMENT, "heads is NULL", c.options.head_count = 2),
                    CASE("heads count negative", ARGUMENT, "head_count is -1",
                         (c.options.heads = c.numbers.data(), c.options.head_count = -1)),
                    CASE("heads too many", ARGUMENT, "head_count is 5",
                         (c.options.heads = c.numbers.data(), c.options.head_count = 5)),
                    CASE("heads beyond", ARGUMENT, "heads[0] is 4",
                         (c.numbers = {4}, c.options.heads = c.numbers.data(), c.options.head_count = 1)),
                    CASE("heads twice", ARGUMENT, "heads[1] is 1 after 1",
                         (c.numbers = {1, 1}, c.options.heads = c.numbers.data(), c.options.head_count = 2)),
                    CASE("heads descending", ARGUMENT, "ascend",
                         (c.numbers = {1, 0}, c.options.heads = c.numbers.data(), c.options.head_count = 2)),
                    CASE("layer negative", ARGUMENT, "layer is -1", c.options.layer = -1),
                    CASE("stats unknown", ARGUMENT, "unknown bits 0x10", c.options.stats = 17),
                    CASE("threads negative", ARGUMENT, "threads is -1", c.options.threads = -1),
                    CASE("threads 4097", ARGUMENT, "4096", c.options.threads = 4097),
                    CASE("products", ARGUMENT, "products is 2", c.options.products = 2),
                    CASE("backend unknown", ARGUMENT, "reference", c.options.backend = "fastest"),
                    CASE("backend empty", ARGUMENT, "''", c.options.backend = "")),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    StructSize, WrongExtract,
    testing::Values(CASE("zero", ARGUMENT, "ATTNGRAPH_OPTIONS_INIT", c.options.struct_size = 0),
                    CASE("less than itself", ARGUMENT, "struct_size is 7", c.options.struct_size = 7),
                    CASE("never initialised", ARGUMENT, "struct_size", c.options.struct_size = ~std::size_t{0})),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    Extract, RightExtract,
    testing::Values(
        GOOD("as it is", (void)c), GOOD("threshold one", c.options.threshold = 1),
        GOOD("threshold subnormal", c.options.threshold = 5e-324),
        GOOD("dense", (c.options.threshold = 0, c.options.allow_dense = 1)),
        GOOD("top_k alone", (c.options.threshold = 0, c.options.top_k = 2)),
        GOOD("mass alone", (c.options.threshold = 0, c.options.mass = 1)), GOOD("scale zero", c.options.scale = 0),
        GOOD("scale negative", c.options.scale = -2), GOOD("softcap", c.options.softcap = 30),
        GOOD("window huge", (c.options.window = kMax64, c.options.causal = 1)),
        GOOD("offset far", (c.options.query_offset = std::int64_t{1} << 60, c.options.window = kMax64)),
        GOOD("offset far before",
             (c.options.query_offset = -(std::int64_t{1} << 60), c.options.causal = 1, c.options.window = kMax64)),
        GOOD("lengths", (c.numbers = {0, 5}, c.options.key_lengths = c.numbers.data())),
        GOOD("mask full", c.options.mask = c.extra_of({2, 4, 3, 5})),
        GOOD("mask of keys", c.options.mask = c.extra_of({5})),
        GOOD("mask of one", c.options.mask = c.extra_of({1, 1})),
        GOOD("mask bool", c.options.mask = c.extra_of({1, 4, 1, 5}, ATTNGRAPH_BOOL)),
        GOOD("sinks of heads", c.options.sinks = c.extra_of({4})),
        GOOD("sinks of all", c.options.sinks = c.extra_of({2, 4}, ATTNGRAPH_F32)),
        GOOD("lse", c.options.lse = c.extra_of({2, 4, 3})),
        GOOD("alibi of heads", c.options.alibi = c.extra_of({4}, ATTNGRAPH_F16)),
        GOOD("alibi of all", c.options.alibi = c.extra_of({2, 4})),
        GOOD("lse base 2", (c.options.lse = c.extra_of({2, 4, 3}), c.options.lse_base = ATTNGRAPH_LSE_BASE_2)),
        GOOD("range empty", c.options.query_begin = c.options.query_end = 3),
        GOOD("heads", (c.numbers = {0, 3}, c.options.heads = c.numbers.data(), c.options.head_count = 2)),
        GOOD("threads many", c.options.threads = 4096),
        GOOD("products in float", c.options.products = ATTNGRAPH_PRODUCTS_FLOAT),
        GOOD("strides negative",
             (c.extra_strides = {0, 0, -8, 1}, c.q.strides = c.extra_strides.data(), c.q.data = c.values.data() + 16)),
        GOOD("no batch", (c.q_shape[0] = c.k_shape[0] = 0, c.q.data = c.k.data = nullptr)),
        GOOD("no queries", (c.q_shape[2] = 0, c.q.data = nullptr)),
        GOOD("no keys", (c.k_shape[2] = 0, c.k.data = nullptr)), GOOD("no heads", c.q_shape[1] = c.k_shape[1] = 0)),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(
    Filter, WrongFilter,
    testing::Values(CASE("scale", ARGUMENT, "scale does not apply", c.options.scale = 1),
                    CASE("softcap", ARGUMENT, "softcap does not", c.options.softcap = 1),
                    CASE("sinks", ARGUMENT, "sinks does not", c.options.sinks = c.extra_of({4})),
                    CASE("lse", ARGUMENT, "lse does not", c.options.lse = c.extra_of({2, 4, 3})),
                    CASE("alibi", ARGUMENT, "alibi does not", c.options.alibi = c.extra_of({4})),
                    CASE("mask additive", UNSUPPORTED, "bool", c.options.mask = c.extra_of({3, 5})),
                    CASE("threshold negative", ARGUMENT, "threshold is -1", c.options.threshold = -1),
                    CASE("threshold infinite", ARGUMENT, "finite", c.options.threshold = kInfinity),
                    CASE("dtype", DTYPE, "weights is i64", c.w.dtype = ATTNGRAPH_I64),
                    CASE("ndim", SHAPE, "weights has 1", c.w.ndim = 1)),
    name_of_case);

INSTANTIATE_TEST_SUITE_P(Filter, RightFilter,
                         testing::Values(GOOD("threshold zero", c.options.threshold = 0),
                                         GOOD("threshold above one", c.options.threshold = 7),
                                         GOOD("mask bool", c.options.mask = c.extra_of({3, 5}, ATTNGRAPH_BOOL)),
                                         GOOD("matrix alone", (c.w.ndim = 2, c.w.shape = c.w_shape.data() + 2)),
                                         GOOD("stack of matrices", (c.w.ndim = 3, c.w.shape = c.w_shape.data() + 1)),
                                         GOOD("no rows", c.w_shape[2] = 0), GOOD("no columns", c.w_shape[3] = 0)),
                         name_of_case);

TEST(Arguments, WordsOfADeviceThatIsNone) {
  attngraph_context* context = nullptr;
  for (const char* device : {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999", "cpu "}) {
    EXPECT_EQ(attngraph_context_create(&context, device), ATTNGRAPH_ERROR_ARGUMENT) << device;
    EXPECT_NE(std::string(attngraph_last_error()).find("cuda:N"), std::string::npos) << attngraph_last_error();
  }
  EXPECT_EQ(context, nullptr);
}

TEST(Arguments, SlopesOfModelsWithAlibi) {
  const auto slopes = [](std::int64_t heads, double max_bias) {
    std::vector<double> out(static_cast<std::size_t>(heads));
    EXPECT_EQ(attngraph_alibi_slopes(heads, max_bias, out.data()), ATTNGRAPH_OK) << attngraph_last_error();
    return out;
  };
  EXPECT_EQ(slopes(8, 8), (std::vector<double>{0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625}));
  EXPECT_EQ(slopes(4, 8), (std::vector<double>{0.25, 0.0625, 0.015625, 0.00390625}));
  EXPECT_EQ(slopes(1, 8), (std::vector<double>{0x1p-8}));
  EXPECT_EQ(slopes(2, 16), (std::vector<double>{0x1p-8, 0x1p-16}));
  // Those of four heads, then every other one of eight.
  EXPECT_EQ(slopes(6, 8), (std::vector<double>{0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125}));
  EXPECT_NEAR(slopes(16, 8)[0], std::sqrt(0.5), 1e-16);
  double one = 0;
  EXPECT_EQ(attngraph_alibi_slopes(0, 8, &one), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_alibi_slopes(1, 0, &one), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_alibi_slopes(1, kNaN, &one), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(attngraph_alibi_slopes(1, 8, nullptr), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(one, 0);
}

TEST(Arguments, TheLastErrorStaysUntilTheNextOne) {
  EXPECT_EQ(attngraph_file_open(nullptr, nullptr), ATTNGRAPH_ERROR_ARGUMENT);
  const std::string sentence = attngraph_last_error();
  EXPECT_FALSE(sentence.empty());
  make_context();
  EXPECT_EQ(attngraph_last_error(), sentence);
}

}  // namespace
}  // namespace attngraph_test
