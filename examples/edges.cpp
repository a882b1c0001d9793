// SPDX-License-Identifier: Apache-2.0
// The heaviest edges of one layer of a file of queries and keys: edges FILE.safetensors
#include <attngraph/attngraph.hpp>
#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 2) throw std::invalid_argument("give a file with q.12 and k.12");
  attngraph::file file(argv[1]);
  attngraph::context context;
  const attngraph::result graph =
      context.extract(file.read("q.12"), file.read("k.12"), attngraph::options().threshold(0.05).causal());

  std::cout << graph.edge_count() << " edges\n";
  for (const attngraph::edge& e : graph.top(3))
    std::cout << "head " << e.head << ": " << e.query << " -> " << e.key << "  " << e.weight << '\n';

  // A head as CSR, without a copy: how many keys does each query attend to?
  const attngraph::slice head = graph.slice(0);
  std::cout << "head " << head.head << ", last query: " << head.offsets.back() - head.offsets[head.offsets.size() - 2]
            << " keys\n";
} catch (const std::exception& e) {
  std::cerr << "edges: " << e.what() << '\n';
  return 1;
}
