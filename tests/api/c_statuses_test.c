/* SPDX-License-Identifier: Apache-2.0 */
/* Every status that this build can answer, reached from C. DEVICE_OUT_OF_MEMORY, DEVICE_LOST and FORKED need a CUDA
 * device; CAPACITY is in tasks_test.cpp; INTERNAL needs an exception that C cannot throw (control_test.cpp throws it);
 * NO_SPACE needs a full disk (files_test.cpp). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "c_checks.h"

static const int64_t kShape[4] = {1, 1, 2, 2};
static float data[4] = {1, 0, 0, 1};

static attngraph_tensor tensor_of(const void* values, attngraph_dtype dtype) {
  attngraph_tensor tensor;
  memset(&tensor, 0, sizeof tensor);
  tensor.data = values;
  tensor.device_type = ATTNGRAPH_DEVICE_CPU;
  tensor.dtype = dtype;
  tensor.ndim = 4;
  tensor.shape = kShape;
  return tensor;
}

static int always(void* user) {
  (void)user;
  return 1;
}

typedef struct Reentry {
  attngraph_context* context;
  attngraph_sink* sink;
  attngraph_status of_context, of_sink;
} Reentry;

static int calls_back(void* user, const attngraph_row_block* block) {
  Reentry* reentry = (Reentry*)user;
  attngraph_tensor q = tensor_of(data, ATTNGRAPH_F32);
  attngraph_result* result = NULL;
  (void)block;
  reentry->of_context = attngraph_extract(reentry->context, &q, &q, NULL, &result);
  reentry->of_sink = attngraph_sink_finish(reentry->sink);
  return 0;
}

void c_words_of_every_status(const char* folder) {
  int status;
  (void)folder;
  for (status = 0; status <= ATTNGRAPH_ERROR_INTERNAL + 1; ++status) {
    const char* name = attngraph_status_name((attngraph_status)status);
    const char* phrase = attngraph_status_phrase((attngraph_status)status);
    C_CHECK(name != NULL && strncmp(name, "ATTNGRAPH_", 10) == 0);
    C_CHECK(phrase != NULL && phrase[0] != '\0');
  }
  C_CHECK(strcmp(attngraph_status_name(ATTNGRAPH_OK), "ATTNGRAPH_OK") == 0);
  C_CHECK(strcmp(attngraph_status_name(ATTNGRAPH_ERROR_SHAPE), "ATTNGRAPH_ERROR_SHAPE") == 0);
  C_CHECK(strcmp(attngraph_status_name(ATTNGRAPH_ERROR_INTERNAL), "ATTNGRAPH_ERROR_INTERNAL") == 0);
  C_CHECK(strcmp(attngraph_status_phrase(ATTNGRAPH_ERROR_SHAPE), "shapes do not fit together") == 0);
}

/* An extraction whose options and tensors `spoil` made wrong must answer `expected` and leave the result alone. */
#define EXPECT_OF_EXTRACT(expected, spoil)                                     \
  do {                                                                         \
    attngraph_tensor q = tensor_of(data, ATTNGRAPH_F32);                       \
    attngraph_tensor k = tensor_of(data, ATTNGRAPH_F32);                       \
    attngraph_options options = ATTNGRAPH_OPTIONS_INIT;                        \
    attngraph_result* const untouched = (attngraph_result*)&options;           \
    attngraph_result* result = untouched;                                      \
    spoil;                                                                     \
    C_STATUS(expected, attngraph_extract(context, &q, &k, &options, &result)); \
    C_CHECK(result == untouched);                                              \
    C_CHECK(attngraph_last_error()[0] != '\0');                                \
  } while (0)

