// SPDX-License-Identifier: Apache-2.0
// Which token and which word stands at every key, for the sums that ATTNGRAPH_STATS_TOKENS asks for.
#pragma once

#include <attngraph/attngraph.h>

#include <span>
#include <string>

#include "../graph/token_sums.hpp"

namespace ag::api {

// From the options where they say; otherwise from the texts of the tokens. kArgument when neither is there, kShape for
// another length than that of the keys.
TokenIds token_ids(const attngraph_options& options, std::span<const std::string> tokens, std::int64_t batch,
                   std::int64_t keys);

}  // namespace ag::api
