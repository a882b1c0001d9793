// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <attngraph/attngraph.h>

#include "../graph/edge_list.hpp"

struct attngraph_result {
  ag::EdgeList graph;
};
