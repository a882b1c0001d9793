// SPDX-License-Identifier: Apache-2.0
// What holds for every format of tensor files.
#include <sys/stat.h>

#include "tensor_support.hpp"

namespace ag::io_test {
namespace {

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
