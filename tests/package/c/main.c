/* SPDX-License-Identifier: Apache-2.0 */
/* Two queries, two keys, each query close to its own key: two edges. */
#include <attngraph/attngraph.h>
#include <stdio.h>

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, attngraph_last_error());
  return 1;
}

int main(void) {
  const float q[] = {1, 0, 0, 1};
  const float k[] = {1, 0, 0, 1};
  const int64_t shape[] = {1, 1, 2, 2};
  attngraph_tensor queries = {NULL, ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F32, 4, NULL, NULL};
  attngraph_tensor keys = queries;
  attngraph_options options = ATTNGRAPH_OPTIONS_INIT;
  attngraph_context* context = NULL;
  attngraph_result* result = NULL;
  attngraph_csr csr;

  if (attngraph_abi_version() != ATTNGRAPH_ABI_VERSION) return 1;
  queries.data = q;
  keys.data = k;
  queries.shape = keys.shape = shape;
  options.scale = 10;
  options.threshold = 0.5;

  if (attngraph_context_create(&context, "cpu") != ATTNGRAPH_OK) return failed("context");
  if (attngraph_extract(context, &queries, &keys, &options, &result) != ATTNGRAPH_OK) return failed("extract");
  if (attngraph_result_csr(result, 0, &csr) != ATTNGRAPH_OK) return failed("csr");
  if (csr.edge_count != 2 || csr.keys[0] != 0 || csr.keys[1] != 1) return 1;

  /* A mistake is a status and a sentence, and leaves no result behind. */
  options.threshold = 2;
  if (attngraph_extract(context, &queries, &keys, &options, &result) != ATTNGRAPH_ERROR_ARGUMENT) return 1;

  printf("C: attngraph %s, %d edges\n", attngraph_version(), (int)csr.edge_count);
  attngraph_result_destroy(result);
  attngraph_context_destroy(context);
  return 0;
}
