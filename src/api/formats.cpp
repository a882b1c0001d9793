// SPDX-License-Identifier: Apache-2.0
// The list of formats, as the contract has it.
#include <attngraph/attngraph.h>

#include <array>

#include "../io/graph_file.hpp"

namespace {

static_assert(ATTNGRAPH_FORMAT_READ == ag::kReads && ATTNGRAPH_FORMAT_WHOLE == ag::kWhole &&
              ATTNGRAPH_FORMAT_STREAM == ag::kStreams && ATTNGRAPH_FORMAT_ROWS == ag::kRows &&
              ATTNGRAPH_FORMAT_LABELS == ag::kLabels && ATTNGRAPH_FORMAT_DIRECTION == ag::kDirection);

constexpr auto kFormats = [] {
  std::array<attngraph_format, std::size(ag::kGraphFormats)> all{};
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = {ag::kGraphFormats[i].name, ag::kGraphFormats[i].suffix, ag::kGraphFormats[i].abilities};
  return all;
}();

}  // namespace

const attngraph_format* attngraph_format_at(int32_t i) {
  return i >= 0 && static_cast<std::size_t>(i) < kFormats.size() ? &kFormats[static_cast<std::size_t>(i)] : nullptr;
}
