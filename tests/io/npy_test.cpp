// SPDX-License-Identifier: Apache-2.0
#include "tensor_support.hpp"

namespace ag::io_test {
namespace {

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
      {"gzip", "\x1F\x8B\x08", Status::kUnsupported, "compressed by gzip; unpack it first"},
      {"zstd", "\x28\xB5\x2F\xFD ", Status::kUnsupported, "compressed by zstd"},
      {"HDF5", "\x89HDF\r\n", Status::kUnsupported, "HDF5"},
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

}  // namespace
}  // namespace ag::io_test
