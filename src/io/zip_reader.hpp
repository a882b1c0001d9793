// SPDX-License-Identifier: Apache-2.0
// ZIP archives as far as .npz needs them: stored and deflated members, zip64. Names are looked up, never written.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "input_file.hpp"

namespace ag {

inline constexpr std::uint64_t kMaxZipMembers = 4096;

struct ZipMember {
  std::string name;
  std::uint16_t method = 0;  // 0 stored, 8 deflated
  std::uint16_t flags = 0;
  std::uint32_t crc = 0;
  std::uint64_t compressed = 0, size = 0;
  std::uint64_t header_at = 0;  // local header
  std::uint64_t data_at = 0;
  std::uint64_t entry_at = 0;  // in the central directory
  std::string unsupported;     // why it cannot be read, although the archive is sound
};

// The members in the order of the central directory, each checked against its local header; none overlaps another.
std::vector<ZipMember> read_zip_directory(const InputFile& file);

// The bytes of a member. finish() checks that it ended where it should and that its CRC holds.
std::unique_ptr<ByteSource> open_zip_member(const InputFile& file, const ZipMember& member);

}  // namespace ag
