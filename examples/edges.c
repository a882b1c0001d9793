/* SPDX-License-Identifier: Apache-2.0 */
/* The heaviest edges of one layer of a file of queries and keys: edges FILE.safetensors */
#include <attngraph/attngraph.h>
#include <stdio.h>

int main(int argc, char** argv) {
  attngraph_context* context = NULL;
  attngraph_file* file = NULL;
  attngraph_result* graph = NULL;
  attngraph_tensor q, k;
  attngraph_options options = ATTNGRAPH_OPTIONS_INIT;
  attngraph_edge top[3];
  int64_t found = 0;
  options.threshold = 0.05;
  options.causal = 1;

  const int ok = argc == 2 && attngraph_context_create(&context, "auto") == ATTNGRAPH_OK &&
                 attngraph_file_open(argv[1], &file) == ATTNGRAPH_OK &&
                 attngraph_file_tensor(file, "q.12", &q) == ATTNGRAPH_OK &&
                 attngraph_file_tensor(file, "k.12", &k) == ATTNGRAPH_OK &&
                 attngraph_extract(context, &q, &k, &options, &graph) == ATTNGRAPH_OK &&
                 attngraph_result_top(graph, 3, top, &found) == ATTNGRAPH_OK;
  if (ok) {
    printf("%lld edges\n", (long long)attngraph_result_edge_count(graph));
    for (int64_t i = 0; i < found; ++i)
      printf("head %lld: %lld -> %lld  %g\n", (long long)top[i].head, (long long)top[i].query, (long long)top[i].key,
             top[i].weight);
  } else {
    fprintf(stderr, "edges: %s\n", argc == 2 ? attngraph_last_error() : "give a file with q.12 and k.12");
  }

  attngraph_result_destroy(graph);
  attngraph_file_destroy(file);
  attngraph_context_destroy(context);
  return ok ? 0 : 1;
}
