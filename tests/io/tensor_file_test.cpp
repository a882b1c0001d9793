// SPDX-License-Identifier: Apache-2.0
#include "io/tensor_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <numeric>

#include "core/dtype.hpp"
#include "io_support.hpp"

namespace ag::io_test {
namespace {

std::vector<double> values_of(const TensorView& view) {
  std::vector<double> values;
  std::vector<std::int64_t> index(static_cast<std::size_t>(view.ndim), 0);
  std::int64_t count = 1;
  for (int d = 0; d < view.ndim; ++d) count *= view.shape[static_cast<std::size_t>(d)];
  for (std::int64_t n = 0; n < count; ++n) {
    std::int64_t rest = n, offset = 0;
    for (auto d = static_cast<std::size_t>(view.ndim); d-- > 0;) {
      offset += rest % view.shape[d] * view.strides[d];
      rest /= view.shape[d];
    }
    values.push_back(load_double(
        view.dtype, static_cast<const char*>(view.data) + offset * static_cast<std::int64_t>(size_of(view.dtype))));
  }
  return values;
}

const std::vector<double> kCount = {0, 1, 2, 3, 4, 5};

TEST(Npy, ReadsEveryVersionDtypeAndByteOrder) {
  const TempDir dir;
  struct Case {
    std::string descr;
    DType dtype;
    std::string data;
  };
  const std::vector<float> f4(kCount.begin(), kCount.end());
  std::string big4, big8;
  for (const double value : kCount) {
    std::string four = raw(static_cast<float>(value)), eight = raw(static_cast<std::int64_t>(value));
    big4.append(four.rbegin(), four.rend());
    big8.append(eight.rbegin(), eight.rend());
  }
  const std::vector<std::uint16_t> half = {0, 0x3C00, 0x4000, 0x4200, 0x4400, 0x4500};
  const std::vector<std::uint16_t> brain = {0, 0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0};
  std::string big2;
  for (const std::uint16_t value : half) {
    std::string two = raw(value);
    big2.append(two.rbegin(), two.rend());
  }
  const std::vector<Case> cases = {
      {"<f8", DType::kF64, raw(kCount)},
      {"<f4", DType::kF32, raw(f4)},
      {"=f4", DType::kF32, raw(f4)},
      {"f4", DType::kF32, raw(f4)},
      {">f4", DType::kF32, big4},
      {">i8", DType::kI64, big8},
      {"<f2", DType::kF16, raw(half)},
      {">f2", DType::kF16, big2},
      {"|V2", DType::kBF16, raw(brain)},
      {"<V2", DType::kBF16, raw(brain)},
      {"<i4", DType::kI32, raw(std::vector<std::int32_t>{0, 1, 2, 3, 4, 5})},
      {"<i8", DType::kI64, raw(std::vector<std::int64_t>{0, 1, 2, 3, 4, 5})},
  };
  for (const Case& c : cases) {
    for (const int version : {1, 2, 3}) {
      SCOPED_TRACE(c.descr);
      const auto file = open_tensor_file(dir.write("a.npy", npy(npy_dict(c.descr, "(2, 3)"), c.data, version)));
      EXPECT_EQ(file->names(), std::vector<std::string>{""});
      EXPECT_EQ(file->info("").data, nullptr);
      const TensorView view = file->read("");
      EXPECT_EQ(view.dtype, c.dtype);
      EXPECT_EQ(shape_text(view), "[2, 3]");
      EXPECT_EQ(values_of(view), kCount);
    }
  }
}

TEST(Npy, ReadsBytesAsBool) {
  const TempDir dir;
  for (const std::string descr : {"|b1", "|u1"}) {
    const auto file =
        open_tensor_file(dir.write("a.npy", npy(npy_dict(descr, "(3,)"), std::string("\x00\x01\x02", 3))));
    EXPECT_EQ(file->read("").dtype, DType::kBool);
    EXPECT_EQ(values_of(file->read("")), (std::vector<double>{0, 1, 1}));
  }
}

TEST(Npy, ColumnMajorArraysKeepTheirIndices) {
  const TempDir dir;
  const std::string data = raw(std::vector<float>{0, 3, 1, 4, 2, 5});
  const auto file = open_tensor_file(dir.write("a.npy", npy(npy_dict("<f4", "(2, 3)", "True"), data)));
  EXPECT_EQ(values_of(file->read("")), kCount);
  EXPECT_EQ(file->read("").strides[0], 1);
}

TEST(Npy, ScalarsHaveOneDimensionAndEmptyArraysAreTensors) {
  const TempDir dir;
  EXPECT_EQ(shape_text(open_tensor_file(dir.write("s.npy", npy(npy_dict("<f8", "()"), raw(0.5))))->read("")), "[1]");
  const auto file = open_tensor_file(dir.write("e.npy", npy(npy_dict("<f4", "(0, 64)"), "")));
  EXPECT_EQ(shape_text(file->read("")), "[0, 64]");
  EXPECT_NE(file->read("").data, nullptr);
}

TEST(Npy, AcceptsWhatPythonMayWrite) {
  const TempDir dir;
  for (const std::string header : {
           "{\"shape\": (2L, 3L), \"fortran_order\": False, \"descr\": \"<f4\"}",
           "{'shape':(2,3,),'descr':'<f4','fortran_order':False}\n",
       }) {
    const auto file = open_tensor_file(dir.write("a.npy", npy(header, std::string(24, '\0'))));
    EXPECT_EQ(shape_text(file->read("")), "[2, 3]");
  }
}

struct Broken {
  const char* what;
  std::string bytes;
  Status status;
  std::string text;  // in the message
};

void expect_refused(const std::vector<Broken>& cases) {
  const TempDir dir;
  for (const Broken& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string path = dir.write("bad.bin", c.bytes);
    expect_error(c.status, {"bad.bin'", c.text}, [&] {
      const auto file = open_tensor_file(path);
      for (const std::string& name : file->names()) file->read(name);
    });
  }
}

TEST(Npy, RefusesBrokenFiles) {
  const std::string six = raw(std::vector<float>{0, 1, 2, 3, 4, 5});
  const auto with = [&](const std::string& header) { return npy(header, six); };
  const auto shape = [&](const std::string& text) { return npy(npy_dict("<f4", text), six); };
  std::string huge_length = "\x93NUMPY";
  huge_length += std::string("\x02\x00\xF0\xFF\xFF\xFF", 6);
  std::string bad_utf = npy_dict("<f4", "(2, 3)");
  expect_refused({
      {"empty file", "", Status::kFormat, "empty"},
      {"no known format", "hello, world", Status::kFormat, "(byte 0)"},
      {"GGUF", "GGUF\x03", Status::kUnsupported, "GGUF"},
      {"magic alone", "\x93NUMPY", Status::kFormat, "remain"},
      {"header length 2^32 - 16", huge_length, Status::kFormat, "4294967280"},
      {"header longer than the file", "\x93NUMPY" + std::string("\x01\x00\xFF\x0F{", 5), Status::kFormat, "(byte 8)"},
      {"header above the limit", npy(std::string(70000, ' '), "", 2), Status::kLimit, "65536"},
      {"version 4", npy(npy_dict("<f4", "(2, 3)"), six, 4), Status::kUnsupported, "version 4"},
      {"huge shape, no data", npy(npy_dict("<f4", "(65536, 131072)"), ""), Status::kFormat, "34359738368"},
      {"product wraps", shape("(4294967296, 4294967296, 4294967296)"), Status::kFormat, "overflows"},
      {"product wraps to 4 modulo 2^64", shape("(4194305, 4194305, 211106198978564)"), Status::kFormat, "overflows"},
      {"product wraps beside a zero", shape("(4611686018427387904, 4611686018427387904, 0)"), Status::kFormat,
       "overflows"},
      {"dimension 2^64", shape("(18446744073709551616,)"), Status::kFormat, "dimension"},
      {"dimension 2^63", shape("(9223372036854775808,)"), Status::kFormat, "dimension"},
      {"negative dimension", shape("(-2, -3)"), Status::kFormat, "dimension"},
      {"shape is no tuple", shape("6"), Status::kFormat, "'('"},
      {"one byte too many", shape("(2, 3)") + "x", Status::kFormat, "25"},
      {"one byte missing", shape("(2, 3)").substr(0, shape("(2, 3)").size() - 1), Status::kFormat, "23"},
      {"pickled objects", with(npy_dict("|O", "(6,)")), Status::kUnsupported, "pickled"},
      {"text", with(npy_dict("<U1", "(6,)")), Status::kUnsupported, "<U1"},
      {"complex", with(npy_dict("<c8", "(3,)")), Status::kUnsupported, "<c8"},
      {"big-endian bfloat16", with(npy_dict(">V2", "(12,)")), Status::kUnsupported, ">V2"},
      {"empty dtype", with(npy_dict("", "(6,)")), Status::kUnsupported, "dtype"},
      {"structured", with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}"), Status::kUnsupported,
       "structured"},
      {"nine dimensions", with(npy_dict("<f4", "(1, 1, 1, 1, 1, 1, 1, 2, 3)")), Status::kUnsupported, "9 dimensions"},
      {"a hundred dimensions",
       shape("(" + std::string(300, ' ') +
             [] {
               std::string ones;
               for (int n = 0; n < 100; ++n) ones += "1,";
               return ones;
             }() +
             ")"),
       Status::kFormat, "64"},
      {"key twice", with("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}"), Status::kFormat,
       "repeated"},
      {"key unknown", with("{'descr': '<f4', 'order': False, 'shape': (2, 3)}"), Status::kFormat, "'order'"},
      {"key missing", with("{'descr': '<f4', 'shape': (2, 3)}"), Status::kFormat, "needs"},
      {"code instead of a header", with("__import__('os').system('true')"), Status::kFormat, "'{'"},
      {"text after the header", with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} + 1"), Status::kFormat,
       "follows"},
      {"string without end", with("{'descr': '<f4"), Status::kFormat, "does not end"},
      {"NUL in the header", with(npy_dict("<f4", "(2, 3)") + std::string(4, '\0')), Status::kFormat, "follows"},
      {"fortran_order is no bool", with(npy_dict("<f4", "(2, 3)", "1")), Status::kFormat, "True or False"},
  });
}

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
      {"header cut short", raw(std::uint64_t{1}) + "{}", Status::kFormat, "ends"},
      {"two objects", safetensors("{}{}", ""), Status::kFormat, "follows"},
      {"not UTF-8", safetensors("{\"\xFF\":" + good + "}", std::string(24, '\0')), Status::kFormat, "UTF-8"},
      {"lone surrogate", safetensors(R"({"\ud800":)" + good + "}", std::string(24, '\0')), Status::kFormat,
       "surrogate"},
      {"control character", safetensors("{\"a\nb\":" + good + "}", std::string(24, '\0')), Status::kFormat, "control"},
      {"nested 100,000 deep", safetensors(deep, ""), Status::kFormat, "'{'"},
      {"nested metadata", safetensors(R"({"__metadata__":{"a":{"b":"c"}}})", ""), Status::kFormat, "JSON"},
      {"metadata twice", safetensors(R"({"__metadata__":{},"__metadata__":{}})", ""), Status::kFormat, "second"},
      {"metadata key twice", safetensors(R"({"__metadata__":{"a":"1","a":"2"}})", ""), Status::kFormat, "second"},
      {"tensor twice", safetensors(R"({"x":)" + good + R"(,"x":)" + good + "}", std::string(24, '\0')), Status::kFormat,
       "second"},
      {"key twice", one_tensor(R"({"dtype":"F32","dtype":"F32","shape":[2,3],"data_offsets":[0,24]})"), Status::kFormat,
       "repeated"},
      {"key unknown", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24],"s":1})"), Status::kFormat,
       "'s'"},
      {"no shape", one_tensor(R"({"dtype":"F32","data_offsets":[0,24]})"), Status::kFormat, "needs"},
      {"three offsets", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24,24]})"), Status::kFormat,
       "two"},
      {"a long list", one_tensor(R"({"dtype":"F32","shape":[)" + std::string(200, '1') + "]}"), Status::kFormat,
       "2^64"},
      {"unknown dtype", one_tensor(R"({"dtype":"F31","shape":[2,3],"data_offsets":[0,24]})"), Status::kUnsupported,
       "F31"},
      {"offset is a fraction", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,24.0]})"), Status::kFormat,
       "24.0"},
      {"offset is 2^64", one_tensor(R"({"dtype":"F32","shape":[2,3],"data_offsets":[0,18446744073709551616]})"),
       Status::kFormat, "18446744073709551616"},
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

