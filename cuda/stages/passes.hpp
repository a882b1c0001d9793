// SPDX-License-Identifier: Apache-2.0
// The score passes of this plugin, one per backend.
#pragma once

#include "score_pass.hpp"

namespace ag::cuda {

const ScorePass& streaming_pass();
const ScorePass& materialised_pass();

}  // namespace ag::cuda
