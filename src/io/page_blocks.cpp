// SPDX-License-Identifier: Apache-2.0
#include "page_blocks.hpp"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "../core/error.hpp"

namespace ag {
namespace {

constexpr double kMostCode = 65535;
constexpr std::uint16_t kUnknownEntropy = 65535;

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

// Two bytes a row, the lower first; nothing when no row knows its entropy.
std::string entropies(const EdgeList& graph, const Slice& slice) {
  std::string out;
  bool known = false;
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
    const double nats = graph.rows.entropy[static_cast<std::size_t>(slice.first_row + r)];
    known = known || !std::isnan(nats);
    const auto code = std::isnan(nats)
                          ? kUnknownEntropy
                          : static_cast<std::uint16_t>(std::clamp(std::round(nats * 1000), 0.0, kMostCode - 1));
    out += static_cast<char>(code & 0xFF);
    out += static_cast<char>(code >> 8);
  }
  return known ? out : "";
}

}  // namespace

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t n = 0; n < 3; ++n)
      group = (group << 8) | (at + n < bytes.size() ? static_cast<unsigned char>(bytes[at + n]) : 0u);
    for (std::size_t n = 0; n < 4; ++n) out += at + n <= bytes.size() ? kDigits[(group >> (18 - 6 * n)) & 63] : '=';
  }
  return out;
}

std::string deflated(std::string_view bytes) {
  z_stream stream{};
  constexpr int kRaw = -15, kMemory = 8;
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kRaw, kMemory, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::bad_alloc();
  std::string out;
  try {
    out.resize(bytes.size() / 2 + 1024);
    std::size_t taken = 0, made = 0;
    int state = Z_OK;
    // zlib counts in 32 bits: large blocks go through in pieces.
    constexpr std::size_t kPiece = std::size_t{1} << 30;
    while (state != Z_STREAM_END) {
      if (made == out.size()) out.resize(out.size() * 2);
      const std::size_t in = std::min(kPiece, bytes.size() - taken), room = std::min(kPiece, out.size() - made);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + taken));
      stream.avail_in = static_cast<uInt>(in);
      stream.next_out = reinterpret_cast<Bytef*>(out.data() + made);
      stream.avail_out = static_cast<uInt>(room);
      state = deflate(&stream, taken + in == bytes.size() ? Z_FINISH : Z_NO_FLUSH);
      taken += in - stream.avail_in;
      made += room - stream.avail_out;
    }
    out.resize(made);
  } catch (...) {
    deflateEnd(&stream);
    throw;
  }
  deflateEnd(&stream);
  return out;
}

std::uint16_t WeightScale::code(double weight) const {
  if (!(high > low)) return 0;
  const double share = logarithmic ? std::log(weight / low) / std::log(high / low) : (weight - low) / (high - low);
  return static_cast<std::uint16_t>(std::clamp(std::round(share * kMostCode), 0.0, kMostCode));
}

double WeightScale::weight(std::uint16_t code) const {
  const double share = code / kMostCode;
  return logarithmic ? low * std::exp(share * std::log(high / low)) : low + share * (high - low);
}

WeightScale weight_scale(const EdgeList& graph, const Slice& slice) {
  WeightScale scale;
  if (slice.edge_count == 0) return scale;
  scale.low = std::numeric_limits<double>::infinity();
  scale.high = -scale.low;
  for (std::int64_t e = slice.first_edge; e < slice.first_edge + slice.edge_count; ++e) {
    scale.low = std::min(scale.low, graph.weight(e));
    scale.high = std::max(scale.high, graph.weight(e));
  }
  scale.logarithmic = scale.low > 0;
  return scale;
}

EdgeBlock edge_block(const EdgeList& graph, const Slice& slice, bool coarse) {
  EdgeBlock block;
  block.scale = weight_scale(graph, slice);
  std::string bytes, upper, lower;
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
    const auto at = static_cast<std::size_t>(slice.first_offset + r);
    put_varint(bytes, static_cast<std::uint64_t>(graph.offsets[at + 1] - graph.offsets[at]));
  }
  block.sizes[0] = bytes.size();
  for (std::int64_t r = 0; r < slice.info.query_count; ++r) {
    const auto at = static_cast<std::size_t>(slice.first_offset + r);
    std::int64_t next = 0;
    for (std::int64_t e = slice.first_edge + graph.offsets[at]; e < slice.first_edge + graph.offsets[at + 1]; ++e) {
      const std::int64_t key = graph.keys[static_cast<std::size_t>(e)];
      put_varint(bytes, static_cast<std::uint64_t>(key - next));
      next = key + 1;
      const std::uint16_t code = block.scale.code(graph.weight(e));
      upper += static_cast<char>(code >> 8);
      if (!coarse) lower += static_cast<char>(code & 0xFF);
    }
  }
  block.sizes[1] = bytes.size() - block.sizes[0];
  block.sizes[2] = upper.size();
  block.sizes[3] = lower.size();
  const std::string nats = entropies(graph, slice);
  block.sizes[4] = nats.size();
  bytes += upper;
  bytes += lower;
  bytes += nats;
  block.text = base64(deflated(bytes));
  return block;
}

}  // namespace ag
