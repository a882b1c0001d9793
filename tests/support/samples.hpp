// SPDX-License-Identifier: Apache-2.0
// The real tensors in data/: queries and keys of a language model, and the weights that its own runtime computed.
#pragma once

#include <memory>
#include <string>

#include "core/problem.hpp"
#include "io/tensor_file.hpp"

namespace ag::test {

inline std::unique_ptr<TensorFile> open_sample(const std::string& name) {
  return open_tensor_file(std::string(ATTNGRAPH_SOURCE_DIR) + "/data/" + name);
}

inline void ask_for_everything(Request& request, std::int64_t heads, std::int64_t queries) {
  request.query_end = queries;
  for (std::int64_t h = 0; h < heads; ++h) request.heads.push_back(h);
}

// Causal attention of one layer, as the model computed it. The tensors stay with the file.
inline Problem sample_problem(TensorFile& file, const std::string& layer, double threshold) {
  Problem problem;
  problem.q = with_leading_ones(file.read("q." + layer), 4);
  problem.k = with_leading_ones(file.read("k." + layer), 4);
  problem.scale = 0.125;
  problem.mask.causal = true;
  problem.selection.threshold = threshold;
  ask_for_everything(problem, problem.query_heads(), problem.queries());
  return problem;
}

}  // namespace ag::test
