/* SPDX-License-Identifier: Apache-2.0 */
/* The whole contract once, as a C program would use it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "c_checks.h"

enum { kQueries = 4, kKeys = 4, kDim = 2 };

static const float queries[kQueries][kDim] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};
static const int64_t shape[3] = {1, kQueries, kDim};
static const char* const tokens[kKeys] = {"east", "north", "west", "south"};

static int count_rows(void* user, const attngraph_row_block* block) {
  *(int64_t*)user += block->row_count;
  return 0;
}

/* Every query looks at its own key most, and at the opposite one least: weights e^4, 1, e^-4, 1 over their sum. */
static void check_result(const attngraph_result* result) {
  const double own = exp(4) / (exp(4) + 2 + exp(-4));
  attngraph_csr csr;
  attngraph_rows rows;
  attngraph_report report;
  int64_t i;
  size_t length = 0;
  C_CHECK(attngraph_result_slice_count(result) == 1);
  C_CHECK(attngraph_result_edge_count(result) == kQueries);
  C_OK(attngraph_result_csr(result, 0, &csr));
  C_OK(attngraph_result_rows(result, 0, &rows));
  C_CHECK(csr.layer == 7 && csr.head == 0 && csr.batch == 0);
  C_CHECK(csr.query_begin == 0 && csr.query_count == kQueries && csr.key_count == kKeys);
  C_CHECK(csr.edge_count == kQueries && csr.offsets[0] == 0 && csr.offsets[kQueries] == kQueries);
  C_CHECK(csr.weight_dtype == ATTNGRAPH_F32);
  for (i = 0; i < kQueries; ++i) {
    C_CHECK(csr.keys[i] == i);
    C_CHECK(fabs((double)((const float*)csr.weights)[i] - own) < 1e-6);
    C_CHECK(rows.max_key[i] == i);
    C_CHECK(fabs(rows.maximum[i] - 4) < 1e-6);
    C_CHECK(fabs(rows.logsumexp[i] - (4 - log(own))) < 1e-6);
    C_CHECK(fabs(rows.kept_mass[i] - own) < 1e-6);
    C_CHECK(rows.entropy[i] > 0);
  }
  C_OK(attngraph_result_report(result, &report));
  C_CHECK(fabs(report.kept_mass - own) < 1e-6);
  C_CHECK(strcmp(report.backend, "reference") == 0);
  C_CHECK(report.target[0] != '\0' && report.empty_rows == 0);
  C_CHECK(strcmp(attngraph_result_metadata(result, "threshold"), "0.5") == 0);
  C_CHECK(strcmp(attngraph_result_metadata(result, "scale"), "4") == 0);
  C_CHECK(attngraph_result_metadata(result, "no such fact") == NULL);
  C_CHECK(attngraph_result_token_count(result) == kKeys);
  C_CHECK(strcmp(attngraph_result_token(result, 3, &length), "south") == 0 && length == 5);
  C_CHECK(attngraph_result_token(result, 4, NULL) == NULL && attngraph_result_token(result, -1, NULL) == NULL);
}

static void ask(const attngraph_result* result) {
  const double thresholds[3] = {0.99, 0.5, 0.96};
  attngraph_edge edges[8];
  attngraph_sweep_row swept[3];
  attngraph_summary summary;
  attngraph_difference difference;
  attngraph_columns columns;
  attngraph_part part = ATTNGRAPH_PART_INIT;
  attngraph_result* smaller = NULL;
  int64_t count = -1;
  C_OK(attngraph_result_top(result, 8, edges, &count));
  C_CHECK(count == kQueries && edges[0].layer == 7);
  C_OK(attngraph_result_top(result, 0, NULL, &count));
  C_CHECK(count == 0);
  C_OK(attngraph_result_sweep(result, thresholds, 3, swept));
  C_CHECK(swept[0].edges == 0 && swept[1].edges == kQueries && swept[2].edges == kQueries);
  C_CHECK(swept[1].threshold == 0.5 && swept[1].nodes == kQueries);
  C_OK(attngraph_result_summary(result, -1, &summary));
  C_CHECK(summary.edges == kQueries && summary.self_share == 1 && summary.mean_distance == 0);
  C_STATUS(ATTNGRAPH_ERROR_NOT_FOUND, attngraph_result_summary(result, 1, &summary));
  C_OK(attngraph_result_columns(result, 0, &columns));
  C_CHECK(columns.received != NULL && columns.distances == NULL && columns.distance_count == 0);
  C_CHECK(fabs(columns.received[0] + columns.received[1] + columns.received[2] + columns.received[3] - 4) < 1e-6);
  part.threshold = 0.99;
  C_OK(attngraph_result_part(result, &part, &smaller));
  C_CHECK(attngraph_result_edge_count(smaller) == 0);
  C_OK(attngraph_result_diff(result, smaller, 1e-5, &difference));
  C_CHECK(difference.only_a == kQueries && difference.first_in_a == 1 && difference.first.key == 0);
  attngraph_result_destroy(smaller);
}