const std::string kArray = npy(npy_dict("<f4", "(2, 3)"), raw(std::vector<float>{0, 1, 2, 3, 4, 5}));

TEST(Npz, ReadsStoredAndDeflatedMembers) {
  const TempDir dir;
  const std::string large = npy(npy_dict("<f4", "(1000, 1000)"), std::string(4000000, '\0'));
  ZipPart odd = ZipPart::stored("packed.npy", kArray);
  odd.method = 12;
  ZipPart secret = ZipPart::stored("secret.npy", kArray);
  secret.flags = 1;
  const std::string path =
      dir.write("x.bin", zip({ZipPart::stored("a.npy", kArray), ZipPart::squeezed("../../etc/b.npy", kArray),
                              ZipPart::squeezed("z.npy", large), ZipPart::stored("note.txt", "hello"), odd, secret,
                              ZipPart::stored("text.npy", npy(npy_dict("<U1", "(1,)"), "aaaa"))},
                             "a comment"));
  const auto file = open_tensor_file(path);
  EXPECT_EQ(file->names(), (std::vector<std::string>{"a", "../../etc/b", "z", "note.txt", "packed", "secret", "text"}));
  EXPECT_EQ(values_of(file->read("a")), kCount);
  EXPECT_EQ(values_of(file->read("../../etc/b")), kCount);
  EXPECT_EQ(shape_text(file->read("z")), "[1000, 1000]");
  EXPECT_TRUE(file->metadata().empty());
  expect_error(Status::kUnsupported, {"note.txt", ".npy"}, [&] { file->info("note.txt"); });
  expect_error(Status::kUnsupported, {"method 12"}, [&] { file->read("packed"); });
  expect_error(Status::kUnsupported, {"encrypted"}, [&] { file->read("secret"); });
  expect_error(Status::kUnsupported, {"<U1"}, [&] { file->read("text"); });
}

