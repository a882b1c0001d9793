// SPDX-License-Identifier: Apache-2.0
// Keys as a model decodes them: a prompt of half the positions, then one position at a time. decoding FILE.safetensors
#include <attngraph/attngraph.hpp>
#include <iostream>

namespace {

// Positions [begin, end) of f16 rows [H, N, D], in place.
attngraph::tensor positions(const attngraph::tensor& all, std::int64_t begin, std::int64_t end) {
  const std::int64_t heads = all.shape()[0], n = all.shape()[1], d = all.shape()[2];
  const auto* const first = static_cast<const std::uint16_t*>(all.data()) + begin * d;
  return {first, all.dtype(), {heads, end - begin, d}, {n * d, d, 1}};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) throw std::invalid_argument("give a file with q.12 and k.12");
  attngraph::file file(argv[1]);
  const attngraph::tensor q = file.read("q.12"), k = file.read("k.12");
  if (q.shape().size() != 3 || q.dtype() != ATTNGRAPH_F16) throw std::invalid_argument("q.12 is not f16 [H, N, D]");

  attngraph::session session{attngraph::context("cpu")};
  const attngraph::options how = attngraph::options().threshold(0.05).causal();
  std::int64_t edges = 0;
  for (std::int64_t begin = 0, end = q.shape()[1] / 2; begin < q.shape()[1]; begin = end++) {
    session.append(positions(k, begin, end));
    edges += session.rows(positions(q, begin, end), how).edge_count();
  }
  // As many as one call with all positions finds.
  std::cout << edges << " edges\n" << session.describe().bytes << " bytes of keys\n";
} catch (const std::exception& e) {
  std::cerr << "decoding: " << e.what() << '\n';
  return 1;
}
