// SPDX-License-Identifier: Apache-2.0
// The same as c/main.c through the C++ face, and a ready matrix.
#include <attngraph/attngraph.hpp>
#include <cstdio>
#include <exception>
#include <vector>

int main() {
  try {
    attngraph::context context;
    const std::vector<float> q{1, 0, 0, 1};
    const std::vector<float> k{1, 0, 0, 1};
    const attngraph::tensor queries(q.data(), {1, 1, 2, 2});
    const attngraph::tensor keys(k.data(), {1, 1, 2, 2});
    const attngraph::result graph = context.extract(queries, keys, attngraph::options().scale(10).threshold(0.5));
    if (graph.edge_count() != 2) return 1;

    const std::vector<double> weights{0.75, 0.25, 0.5, 0.5};
    const attngraph::result matrix =
        context.filter(attngraph::tensor(weights.data(), {1, 1, 2, 2}), attngraph::options().threshold(0.5));
    if (matrix.edge_count() != 3) return 1;

    try {
      context.extract(queries, keys, attngraph::options().threshold(2));
      return 1;
    } catch (const attngraph::error& e) {
      if (e.status() != ATTNGRAPH_ERROR_ARGUMENT) return 1;
    }
    std::printf("C++: attngraph %s, %d edges\n", attngraph_version(), static_cast<int>(graph.edge_count()));
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
