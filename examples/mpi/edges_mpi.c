/* SPDX-License-Identifier: Apache-2.0 */
/* One layer of queries and keys by many processes: mpirun -n 2 edges_mpi FILE.safetensors LAYER FOLDER
 *
 * Every rank asks for the plan and gets the same list, so nothing is sent: task t belongs to rank t modulo the number
 * of ranks. Each writes its tasks into FOLDER, which all ranks can see, and a part that is there already is not done
 * again; at the end rank 0 joins the parts into FOLDER/edges.npz. */
#include <attngraph/attngraph.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { kPathBytes = 4096 };

static void check(attngraph_status status, const char* what) {
  if (status == ATTNGRAPH_OK) return;
  fprintf(stderr, "edges_mpi: %s: %s\n", what, attngraph_last_error());
  MPI_Abort(MPI_COMM_WORLD, 1);
}

static void part_path(char* path, const char* folder, int64_t task) {
  snprintf(path, kPathBytes, "%s/part-%06lld.npz", folder, (long long)task);
}

static int exists(const char* path) {
  FILE* file = fopen(path, "rb");
  if (file != NULL) fclose(file);
  return file != NULL;
}

static void write_graph(const attngraph_result* graph, const char* path) {
  attngraph_write_options how = ATTNGRAPH_WRITE_OPTIONS_INIT;
  attngraph_sink* sink = NULL;
  check(attngraph_sink_create_file(&sink, path, "npz", &how), path);
  check(attngraph_result_write(graph, sink), path);
  check(attngraph_sink_finish(sink), path); /* the name appears here, complete */
  attngraph_sink_destroy(sink);
}

static void join_parts(const char* folder, int64_t count) {
  char path[kPathBytes];
  const size_t tasks = (size_t)count;
  attngraph_result** parts = calloc(tasks + 1, sizeof *parts);
  attngraph_result* whole = NULL;
  if (parts == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
  for (size_t t = 0; t < tasks; ++t) {
    part_path(path, folder, (int64_t)t);
    check(attngraph_result_load(path, &parts[t]), path);
  }
  check(attngraph_results_join((const attngraph_result* const*)parts, count, NULL, &whole), "the parts");
  snprintf(path, sizeof path, "%s/edges.npz", folder);
  write_graph(whole, path);
  printf("%lld edges in %lld parts\n", (long long)attngraph_result_edge_count(whole), (long long)count);
  attngraph_result_destroy(whole);
  for (size_t t = 0; t < tasks; ++t) attngraph_result_destroy(parts[t]);
  free(parts);
}

int main(int argc, char** argv) {
  int rank = 0, ranks = 1;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (argc != 4) {
    if (rank == 0) fprintf(stderr, "edges_mpi: give a file of queries and keys, a layer and a folder\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  char name[64], path[kPathBytes];
  attngraph_context* context = NULL;
  attngraph_file* file = NULL;
  attngraph_tensor q, k;
  check(attngraph_context_create(&context, "auto"), "context");
  check(attngraph_file_open(argv[1], &file), argv[1]);
  snprintf(name, sizeof name, "q.%s", argv[2]);
  check(attngraph_file_tensor(file, name, &q), argv[1]);
  snprintf(name, sizeof name, "k.%s", argv[2]);
  check(attngraph_file_tensor(file, name, &k), argv[1]);

  attngraph_options options = ATTNGRAPH_OPTIONS_INIT;
  options.threshold = 0.05;
  options.causal = 1;
  options.layer = atoll(argv[2]);
  options.threads = 1; /* a rank for every core */

  const int64_t pairs_per_task = 1 << 18; /* small, for a small example; some 2^31 for a core */
  int64_t count = 0;
  check(attngraph_plan_tasks(&q, &k, &options, pairs_per_task, NULL, 0, &count), "plan");
  attngraph_task* tasks = calloc((size_t)count + 1, sizeof *tasks);
  if (tasks == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
  check(attngraph_plan_tasks(&q, &k, &options, pairs_per_task, tasks, count, &count), "plan");

  int64_t* heads = calloc((size_t)q.shape[q.ndim - 3], sizeof *heads); /* heads of the options: all */
  if (heads == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
  for (int64_t t = rank; t < count; t += ranks) {
    part_path(path, argv[3], t);
    if (exists(path)) continue;
    attngraph_options own = options;
    own.heads = heads;
    own.head_count = tasks[t].head_end - tasks[t].head_begin;
    for (int64_t n = 0; n < own.head_count; ++n) heads[n] = tasks[t].head_begin + n;
    own.query_begin = tasks[t].query_begin;
    own.query_end = tasks[t].query_end;
    attngraph_result* part = NULL;
    check(attngraph_extract(context, &q, &k, &own, &part), path);
    write_graph(part, path);
    attngraph_result_destroy(part);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) join_parts(argv[3], count);

  free(heads);
  free(tasks);
  attngraph_file_destroy(file);
  attngraph_context_destroy(context);
  MPI_Finalize();
  return 0;
}
