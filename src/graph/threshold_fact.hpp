// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "edge_list.hpp"

namespace ag {

// The threshold a graph was made with, from its facts; none when it does not say, or not a number >= 0.
std::optional<double> threshold_fact(const Metadata& metadata);

}  // namespace ag