void c_tour(const char* folder) {
  attngraph_context* context = NULL;
  attngraph_result* result = NULL;
  attngraph_result* loaded = NULL;
  attngraph_sink* sink = NULL;
  attngraph_tensor q = {queries, ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F32, 3, shape, NULL};
  attngraph_options options = ATTNGRAPH_OPTIONS_INIT;
  attngraph_difference difference;
  char* text = NULL;
  char path[512];
  int64_t rows = 0;
  options.threshold = 0.5;
  options.scale = 4;
  options.layer = 7;
  options.backend = "reference";
  options.stats = ATTNGRAPH_STATS_ENTROPY | ATTNGRAPH_STATS_COLUMNS;

  C_OK(attngraph_context_create(&context, "auto"));
  C_OK(attngraph_sink_create_collect(&sink));
  C_OK(attngraph_sink_set_tokens(sink, tokens, NULL, kKeys));
  C_OK(attngraph_extract_to(context, &q, &q, &options, sink));
  C_CHECK(attngraph_sink_edge_count(sink) == kQueries);
  C_OK(attngraph_sink_take_result(sink, &result));
  attngraph_sink_destroy(sink);
  check_result(result);
  ask(result);

  snprintf(path, sizeof path, "%stour.npz", folder);
  C_OK(attngraph_sink_create_file(&sink, path, NULL, NULL));
  C_OK(attngraph_result_write(result, sink));
  C_OK(attngraph_sink_finish(sink));
  attngraph_sink_destroy(sink);
  C_OK(attngraph_result_load(path, &loaded));
  C_OK(attngraph_result_diff(result, loaded, 0, &difference));
  C_CHECK(difference.common == kQueries && difference.only_a + difference.only_b + difference.inside_band == 0);
  C_CHECK(difference.max_weight_difference == 0);
  C_CHECK(strcmp(attngraph_result_token(loaded, 0, NULL), "east") == 0);

  C_OK(attngraph_sink_create_callback(&sink, count_rows, &rows));
  C_OK(attngraph_result_write(loaded, sink));
  C_CHECK(rows == kQueries);
  attngraph_sink_destroy(sink);

  C_OK(attngraph_explain(context, &q, &q, &options, &text));
  C_CHECK(text != NULL && strstr(text, "reference") != NULL);
  attngraph_string_free(text);
  attngraph_result_destroy(loaded);
  attngraph_result_destroy(result);
  attngraph_context_destroy(context);
}

void c_null_is_an_answer_not_a_crash(const char* folder) {
  attngraph_context* context = NULL;
  attngraph_sink* sink = NULL;
  attngraph_result* result = NULL;
  attngraph_tensor q = {queries, ATTNGRAPH_DEVICE_CPU, 0, ATTNGRAPH_F32, 3, shape, NULL};
  attngraph_report report;
  (void)folder;
  attngraph_string_free(NULL);
  attngraph_context_destroy(NULL);
  attngraph_result_destroy(NULL);
  attngraph_sink_destroy(NULL);
  attngraph_file_destroy(NULL);
  attngraph_file_release(NULL, "q");
  attngraph_options_init(NULL);
  C_CHECK(attngraph_result_slice_count(NULL) == 0 && attngraph_result_edge_count(NULL) == 0);
  C_CHECK(attngraph_result_token_count(NULL) == 0 && attngraph_result_token(NULL, 0, NULL) == NULL);
  C_CHECK(attngraph_result_metadata(NULL, "x") == NULL && attngraph_file_metadata(NULL, "x") == NULL);
  C_CHECK(attngraph_sink_edge_count(NULL) == 0 && attngraph_file_tensor_count(NULL) == 0);
  C_CHECK(attngraph_file_tensor_name(NULL, 0) == NULL);
  C_CHECK(attngraph_backend_name(-1) == NULL && attngraph_backend_name(attngraph_backend_count()) == NULL);
  C_CHECK(attngraph_backend_device(-1) == NULL && attngraph_backend_unavailable(-1) != NULL);

  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_context_create(NULL, "cpu"));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_context_create(&context, NULL));
  C_OK(attngraph_context_create(&context, "cpu"));
  C_OK(attngraph_sink_create_collect(&sink));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_extract(NULL, &q, &q, NULL, &result));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_extract(context, NULL, &q, NULL, &result));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_extract(context, &q, NULL, NULL, &result));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_extract(context, &q, &q, NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_extract_to(context, &q, &q, NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_filter_matrix(context, NULL, NULL, &result));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_filter_matrix(context, &q, NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_filter_matrix_to(context, &q, NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_explain(context, &q, &q, NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_csr(NULL, 0, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_rows(NULL, 0, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_columns(NULL, 0, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_report(NULL, &report));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_top(NULL, 1, NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_sweep(NULL, NULL, 0, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_summary(NULL, -1, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_diff(NULL, NULL, 0, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_part(NULL, NULL, &result));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_write(NULL, sink));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_result_load(NULL, &result));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_create_collect(NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_create_file(NULL, "x.csv", NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_create_callback(&sink, NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_create_sweep(&sink, NULL, 1));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_take_result(sink, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_take_result(NULL, &result));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_sweep_rows(NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_set_tokens(sink, NULL, NULL, 1));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_load_tokens(sink, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_parse_tokens(sink, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_set_metadata(sink, "name", NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_set_metadata(sink, NULL, "value"));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_set_metadata(sink, "", "value"));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_report(NULL, &report));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_sink_finish(NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_file_open(NULL, NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_file_tensor_info(NULL, "q", NULL));
  C_STATUS(ATTNGRAPH_ERROR_ARGUMENT, attngraph_file_tensor(NULL, "q", NULL));
  C_CHECK(result == NULL);
  attngraph_sink_destroy(sink);
  attngraph_context_destroy(context);
}
