// SPDX-License-Identifier: Apache-2.0
#include <chrono>

#include "tensor_support.hpp"

namespace ag::io_test {
namespace {

std::string one_tensor(const std::string& entry, std::size_t data = 24) {
  return safetensors(R"({"x":)" + entry + "}", std::string(data, '\0'));
}

TEST(Safetensors, ReadsTensorsAndMetadataInTheOrderOfTheHeader) {
  const TempDir dir;
  const std::string header =
      R"({"__metadata__":{"scale":"0.125","name":"\u00e9\ud83d\ude00"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[16,40]},)"
      R"( "none":{"shape":[0,7],"dtype":"F16","data_offsets":[16,16]},"a":{"data_offsets":[0,16],"dtype":"I64","shape":[2]},)"
      R"("u":{"dtype":"U8","shape":[],"data_offsets":[40,41]}}   )";
  const std::string data = raw(std::vector<std::int64_t>{-1, 7}) + raw(std::vector<float>{0, 1, 2, 3, 4, 5}) + "\x05";
  const auto file = open_tensor_file(dir.write("x.bin", safetensors(header, data)));
  EXPECT_EQ(file->names(), (std::vector<std::string>{"b", "none", "a", "u"}));
  EXPECT_EQ(file->metadata().at("scale"), "0.125");
  EXPECT_EQ(file->metadata().at("name"), "\xC3\xA9\xF0\x9F\x98\x80");
  EXPECT_EQ(values_of(file->read("b")), kCount);
  EXPECT_EQ(values_of(file->read("a")), (std::vector<double>{-1, 7}));
  EXPECT_EQ(shape_text(file->info("none")), "[0, 7]");
  EXPECT_EQ(file->read("u").dtype, DType::kBool);
  const void* before = file->read("b").data;
  EXPECT_EQ(file->read("b").data, before) << "a tensor is read once";
  file->release("b");
  EXPECT_EQ(values_of(file->read("b")), kCount);
  expect_error(Status::kNotFound, {"x.bin", "'q.0'", "'b', 'none', 'a', 'u'"}, [&] { file->read("q.0"); });
}

TEST(Safetensors, KnowsTheSizeOfDtypesThatItDoesNotRead) {
  const TempDir dir;
  const std::string header =
      R"({"f8":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},"f4":{"dtype":"F4","shape":[2],"data_offsets":[3,4]},)"
      R"("x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})";
  const auto file = open_tensor_file(dir.write("x.bin", safetensors(header, std::string(8, '\0'))));
  expect_error(Status::kUnsupported, {"x.bin", "'f8'", "F8_E4M3"}, [&] { file->read("f8"); });
  EXPECT_EQ(values_of(file->read("x")), std::vector<double>{0});
}

TEST(Safetensors, HeadersOfEveryLengthAreTakenForWhatTheyAre) {
  const TempDir dir;
  const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  // 640 to 1,408 bytes: the file begins as a pickle of protocol 2 to 5 does.
  for (std::size_t length = header.size(); length <= 1408; length += 1) {
    const auto file = open_tensor_file(
        dir.write("x.bin", safetensors(header + std::string(length - header.size(), ' '), std::string(4, '\0'))));
    EXPECT_EQ(values_of(file->read("x")), std::vector<double>{0}) << length;
  }
}

