// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <attngraph/attngraph.h>

#include <memory>

#include "../backend/device_graph.hpp"
#include "facts.hpp"

struct attngraph_device_result {
  std::unique_ptr<ag::DeviceGraph> graph;
  ag::api::Facts facts;
};
