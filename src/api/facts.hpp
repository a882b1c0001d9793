// SPDX-License-Identifier: Apache-2.0
// How a graph was made, as strings that travel with it.
#pragma once

#include <map>
#include <string>

#include "../core/problem.hpp"

namespace ag::api {

using Facts = std::map<std::string, std::string>;

// Numbers in the shortest form that reads back as the same double. "weights" says what the stored weights are:
// "softmax" (probabilities, rounded) or "matrix" (as given).
Facts facts_of(const Problem& problem);
Facts facts_of(const MatrixProblem& problem);

}  // namespace ag::api