TEST(Npz, AnEmptyArchiveHasNoTensors) {
  const TempDir dir;
  const auto file = open_tensor_file(dir.write("x.npz", zip({})));
  EXPECT_TRUE(file->names().empty());
  expect_error(Status::kNotFound, {"x.npz", "none"}, [&] { file->read("q"); });
}

TEST(Npz, ReadsZip64Fields) {
  const TempDir dir;
  ZipPart part = ZipPart::stored("a.npy", kArray);
  const std::uint64_t size = kArray.size();
  // The local header still tells the truth; the directory hides all three numbers in its extra field.
  std::string bytes = zip({part});
  part.extra = raw(std::uint16_t{0x7777}) + raw(std::uint16_t{2}) + "xx" + raw(std::uint16_t{1}) +
               raw(std::uint16_t{24}) + raw(size) + raw(size) + raw(std::uint64_t{0});
  bytes = zip({part});
  const std::size_t entry = bytes.find("PK\x01\x02");
  for (const std::size_t at : {20u, 24u, 42u}) bytes.replace(entry + at, 4, "\xFF\xFF\xFF\xFF");
  EXPECT_EQ(values_of(open_tensor_file(dir.write("x.npz", bytes))->read("a")), kCount);
  // Lies: larger than the file, beyond the file.
  for (const std::size_t lie : {0u, 8u, 16u}) {
    std::string broken = bytes;
    broken[entry + 46 + 5 + 10 + lie + 7] = '\x40';
    expect_error(Status::kFormat, {"x.npz"}, [&] { open_tensor_file(dir.write("x.npz", broken))->read("a"); });
  }
  std::string short_field = bytes;
  short_field[entry + 46 + 5 + 8] = 16;
  expect_error(Status::kFormat, {"x.npz"}, [&] { open_tensor_file(dir.write("x.npz", short_field))->read("a"); });
}

