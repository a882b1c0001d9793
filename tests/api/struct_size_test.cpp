// SPDX-License-Identifier: Apache-2.0
// Callers older and newer than the library.
#include <cmath>
#include <cstddef>
#include <cstring>

#include "support.hpp"

namespace attngraph_test {
namespace {

const Tensor<float> kQueryTensor = random_tensor({3, 6, 4}, 1);

TEST(StructSize, InitFunctionAndMacroAgree) {
  attngraph_options by_macro = ATTNGRAPH_OPTIONS_INIT, by_function;
  std::memset(&by_function, 0x5A, sizeof by_function);
  attngraph_options_init(&by_function);
  EXPECT_EQ(by_function.struct_size, sizeof(attngraph_options));
  EXPECT_EQ(by_function.threshold, by_macro.threshold);
  EXPECT_TRUE(std::isnan(by_function.scale));
  EXPECT_EQ(by_function.query_offset, ATTNGRAPH_ALIGN_BOTTOM_RIGHT);
  EXPECT_EQ(by_function.backend, nullptr);
  EXPECT_EQ(by_function.cancelled, nullptr);
}

TEST(StructSize, FieldsAnOlderCallerDoesNotKnowTakeTheirDefaults) {
  attngraph_options older = default_options();
  older.threshold = 0.25;
  older.struct_size = offsetof(attngraph_options, top_k);
  // What follows is not the caller's to fill: the library must not look at it.
  std::memset(reinterpret_cast<unsigned char*>(&older) + older.struct_size, 0x5A,
              sizeof(attngraph_options) - older.struct_size);
  attngraph_options plain = default_options();
  plain.threshold = 0.25;
  const attngraph_tensor q = kQueryTensor.view();
  const Context context = make_context();
  EXPECT_EQ(table_of(extract(context, q, q, older).get()), table_of(extract(context, q, q, plain).get()));
}

struct Newer {
  attngraph_options known = ATTNGRAPH_OPTIONS_INIT;
  std::int64_t unknown = 0;
};

TEST(StructSize, FieldsANewerCallerLeavesZeroAreFine) {
  Newer newer;
  newer.known.struct_size = sizeof(Newer);
  const attngraph_tensor q = kQueryTensor.view();
  const Context context = make_context();
  const Result result = extract(context, q, q, newer.known);
  EXPECT_EQ(table_of(result.get()), table_of(extract(context, q, q, default_options()).get()));

  newer.unknown = std::int64_t{1} << 40;
  attngraph_result* refused = nullptr;
  EXPECT_EQ(attngraph_extract(context.get(), &q, &q, &newer.known, &refused), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_NE(std::string(attngraph_last_error()).find("newer library"), std::string::npos) << attngraph_last_error();
  EXPECT_EQ(refused, nullptr);
}

TEST(StructSize, ThatEndsInsideAFieldIsRefused) {
  attngraph_options options = default_options();
  const attngraph_tensor q = kQueryTensor.view();
  const Context context = make_context();
  int accepted = 0;
  for (std::size_t size = 0; size < sizeof options; ++size) {
    options.struct_size = size;
    attngraph_result* result = nullptr;
    const attngraph_status status = attngraph_extract(context.get(), &q, &q, &options, &result);
    EXPECT_TRUE(status == ATTNGRAPH_OK || status == ATTNGRAPH_ERROR_ARGUMENT) << size;
    accepted += status == ATTNGRAPH_OK;
    if (size == offsetof(attngraph_options, threshold) + 4) {
      EXPECT_EQ(status, ATTNGRAPH_ERROR_ARGUMENT);
    }
    if (size == offsetof(attngraph_options, decision)) {
      EXPECT_EQ(status, ATTNGRAPH_OK) << attngraph_last_error();
    }
    attngraph_result_destroy(result);
  }
  EXPECT_GE(accepted, 30) << "one size for every field";
}

TEST(StructSize, OfPartsAndWriteOptionsToo) {
  const attngraph_tensor q = kQueryTensor.view();
  const Result result = extract(make_context(), q, q, default_options());
  attngraph_part part = ATTNGRAPH_PART_INIT;
  attngraph_result* out = nullptr;
  part.struct_size = 3;
  EXPECT_EQ(attngraph_result_part(result.get(), &part, &out), ATTNGRAPH_ERROR_ARGUMENT);
  part.struct_size = offsetof(attngraph_part, top_k);
  part.top_k = -5;  // not within the caller's size
  EXPECT_EQ(attngraph_result_part(result.get(), &part, &out), ATTNGRAPH_OK) << attngraph_last_error();
  EXPECT_EQ(attngraph_result_edge_count(out), attngraph_result_edge_count(result.get()));
  attngraph_result_destroy(out);

  attngraph_write_options how = ATTNGRAPH_WRITE_OPTIONS_INIT;
  how.struct_size = 1;
  attngraph_sink* sink = nullptr;
  EXPECT_EQ(attngraph_sink_create_file(&sink, (Folder() / "x.csv").c_str(), nullptr, &how), ATTNGRAPH_ERROR_ARGUMENT);
  how = ATTNGRAPH_WRITE_OPTIONS_INIT;
  how.direction = 2;
  EXPECT_EQ(attngraph_sink_create_file(&sink, (Folder() / "x.csv").c_str(), nullptr, &how), ATTNGRAPH_ERROR_ARGUMENT);
  EXPECT_EQ(sink, nullptr);
}

}  // namespace
}  // namespace attngraph_test