TEST(Safetensors, ShortensALongListOfNames) {
  const TempDir dir;
  std::string header = "{";
  for (int n = 0; n < 100; ++n) {
    header += (n ? "," : "") + fmt::format(R"("t{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", n);
  }
  const auto file = open_tensor_file(dir.write("x.bin", safetensors(header + "}", "")));
  expect_error(Status::kNotFound, {"'t15' and 84 more"}, [&] { file->read("q"); });
}

TEST(Safetensors, RefusesBrokenFiles) {
  const std::string good = R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})";
  const auto two = [](const std::string& a, const std::string& b, std::size_t data) {
    return safetensors(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
                           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}",
                       std::string(data, '\0'));
  };
  std::string long_header = raw(std::uint64_t{17} << 20);
  long_header += '{';
  long_header += std::string(std::size_t{17} << 20, ' ');
  std::string deep = R"({"x":)" + std::string(100000, '[');
  expect_refused({
      {"header length 2^63", raw(std::uint64_t{1} << 63) + "{}", Status::kFormat, "9223372036854775808"},
      {"header length one too large", raw(std::uint64_t{3}) + "{}", Status::kFormat, "remain"},
      {"header above the limit", long_header, Status::kLimit, "16777216"},
      {"header length 0", raw(std::uint64_t{0}) + "{", Status::kFormat, "begin"},
      {"header cut short", raw(std::uint64_t{1}) + "{}", Status::kFormat, "end of input"},
      {"two objects", safetensors("{}{}", ""), Status::kFormat, "end of input"},
      {"not UTF-8", safetensors("{\"\xFF\":" + good + "}", std::string(24, '\0')), Status::kFormat, "UTF-8"},
      {"lone surrogate", safetensors(R"({"\ud800":)" + good + "}", std::string(24, '\0')), Status::kFormat,
       "surrogate"},
      {"control character", safetensors("{\"a\nb\":" + good + "}", std::string(24, '\0')), Status::kFormat, "control"},
      {"nested 100,000 deep", safetensors(deep, ""), Status::kFormat, "'x'"},
      {"tensor is a number", one_tensor("1"), Status::kFormat, "'x'"},
      {"dtype is a list", one_tensor(R"({"dtype":["F32"],"shape":[6],"data_offsets":[0,24]})"), Status::kFormat,
       "'dtype'"},
      {"shape is an object", one_tensor(R"({"dtype":"F32","shape":{},"data_offsets":[0,24]})"), Status::kFormat,
       "'shape'"},
      {"shape in a shape", one_tensor(R"({"dtype":"F32","shape":[[6]],"data_offsets":[0,24]})"), Status::kFormat,
       "'shape'"},
      {"shape of 65 dimensions",
       one_tensor(fmt::format(R"({{"dtype":"F32","shape":[{}],"data_offsets":[0,24]}})",
                              fmt::join(std::vector<int>(65, 1), ","))),
       Status::kFormat, "64 numbers"},
      {"a NUL in the padding", safetensors(std::string("{}\0", 3), ""), Status::kFormat, "control"},
      {"nested metadata", safetensors(R"({"__metadata__":{"a":{"b":"c"}}})", ""), Status::kFormat, "JSON"},
      {"metadata twice", safetensors(R"({"__metadata__":{},"__metadata__":{}})", ""), Status::kFormat, "second"},
      {"metadata key twice", safetensors(R"({"__metadata__":{"a":"1","a":"2"}})", ""), Status::kFormat, "second"},
      {"tensor twice", safetensors(R"({"x":)" + good + R"(,"x":)" + good + "}", std::string(24, '\0')), Status::kFormat,
       "second"},
      {"key twice", one_tensor(R"({"dtype":"F32","dtype":"F32","shape":[2,3],"data_offsets":[0,24]})"), Status::kFormat,
       "second"},
      {"key unknown", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24],"s":1})"), Status::kFormat,
       "'s'"},
      {"no shape", one_tensor(R"({"dtype":"F32","data_offsets":[0,24]})"), Status::kFormat, "needs"},
      {"three offsets", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24,24]})"), Status::kFormat,
       "two"},
      {"a long list", one_tensor(R"({"dtype":"F32","shape":[)" + std::string(200, '1') + "]}"), Status::kFormat,
       "e+199"},
      {"unknown dtype", one_tensor(R"({"dtype":"F31","shape":[2,3],"data_offsets":[0,24]})"), Status::kUnsupported,
       "F31"},
      {"offset is a fraction", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24.0]})"), Status::kFormat,
       "24.0"},
      {"offset is 2^64", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,18446744073709551616]})"),
       Status::kFormat, "1.8446744073709552e+19"},
      {"offset is negative", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[-24,0]})"), Status::kFormat,
       "-24"},
      {"offsets reversed", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[24,0]})"), Status::kFormat, "24"},
      {"shape and offsets disagree", one_tensor(R"({"dtype":"F32","shape":[2,2],"data_offsets":[0,24]})"),
       Status::kFormat, "16 bytes"},
      {"shape wraps", one_tensor(R"({"dtype":"F32","shape":[4194305,4194305,211106198978564],"data_offsets":[0,24]})"),
       Status::kFormat, "overflows"},
      {"shape wraps to 0", one_tensor(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0),
       Status::kFormat, "overflows"},
      {"size in bits is no byte", one_tensor(R"({"dtype":"F4","shape":[1],"data_offsets":[0,0]})", 0), Status::kFormat,
       "bytes"},
      {"dimension 2^63 of nothing",
       one_tensor(R"({"dtype":"U8","shape":[0,9223372036854775808],"data_offsets":[0,0]})", 0), Status::kFormat,
       "9223372036854775808"},
      {"nine dimensions", one_tensor(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,2,3],"data_offsets":[0,24]})"),
       Status::kUnsupported, "9 dimensions"},
      {"beyond the end", one_tensor(good, 23), Status::kFormat, "23"},
      {"bytes after the last tensor", one_tensor(good, 25), Status::kFormat, "1 bytes follow"},
      {"hole at the beginning", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[4,28]})", 28),
       Status::kFormat, "begins at 4"},
      {"hole", two("[0,4]", "[5,9]", 9), Status::kFormat, "begins at 5"},
      {"overlap", two("[0,4]", "[3,7]", 7), Status::kFormat, "begins at 3"},
      {"the same bytes twice", two("[0,4]", "[0,4]", 4), Status::kFormat, "begins at 0"},
      {"empty tensor in the middle of another",
       safetensors(
           R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
           std::string(4, '\0')),
       Status::kFormat, "begins at 2"},
  });
}

TEST(Safetensors, SixtyFiveThousandTensorsLoadFastAndMoreAreRefused) {
  const TempDir dir;
  const auto header = [](int count) {
    std::string text = "{";
    for (int n = 0; n < count; ++n) {
      text += fmt::format(R"({}"tensor.{}":{{"dtype":"U8","shape":[1],"data_offsets":[{},{}]}})", n ? "," : "", n, n,
                          n + 1);
    }
    return safetensors(text + "}", std::string(static_cast<std::size_t>(count), '\0'));
  };
  const std::string path = dir.write("many.bin", header(65536));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(open_tensor_file(path)->names().size(), 65536u);
  // 30 ms when measured; a quadratic search for duplicates takes minutes.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  expect_error(Status::kLimit, {"more.bin", "65536"}, [&] { open_tensor_file(dir.write("more.bin", header(65537))); });
}

}  // namespace
}  // namespace ag::io_test