TEST(Npz, RefusesBrokenArchives) {
  const auto part = [](const std::function<void(ZipPart&)>& change, bool squeeze = false) {
    ZipPart p = squeeze ? ZipPart::squeezed("a.npy", kArray) : ZipPart::stored("a.npy", kArray);
    change(p);
    return zip({ZipPart::stored("first.npy", kArray), p});
  };
  const std::string good = zip({ZipPart::stored("a.npy", kArray)});
  const auto patched = [&](std::size_t from_end, std::uint32_t value) {
    std::string bytes = good;
    bytes.replace(bytes.size() - from_end, 4, raw(value));
    return bytes;
  };
  ZipPart bomb = ZipPart::squeezed("a.npy", npy(npy_dict("<f4", "(1073741824,)"), ""));
  bomb.size = 0xFFFFFFF0;
  std::vector<ZipPart> crowd;
  for (int n = 0; n < 4097; ++n) crowd.push_back(ZipPart::stored(fmt::format("{}.npy", n), ""));
  const std::string inner_huge = npy(npy_dict("<f4", "(1000000000000,)"), "");
  expect_refused({
      {"magic alone", std::string("PK\x03\x04", 4), Status::kFormat, "too short"},
      {"no end record", good.substr(0, good.size() - 22), Status::kFormat, "end record"},
      {"truncated", good.substr(0, good.size() - 1), Status::kFormat, "truncated"},
      {"prefix", good.substr(0, 4) + good, Status::kFormat, "directory"},
      {"directory beyond the file", patched(6, 0x7FFFFFFF), Status::kFormat, "directory"},
      {"directory too long", patched(10, 0x7FFFFFFF), Status::kFormat, "directory"},
      {"more members than bytes", patched(14, 0xFFFFFFFF), Status::kFormat, "65535 members"},
      {"split over disks", patched(18, 0x00010001), Status::kFormat, "split"},
      {"4,097 members", zip(crowd), Status::kLimit, "4096"},
      {"wrong checksum", part([](ZipPart& p) { p.crc ^= 1; }), Status::kFormat, "checksum"},
      {"wrong checksum, deflated", part([](ZipPart& p) { p.crc ^= 1; }, true), Status::kFormat, "checksum"},
      {"two sizes", part([](ZipPart& p) { p.size += 1; }), Status::kFormat, "two sizes"},
      {"larger than the file", part([](ZipPart& p) { p.size = p.compressed = 0x7FFFFFFF; }), Status::kFormat, "remain"},
      {"offset beyond the file", part([](ZipPart& p) { p.header_at = 0x7FFFFFFF; }), Status::kFormat, "outside"},
      {"no header at the offset", part([](ZipPart& p) { p.header_at = 1; }), Status::kFormat, "local header"},
      {"overlap", part([](ZipPart& p) {
         p.name = "first.npy";
         p.header_at = 0;
       }),
       Status::kFormat, "second member"},
      {"local name differs", part([](ZipPart& p) { p.local_name = "b.npy"; }), Status::kFormat, "disagree"},
      {"two arrays of a name", zip({ZipPart::stored("a", "x"), ZipPart::stored("a.npy", kArray)}), Status::kFormat,
       "second array"},
      {"bomb: claims 4 GiB", zip({bomb}), Status::kFormat, "claims"},
      {"inner header claims 4 TB", zip({ZipPart::stored("a.npy", inner_huge)}), Status::kFormat, "4000000000000"},
      {"inner array shorter than the member", zip({ZipPart::squeezed("a.npy", kArray + "trailing")}), Status::kFormat,
       "24 bytes"},
      {"deflate stream longer than its size",
       part(
           [](ZipPart& p) {
             p.data = deflated(kArray + "x");
             p.compressed = static_cast<std::uint32_t>(p.data.size());
           },
           true),
       Status::kFormat, "end where"},
      {"deflate stream cut",
       part(
           [](ZipPart& p) {
             p.data.resize(p.data.size() - 3);
             p.compressed -= 3;
           },
           true),
       Status::kFormat, "truncated"},
      {"deflate stream corrupt", part([](ZipPart& p) { p.data.assign(p.data.size(), '\xFF'); }, true), Status::kFormat,
       "corrupt"},
      {"bytes after the deflate stream",
       part(
           [](ZipPart& p) {
             p.data += "junk";
             p.compressed += 4;
           },
           true),
       Status::kFormat, "end where"},
      {"member is no array", zip({ZipPart::stored("a.npy", "not an array")}), Status::kFormat, "'a.npy'"},
      {"member is empty", zip({ZipPart::stored("a.npy", "")}), Status::kFormat, "remain"},
  });
}

