// SPDX-License-Identifier: Apache-2.0
// From the caller's structs to a problem. Everything that can be wrong with a call, except what the data hold, is found
// here, before any work.
#pragma once

#include <attngraph/attngraph.h>

#include <cstdint>
#include <limits>

#include "../core/problem.hpp"

namespace ag::api {

// Positions, offsets and windows below it can be added without overflow; no memory holds as many.
inline constexpr std::int64_t kMaxPosition = std::int64_t{1} << 60;
inline constexpr std::int64_t kMaxKeys = std::numeric_limits<std::int32_t>::max();  // keys are stored as i32
// Heads of 576 are real: latent attention, absorbed. CUDA: kMaxHeadDim.
inline constexpr std::int64_t kLargestHeadDim = 1024;

// Today's layout, checked where no tensor is needed.
attngraph_options read_options(const attngraph_options* options);

enum class Data { kNeeded, kShapesOnly };  // kShapesOnly: tensors may have no memory behind them

Problem make_problem(const attngraph_tensor* q, const attngraph_tensor* k, const attngraph_options& options,
                     Data data = Data::kNeeded);
MatrixProblem make_matrix_problem(const attngraph_tensor* weights, const attngraph_options& options,
                                  Data data = Data::kNeeded);

// [B, Hq, Nq, Nk] f32, row-major: what attngraph_write_weights fills.
TensorView weights_to_write(const attngraph_tensor* weights, const Problem& problem);

}  // namespace ag::api
