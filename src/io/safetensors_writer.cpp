// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "../core/error.hpp"
#include "array_archive.hpp"
#include "escape.hpp"
#include "safetensors.hpp"

namespace ag {
namespace {

const char* stored_name(DType dtype) {
  switch (dtype) {
    case DType::kF64: return "F64";
    case DType::kF32: return "F32";
    case DType::kF16: return "F16";
    case DType::kBF16: return "BF16";
    case DType::kBool: return "BOOL";
    case DType::kI32: return "I32";
    case DType::kI64: return "I64";
  }
  return "";
}

std::string make_header(std::span<StoredArray> arrays, const Facts& facts) {
  std::string header = "{\"__metadata__\": " + facts_to_json(facts);
  std::uint64_t at = 0;
  for (const StoredArray& array : arrays) {
    header += ", ";
    append_json(header, array.name);
    const auto shape = array.shape();
    header += fmt::format(R"(: {{"dtype": "{}", "shape": [{}], "data_offsets": [{}, {}]}})", stored_name(array.dtype),
                          fmt::join(shape, ", "), at, at + array.data->size());
    at += array.data->size();
  }
  header += '}';
  // The data begin at a multiple of 8.
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

}  // namespace

void check_safetensors_facts(const std::string& name, const Facts& facts) {
  constexpr std::uint64_t kArrays = 16 << 10;  // more than the entries of all arrays need
  const std::uint64_t bytes = facts_to_json(facts).size() + kArrays;
  if (bytes > kMaxSafetensorsHeader) {
    fail(Status::kLimit, "{}: facts and tokens need {} bytes of a safetensors header; the limit is {}; write npz", name,
         bytes, kMaxSafetensorsHeader);
  }
}

void write_safetensors(OutputFile& file, std::span<StoredArray> arrays, const Facts& facts) {
  // The widest elements first: then every array is aligned to its own.
  std::ranges::stable_sort(arrays, std::ranges::greater{}, [](const StoredArray& a) { return size_of(a.dtype); });
  const std::string header = make_header(arrays, facts);
  const std::uint64_t length = header.size();
  BufferedWriter& out = file.out();
  char bytes[sizeof length];
  std::memcpy(bytes, &length, sizeof length);
  out.write({bytes, sizeof bytes});
  out.write(header);
  for (StoredArray& array : arrays) {
    array.data->replay([&](std::string_view piece) { out.write(piece); });
  }
}

}  // namespace ag
