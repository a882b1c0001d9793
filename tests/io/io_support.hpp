// SPDX-License-Identifier: Apache-2.0
// Files made byte by byte, and what is expected of the errors they cause.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "graph/edge_list.hpp"
#include "io/graph_file.hpp"
#include "io/tensor_file.hpp"

namespace ag::io_test {

// A folder of its own that goes with the test.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "attngraph-io-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string path(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& bytes) const {
    // A new file each time: some file systems wait for the disk when one is cut to nothing and written again.
    std::filesystem::remove(path(name));
    std::ofstream(path(name), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path(name);
  }
  // Everything in it, hidden files too.
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) names.push_back(entry.path().filename());
    return names;
  }

 private:
  std::filesystem::path path_;
};

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

template <class T>
std::string raw(const std::vector<T>& values) {
  std::string bytes;
  for (const T value : values) bytes += raw(value);
  return bytes;
}

// Runs f, which must throw an ag::Error of this status whose message holds each of the texts and is one printable line.
inline void expect_error(Status status, const std::vector<std::string>& texts, const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.status()), static_cast<int>(status)) << error.what();
    for (const std::string& text : texts) EXPECT_THAT(error.what(), testing::HasSubstr(text));
    for (const char c : std::string(error.what())) EXPECT_FALSE(static_cast<unsigned char>(c) < 0x20) << error.what();
    return;
  }
  ADD_FAILURE() << "no error, expected status " << static_cast<int>(status);
}

// An .npy file: header text as given (padded when `pad`), then the data.
inline std::string npy(const std::string& header, const std::string& data, int version = 1) {
  std::string bytes = "\x93NUMPY";
  bytes += static_cast<char>(version);
  bytes += '\0';
  bytes +=
      version == 1 ? raw(static_cast<std::uint16_t>(header.size())) : raw(static_cast<std::uint32_t>(header.size()));
  return bytes + header + data;
}

inline std::string npy_dict(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }          \n";
}

inline std::string safetensors(const std::string& header, const std::string& data) {
  return raw(static_cast<std::uint64_t>(header.size())) + header + data;
}

inline std::uint32_t crc_of(const std::string& bytes) {
  return static_cast<std::uint32_t>(crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

inline std::string deflated(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  std::string in = bytes;
  stream.next_in = reinterpret_cast<unsigned char*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<unsigned char*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// One member of an archive to build; every field that a lie can stand in can be set.
struct ZipPart {
  std::string name;
  std::string data;  // as stored
  std::uint16_t method = 0;
  std::uint16_t flags = 0;
  std::uint32_t crc = 0;
  std::uint32_t compressed = 0, size = 0;
  std::string local_name;       // empty: as name
  std::string extra;            // of the directory entry
  std::int64_t header_at = -1;  // -1: the truth

  static ZipPart stored(const std::string& name, const std::string& bytes) {
    const auto size = static_cast<std::uint32_t>(bytes.size());
    return {name, bytes, 0, 0, crc_of(bytes), size, size, "", "", -1};
  }
  static ZipPart squeezed(const std::string& name, const std::string& bytes) {
    const std::string data = deflated(bytes);
    return {name,
            data,
            8,
            0,
            crc_of(bytes),
            static_cast<std::uint32_t>(data.size()),
            static_cast<std::uint32_t>(bytes.size()),
            "",
            "",
            -1};
  }
};

inline std::string zip(const std::vector<ZipPart>& parts, const std::string& comment = "") {
  const auto u16 = [](std::size_t value) { return raw(static_cast<std::uint16_t>(value)); };
  const auto u32 = [](std::size_t value) { return raw(static_cast<std::uint32_t>(value)); };
  const auto common = [&](const ZipPart& part, const std::string& name, const std::string& extra) {
    return u16(20) + u16(part.flags) + u16(part.method) + u32(0) + u32(part.crc) + u32(part.compressed) +
           u32(part.size) + u16(name.size()) + u16(extra.size());
  };
  std::string bytes, directory;
  for (const ZipPart& part : parts) {
    const std::size_t at = part.header_at >= 0 ? static_cast<std::size_t>(part.header_at) : bytes.size();
    const std::string local = part.local_name.empty() ? part.name : part.local_name;
    bytes += u32(0x04034B50) + common(part, local, "") + local + part.data;
    directory += u32(0x02014B50) + u16(20) + common(part, part.name, part.extra) + u16(0) + u16(0) + u16(0) + u32(0) +
                 u32(at) + part.name + part.extra;
  }
  const std::size_t at = bytes.size();
  return bytes + directory + u32(0x06054B50) + u16(0) + u16(0) + u16(parts.size()) + u16(parts.size()) +
         u32(directory.size()) + u32(at) + u16(comment.size()) + comment;
}

// Two slices, one with an empty row; f32 or f64 weights; everything a graph can carry.
inline EdgeList small_graph(DType dtype = DType::kF32) {
  CollectSink sink;
  Metadata metadata;
  metadata.facts = {{"threshold", "0.1"}, {"model", "a \"small\" one\n"}};
  metadata.tokens = Labels({"the", " cat", "\xFF\x80", "=1+1", "<a&b>\"'\\", "\n"});
  sink.set_metadata(metadata);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<double> weights = {0.1, 1.0 / 3, 0.5, 1e-7, 1.0};
  const std::vector<float> narrow(weights.begin(), weights.end());
  const void* data = dtype == DType::kF64 ? static_cast<const void*>(weights.data()) : narrow.data();
  const std::vector<std::int64_t> offsets = {0, 2, 2, 5};
  const std::vector<std::int32_t> keys = {0, 3, 0, 1, 5};
  const RowColumns stats = {{1.25, 0.75, 0.1 + 1.0 / 3, nan, 3}, {-inf, -inf, 0, nan, -1}, {0.1, 0.2, 1.5, 0.3, 5}};
  for (std::int64_t head = 0; head < 2; ++head) {
    sink.begin_slice({{0, 4, head}, 1, 3, 6}, dtype);
    sink.rows({1, 3, offsets.data(), keys.data(), data, dtype, stats.view()});
    SliceSums sums;
    if (head == 1) sums = {{0.1, 0.2, 0.3, 0.4, 0.5, 0.6}, {1, 2.5}, -1, {0.5, 0.25, 0.125}};
    sink.end_slice(sums);
  }
  RunReport report;
  report.eps = 1.5e-6;
  report.borderline = 3;
  report.empty_rows = 2;
  report.kept_mass_sum = 3.25;
  report.rows_with_keys = 4;
  report.backend = "cpu";
  report.target = "AVX2";
  report.threads = 2;
  sink.finish(report);
  return sink.take();
}

inline void write_graph(const EdgeList& graph, const std::string& path, const WriteOptions& options = {}) {
  replay(graph, *open_graph_writer(path, graph_format("", path), options));
}

}  // namespace ag::io_test