TEST(Npz, MembersThatShareBytesAreRefused) {
  const TempDir dir;
  // Quoted overlap: the data of `a` hold the whole local entry of `b`.
  const std::string inner = zip({ZipPart::stored("b.npy", kArray)});
  const std::string entry = inner.substr(0, inner.find("PK\x01\x02"));
  ZipPart a = ZipPart::stored("a.npy", entry), b = ZipPart::stored("b.npy", kArray);
  std::string bytes = zip({a, b});
  const std::size_t second = bytes.rfind("PK\x01\x02");
  bytes.replace(second + 42, 4, raw(std::uint32_t{30 + 5}));
  expect_error(Status::kFormat, {"x.npz", "overlaps"}, [&] { open_tensor_file(dir.write("x.npz", bytes)); });
}

TEST(TensorFile, EveryTruncationAndEveryChangedByteIsSurvived) {
  const TempDir dir;
  const std::vector<std::string> files = {
      kArray,
      safetensors(R"({"__metadata__":{"a":"b"},"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})",
                  std::string(24, 'x')),
      zip({ZipPart::stored("a.npy", kArray), ZipPart::squeezed("b.npy", kArray)}, "c"),
  };
  const auto try_all = [&](const std::string& bytes) {
    const std::string path = dir.write("t.bin", bytes);
    try {
      const auto file = open_tensor_file(path);
      for (const std::string& name : file->names()) values_of(file->read(name));
      return true;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("t.bin'"));
      return false;
    }
  };
  for (const std::string& bytes : files) {
    ASSERT_TRUE(try_all(bytes));
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      EXPECT_FALSE(try_all(bytes.substr(0, n))) << "a file cut at byte " << n << " was read";
      for (const int flip : {0x01, 0x80}) {
        std::string changed = bytes;
        changed[n] = static_cast<char>(changed[n] ^ flip);
        try_all(changed);
      }
    }
  }
}

