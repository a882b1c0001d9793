// SPDX-License-Identifier: Apache-2.0
// The .npy format: a header that describes one array, then its elements.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "input_file.hpp"
#include "tensor_table.hpp"

namespace ag {

inline constexpr std::string_view kNpyMagic{"\x93NUMPY", 6};
inline constexpr std::uint32_t kMaxNpyHeader = 65536;

struct NpyArray {
  TensorEntry entry;
  bool swap_bytes = false;  // stored big-endian
};

// Reads the header and leaves the source at the first element. The elements fill the rest of the source exactly, or the
// file is refused before anything is allocated.
NpyArray read_npy_header(ByteSource& source);

// The elements, in the byte order of this machine.
void read_npy_data(ByteSource& source, const NpyArray& array, std::byte* out);

// Version 1 header for a row-major array; descr as "<f4".
std::string npy_header(std::string_view descr, const std::vector<std::uint64_t>& shape);

}  // namespace ag
