// SPDX-License-Identifier: Apache-2.0
#include "io/json_text.hpp"

#include "io_support.hpp"

namespace ag::io_test {
namespace {

// Writes down what it is told.
class Record : public JsonVisitor {
 public:
  std::string told;

 private:
  void opened() override { told += nesting().back(); }
  void closed() override { told += nesting().back() == '[' ? ']' : '}'; }
  void scalar(Json value) override {
    if (nesting().ends_with('{')) told += name(nesting().size() - 1) + ':';
    told += value.dump() + ' ';
  }
};

std::string told(const std::string& text) {
  Record record;
  record.parse(text, "'x'");
  return record.told;
}

void expect_bad(const std::string& text, std::uint64_t byte, const std::string& reason = "JSON") {
  SCOPED_TRACE(text.substr(0, 60));
  expect_error(Status::kFormat, {"'x': ", reason, fmt::format("(byte {})", byte)}, [&] { told(text); });
}

TEST(JsonText, TellsWhatItHolds) {
  EXPECT_EQ(told(R"( {"a" : [1, -2, {"b": null}], "c": {}, "d": [true, 0.5]} )"), R"({[1 -2 {b:null }]{}[true 0.5 ]})");
  EXPECT_EQ(told(R"("\u00e9\ud83d\ude00\n")"), "\"\xC3\xA9\xF0\x9F\x98\x80\\n\" ");
  EXPECT_EQ(told("-0.5e+10"), "-5000000000.0 ");
  EXPECT_EQ(told("[[[[[[[[1]]]]]]]]"), "[[[[[[[[1 ]]]]]]]]");
}

TEST(JsonText, IntegersAreExact) {
  EXPECT_EQ(told("18446744073709551615"), "18446744073709551615 ");
  EXPECT_EQ(told("9007199254740993"), "9007199254740993 ");
  EXPECT_EQ(told("-9223372036854775808"), "-9223372036854775808 ");
  EXPECT_EQ(told("18446744073709551616"), "1.8446744073709552e+19 ") << "a float, which no reader takes for a size";
}

TEST(JsonText, NamesAreUniqueWithinTheirObject) {
  EXPECT_EQ(told(R"([{"a":{"a":1}},{"a":2}])"), "[{{a:1 }}{a:2 }]");
  expect_bad(R"({"a":1,"b":2,"a":3})", 15, "second 'a'");
  expect_bad(R"({"x":{"\u0061":1,"a":3}})", 19, "second 'a'");
}

TEST(JsonText, SaysWhereItIsBroken) {
  expect_bad("", 0);
  expect_bad("[", 1, "end of input");
  expect_bad("]", 0);
  expect_bad("{", 1);
  expect_bad("[1,]", 3);
  expect_bad("[,1]", 1);
  expect_bad("[1 2]", 3);
  expect_bad("{\"a\"}", 4);
  expect_bad("{\"a\":}", 5);
  expect_bad("{a:1}", 1);
  expect_bad("{\"a\":1,}", 7);
  expect_bad("[1}", 2);
  expect_bad("1 1", 2, "end of input");
  expect_bad("{}{", 2, "end of input");
  for (const std::string literal : {"nul", "tru", "NaN", "Infinity", "'a'", "// 1", "+1", ".5"}) {
    expect_error(Status::kFormat, {"'x': JSON", "byte"}, [&] { told(literal); });
  }
  for (const std::string number : {"01", "-", "1.", "1e", "0x10"}) {
    expect_error(Status::kFormat, {"'x': JSON", "byte"}, [&] { told(number); });
  }
  expect_bad("\"abc", 4, "quote");
  expect_bad("\"\\x\"", 2);
  expect_bad("\"\\u12g4\"", 5);
  expect_bad("\"\t\"", 1, "control character");
  expect_bad("\"\\ud800\"", 7, "surrogate");
  expect_bad("\"\\ud800\\u0041\"", 12, "surrogate");
  expect_bad("\"\\udc80\"", 6, "surrogate");
  expect_bad("\"a\xFF\"", 2, "UTF-8");
  expect_bad("\"\xED\xA0\x80\"", 2, "UTF-8");
  expect_error(Status::kFormat, {"overflow"}, [] { told("1e999"); });
}

TEST(JsonText, NothingHidesBehindANul) {
  expect_bad(std::string("{}\0{}", 5), 2, "control");
  expect_bad(std::string("{}\0", 3), 2, "control");
  expect_bad(std::string("\"a\0\"", 4), 2, "control");
}

TEST(JsonText, DepthIsBounded) {
  expect_bad("[[[[[[[[[1]]]]]]]]]", 8, "deeper than 8");
  expect_bad(std::string(1000000, '['), 8, "deeper than 8");
  std::string objects;
  for (int n = 0; n < 9; ++n) objects += "{\"a\":";
  expect_bad(objects, 40, "deeper than 8");
}

TEST(JsonText, MessagesStayShort) {
  try {
    told("\"" + std::string(1 << 20, 'x') + "\xFF");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_LT(std::string(error.what()).size(), 300u);
  }
}

TEST(JsonText, APlaceIsGivenInTheFileAroundIt) {
  Record record;
  expect_error(Status::kFormat, {"'x'", "(byte 103)"}, [&] { record.parse("[1,]", "'x'", 100); });
  record.told.clear();
  record.parse("[2]", "'x'");
  EXPECT_EQ(record.told, "[2 ]") << "one visitor reads any number of texts";
}

}  // namespace
}  // namespace ag::io_test