static void reach_from_extract(attngraph_context* context) {
  static const int64_t three_keys[4] = {1, 3, 2, 2};
  static float with_nan[4] = {1, 0, 0, 1};
  static double huge[4] = {1e300, 1e300, 1e300, 1e300};
  with_nan[2] = NAN;
  EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_ARGUMENT, options.threshold = 1.5);
  EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_SHAPE, k.shape = three_keys);
  EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_DTYPE, k.dtype = ATTNGRAPH_I32);
  EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_NONFINITE, k.data = with_nan);
  EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_RANGE, (q.data = k.data = huge, q.dtype = k.dtype = ATTNGRAPH_F64));
  EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_UNSUPPORTED, q.device_type = ATTNGRAPH_DEVICE_CUDA);
  EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_LIMIT, options.max_edges = 1);
  EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_CANCELLED, options.cancelled = always);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  {
    /* Strides of 0: 2^59 heads that all read one number, whose list alone is 2^62 bytes. */
    static const int64_t huge_heads[4] = {1, INT64_C(1) << 59, 1, 1}, one_head[4] = {1, 1, 1, 1}, still[4] = {0};
    EXPECT_OF_EXTRACT(ATTNGRAPH_ERROR_OUT_OF_MEMORY,
                      (q.shape = huge_heads, q.strides = k.strides = still, k.shape = one_head));
  }
#endif
}

static void reach_from_files(attngraph_context* context, const char* folder) {
  attngraph_file* file = NULL;
  attngraph_sink* sink = NULL;
  attngraph_tensor tensor;
  char path[512];
  FILE* out;
  (void)context;
  snprintf(path, sizeof path, "%sbroken.npy", folder);
  out = fopen(path, "wb");
  C_CHECK(out != NULL);
  if (out == NULL) return;
  fputs("\x93NUMPY\x01", out);
  fclose(out);
  C_STATUS(ATTNGRAPH_ERROR_FORMAT, attngraph_file_open(path, &file));
  snprintf(path, sizeof path, "%smissing.npy", folder);
  C_STATUS(ATTNGRAPH_ERROR_NOT_FOUND, attngraph_file_open(path, &file));
  C_CHECK(file == NULL);
  memset(&tensor, 0x5A, sizeof tensor);
  C_OK(attngraph_file_open(ATTNGRAPH_SOURCE_DIR "/data/genesis-1k.safetensors", &file));
  C_STATUS(ATTNGRAPH_ERROR_NOT_FOUND, attngraph_file_tensor_info(file, "q.99", &tensor));
  C_STATUS(ATTNGRAPH_ERROR_NOT_FOUND, attngraph_file_tensor(file, "q.99", &tensor));
  C_CHECK(tensor.ndim == 0x5A5A5A5A);
  attngraph_file_destroy(file);

  snprintf(path, sizeof path, "%sis-a-folder.csv/", folder);
  C_CHECK(attngraph_sink_create_file(&sink, path, "csv", NULL) != ATTNGRAPH_OK);
  C_CHECK(sink == NULL);
}

void c_reaches_every_status(const char* folder) {
  attngraph_context* context = NULL;
  attngraph_context* other = NULL;
  attngraph_tensor q = tensor_of(data, ATTNGRAPH_F32);
  attngraph_options options = ATTNGRAPH_OPTIONS_INIT;
  Reentry reentry = {NULL, NULL, ATTNGRAPH_OK, ATTNGRAPH_OK};

  C_OK(attngraph_context_create(&context, "cpu"));
  reach_from_extract(context);
  reach_from_files(context, folder);

  C_STATUS(ATTNGRAPH_ERROR_NO_DEVICE, attngraph_context_create(&other, "cuda:4095"));
  C_CHECK(other == NULL);

  reentry.context = context;
  options.backend = "reference";
  C_OK(attngraph_sink_create_callback(&reentry.sink, calls_back, &reentry));
  C_OK(attngraph_extract_to(context, &q, &q, &options, reentry.sink));
  C_CHECK(reentry.of_context == ATTNGRAPH_ERROR_BUSY);
  C_CHECK(reentry.of_sink == ATTNGRAPH_ERROR_BUSY);
  C_OK(attngraph_sink_finish(reentry.sink));
  attngraph_sink_destroy(reentry.sink);
  attngraph_context_destroy(context);
}