TEST(TensorFile, OnlyRegularFilesAreOpened) {
  const TempDir dir;
  const std::string pipe = dir.path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_error(Status::kNotFound, {"pipe'", "a pipe"}, [&] { open_tensor_file(pipe); });
  expect_error(Status::kNotFound, {"a directory"}, [&] { open_tensor_file(dir.path("")); });
  expect_error(Status::kNotFound, {"'/dev/zero'", "a device"}, [&] { open_tensor_file("/dev/zero"); });
  expect_error(Status::kNotFound, {"absent.npy'", "No such file"}, [&] { open_tensor_file(dir.path("absent.npy")); });
  expect_error(Status::kNotFound, {"''"}, [&] { open_tensor_file(""); });
  expect_error(Status::kNotFound, {"NUL"}, [&] { open_tensor_file(std::string("a\0b", 3)); });
  expect_error(Status::kNotFound, {"'a?[31m?'"}, [&] { open_tensor_file("a\x1b[31m\n"); });
}

TEST(TensorFile, AFileThatShrinksWhileItIsReadIsAnError) {
  const TempDir dir;
  const std::string path = dir.write("a.npy", kArray);
  const auto file = open_tensor_file(path);
  ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(kArray.size() - 4)), 0);
  expect_error(Status::kIo, {"a.npy'", "shorter"}, [&] { file->read(""); });
}

}  // namespace
}  // namespace ag::io_test
