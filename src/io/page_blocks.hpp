// SPDX-License-Identifier: Apache-2.0
// A graph as the blocks of text that the viewer's page carries: deflated, then base64. viewer/js/codec.js reads them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "../graph/edge_list.hpp"

namespace ag {

std::string base64(std::string_view bytes);
std::string deflated(std::string_view bytes);  // raw deflate, no header: what browsers call deflate-raw

// How a weight becomes a code of 8 or 16 bits: by its logarithm between the least and the greatest weight of the slice,
// or linearly when a weight is not positive.
struct WeightScale {
  bool logarithmic = true;
  double low = 1, high = 1;
  std::uint16_t code(double weight) const;  // 16 bits; the upper 8 are the code of 8 bits
  double weight(std::uint16_t code) const;  // its inverse, for tests
};
WeightScale weight_scale(const EdgeList& graph, const Slice& slice);

// One slice: the edges of every row (varint), the keys as differences within a row (varint; the first as it is, the
// others less 1), the upper bytes of the weights' codes, the lower bytes unless `coarse`, and the rows' entropies in
// thousandths of a nat (u16, 65535: unknown) when any is known. `sizes` are the bytes of these five parts.
struct EdgeBlock {
  std::string text;
  std::array<std::uint64_t, 5> sizes{};
  WeightScale scale;
};
EdgeBlock edge_block(const EdgeList& graph, const Slice& slice, bool coarse);

}  // namespace ag
