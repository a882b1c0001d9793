// SPDX-License-Identifier: Apache-2.0
#include "tensor_support.hpp"

namespace ag::io_test {
namespace {

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

// Members whose compressed bytes end before, on and after the end of what is read at once, with every number of bits in
// their last byte; and the same of what is unpacked at once.
TEST(Npz, AMemberMayEndAtEveryBorderOfEveryBuffer) {
  constexpr std::size_t kInput = std::size_t{1} << 16, kOutput = std::size_t{1} << 18;
  const TempDir dir;
  std::uint64_t state = 1;
  std::string bytes;
  for (std::size_t n = 0; n < kOutput + 64; ++n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    bytes += static_cast<char>((state >> 33) % 200);
  }
  const auto reads_back = [&](std::size_t size, bool squeeze) {
    const std::string array = npy(npy_dict("|u1", "(" + std::to_string(size) + ",)"), bytes.substr(0, size));
    const ZipPart part = squeeze ? ZipPart::squeezed("a.npy", array) : ZipPart::stored("a.npy", array);
    const auto file = open_tensor_file(dir.write("x.npz", zip({part})));
    const TensorView view = file->read("a");
    EXPECT_EQ(view.shape[0], static_cast<std::int64_t>(size));
    EXPECT_EQ(std::string(static_cast<const char*>(view.data), size), bytes.substr(0, size)) << size;
    return part.data.size();
  };
  const std::size_t head = npy(npy_dict("|u1", "(100000,)"), "").size();
  // Compressed, a byte takes a little less than one: begin just below the border.
  std::size_t size = kInput * kInput / deflated(bytes.substr(0, kInput)).size() - head - 60;
  std::size_t squeezed = 0, before = 0, on = 0, after = 0;
  do {
    squeezed = reads_back(size++, true);
    before += squeezed + 1 == kInput;
    on += squeezed == kInput;
    after += squeezed == kInput + 1;
  } while (squeezed < kInput + 8);
  EXPECT_GT(before, 0u);
  EXPECT_GT(on, 0u);
  EXPECT_GT(after, 0u);
  for (size = kOutput - head - 4; size <= kOutput - head + 4; ++size) {
    reads_back(size, true);
    reads_back(size, false);
  }
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

}  // namespace
}  // namespace ag::io_test
