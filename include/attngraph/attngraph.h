/* SPDX-License-Identifier: Apache-2.0 */
/**
 * attngraph: attention as a graph. The C contract of libattngraph.
 *
 * Query i attends to key j with weight softmax(scale * Q K^T)[i, j]. The library writes every pair (i, j) whose weight
 * reaches a threshold, as edges i -> j in CSR form, with statistics of every row, and never stores the Nq x Nk matrix.
 *
 * Letters: B batch, Hq and Hkv heads, Nq queries, Nk keys, D head size, R rows, E edges.
 *
 * Memory: whatever a *_create, *_open, *_load, *_extract or *_take call hands out belongs to the caller, who gives it
 * to the matching *_destroy (strings: attngraph_string_free). Pointers inside a view struct belong to the object asked
 * and live as long as it does. Inputs are read in place and never written. Errors: every call that can fail returns a
 * status; ATTNGRAPH_OK is 0. attngraph_last_error() is the sentence for this thread's latest failure. On failure
 * outputs are left as they were. The library never prints, aborts or exits. Threads: one context, session, sink or
 * result per thread at a time; separate objects are independent. One of the first three in use answers
 * ATTNGRAPH_ERROR_BUSY. The caller's rounding mode and flush-to-zero settings neither matter nor change. Growth:
 * structs that a caller fills begin with struct_size, set by their _INIT macro; fields are only ever added at the end.
 * What a shorter struct lacks takes its default; what a longer one adds must be zero.
 */
#ifndef ATTNGRAPH_H
#define ATTNGRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"
#include "version.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------------------------------------------------------
 * status */

typedef enum attngraph_status {
  ATTNGRAPH_OK = 0,
  ATTNGRAPH_ERROR_ARGUMENT = 1,       /* a value that no call accepts */
  ATTNGRAPH_ERROR_SHAPE = 2,          /* shapes that do not fit together */
  ATTNGRAPH_ERROR_DTYPE = 3,          /* an element type that is not supported here */
  ATTNGRAPH_ERROR_NONFINITE = 4,      /* NaN or infinity in the data */
  ATTNGRAPH_ERROR_RANGE = 5,          /* finite data, but scores beyond what can be computed */
  ATTNGRAPH_ERROR_FORMAT = 6,         /* a broken file */
  ATTNGRAPH_ERROR_UNSUPPORTED = 7,    /* valid, but not supported */
  ATTNGRAPH_ERROR_NOT_FOUND = 8,      /* a file, tensor, slice or key that is not there */
  ATTNGRAPH_ERROR_LIMIT = 9,          /* a limit: the caller's, with the number needed, or that of 64-bit sizes */
  ATTNGRAPH_ERROR_CAPACITY = 10,      /* a buffer too small, with the size needed */
  ATTNGRAPH_ERROR_OUT_OF_MEMORY = 11, /* host memory */
  ATTNGRAPH_ERROR_DEVICE_OUT_OF_MEMORY = 12, /* device memory */
  ATTNGRAPH_ERROR_NO_DEVICE = 13,            /* the backend asked for cannot run on this machine */
  ATTNGRAPH_ERROR_DEVICE_LOST = 14,          /* the device failed; make a new context */
  ATTNGRAPH_ERROR_FORKED = 15,               /* a device context used after fork() */
  ATTNGRAPH_ERROR_IO = 16,                   /* reading or writing failed */
  ATTNGRAPH_ERROR_NO_SPACE = 17,             /* no space left on the disk */
  ATTNGRAPH_ERROR_CANCELLED = 18,            /* the caller's `cancelled` said so */
  ATTNGRAPH_ERROR_BUSY = 19,                 /* the object is in use by another thread */
  ATTNGRAPH_ERROR_INTERNAL = 20              /* a bug in the library; please report the message */
} attngraph_status;

/** "ATTNGRAPH_ERROR_SHAPE" and so on; never NULL. */
ATTNGRAPH_API const char* attngraph_status_name(attngraph_status status);
/** A phrase for people: "shapes do not fit together"; never NULL. */
ATTNGRAPH_API const char* attngraph_status_phrase(attngraph_status status);
/** What failed last in this thread: what, where, the limit, the remedy. "" when nothing has. Valid until the thread's
 * next failure. */
ATTNGRAPH_API const char* attngraph_last_error(void);
/** "0.1.0". */
ATTNGRAPH_API const char* attngraph_version(void);
/** ATTNGRAPH_ABI_VERSION of the library that is loaded. */
ATTNGRAPH_API int32_t attngraph_abi_version(void);
/** Give back a string that the library handed out. NULL is fine. */
ATTNGRAPH_API void attngraph_string_free(char* text);

/* ----------------------------------------------------------------------------------------------------------------
 * tensors */

typedef enum attngraph_dtype {
  ATTNGRAPH_F64 = 1,
  ATTNGRAPH_F32 = 2,
  ATTNGRAPH_F16 = 3,
  ATTNGRAPH_BF16 = 4,
  ATTNGRAPH_BOOL = 5, /* one byte; any value but 0 is true */
  ATTNGRAPH_I32 = 6,
  ATTNGRAPH_I64 = 7
} attngraph_dtype;

/** "f64", "bf16", ...; NULL when there is no such dtype. */
ATTNGRAPH_API const char* attngraph_dtype_name(int32_t dtype);
/** Bytes of an element; 0 when there is no such dtype. */
ATTNGRAPH_API size_t attngraph_dtype_size(int32_t dtype);

typedef enum attngraph_device_type {
  ATTNGRAPH_DEVICE_CPU = 1,
  ATTNGRAPH_DEVICE_CUDA = 2
} attngraph_device_type; /* as in DLPack */

/** A view of memory that the caller owns. Strides count elements, may be 0 or negative; NULL means row-major. At most 8
 * dimensions. Device memory is read by the CUDA backends alone, in place; all of a call must be on one device, and may
 * be mixed with host memory. */
typedef struct attngraph_tensor {
  const void* data;
  int32_t device_type; /* attngraph_device_type */
  int32_t device_id;
  int32_t dtype; /* attngraph_dtype */
  int32_t ndim;
  const int64_t* shape;   /* [ndim] */
  const int64_t* strides; /* [ndim] or NULL */
} attngraph_tensor;

/* ----------------------------------------------------------------------------------------------------------------
 * request */

/* FAST: working precision: every pair with |ln(w / threshold)| > eps is decided right; eps is in the report.
 * CERTIFIED: the edges are exactly those of the definition for the stored inputs, whatever selects, ties included: the
 * same on every backend, instruction set and number of threads. Pairs inside the band of FAST are decided again on the
 * host, in double and then in numbers as long as it takes; weights and statistics are those of FAST. With Q, K and
 * what goes with them in host memory; ERROR_UNSUPPORTED otherwise. A ready matrix is decided exactly either way.
 */
typedef enum attngraph_decision { ATTNGRAPH_DECISION_FAST = 0, ATTNGRAPH_DECISION_CERTIFIED = 1 } attngraph_decision;

typedef enum attngraph_lse_base { ATTNGRAPH_LSE_BASE_E = 0, ATTNGRAPH_LSE_BASE_2 = 1 } attngraph_lse_base;

/* How the CPU multiplies queries and keys. AUTO: by pairs of bf16 (AVX512_BF16, AMX) where the processor has it and the
 * input's type gains by it. FLOAT: in float always. Either decides every pair outside the band right. */
typedef enum attngraph_products { ATTNGRAPH_PRODUCTS_AUTO = 0, ATTNGRAPH_PRODUCTS_FLOAT = 1 } attngraph_products;

/* ERROR: NaN or infinity in Q, K or the matrix fails the call and is located in the message. SKIP: such a key is
 * masked, such a query has no edges, such a weight is no edge; all are counted. */
typedef enum attngraph_nonfinite { ATTNGRAPH_NONFINITE_ERROR = 0, ATTNGRAPH_NONFINITE_SKIP = 1 } attngraph_nonfinite;

/* Statistics to compute beside the edges; a bit set. Row statistics (logsumexp, maximum, kept mass) are always there.
 * ENTROPY: of every row, in nats; the same pass. COLUMNS: attention received by every key, summed over the queries;
 * DISTANCES: attention mass at every distance (query + query_offset - key); both take a second pass over the scores. */
#define ATTNGRAPH_STATS_ENTROPY 1u
#define ATTNGRAPH_STATS_COLUMNS 2u
#define ATTNGRAPH_STATS_DISTANCES 4u
/* TOKENS: attention on keys that the tokens single out (induction, duplicate, same word), which attngraph_result_heads
 * answers; the tokens are those of token_ids and word_ids, or the sink's. HEADS: all that attngraph_result_heads
 * answers without them. */
#define ATTNGRAPH_STATS_TOKENS 8u
#define ATTNGRAPH_STATS_HEADS 7u

/* query_offset: query i stands at key position i + query_offset. The named default puts the last query at the last key.
 */
#define ATTNGRAPH_ALIGN_BOTTOM_RIGHT INT64_MIN

typedef struct attngraph_options {
  size_t struct_size;

  /* What is an edge. The conditions given hold together; ties in weight go to the smaller key. */
  double threshold;    /* weight >= threshold. Q/K: in (0, 1], or 0 when top_k or mass selects, or with allow_dense.
                          Matrix: >= 0 */
  int64_t top_k;       /* at most this many of the heaviest keys of a query; 0: no such condition */
  double mass;         /* the fewest of the heaviest keys that weigh at least this, in (0, 1]; 0: no such condition */
  uint64_t max_edges;  /* more edges than this in one call fail with ATTNGRAPH_ERROR_LIMIT and the number needed; 0: no
                          limit */
  int32_t allow_dense; /* 1: threshold 0 may write every allowed pair of Q/K */
  int32_t decision;    /* attngraph_decision */

  /* The scores: s = scale * q . k; softcap * tanh(s / softcap) when softcap > 0; then alibi and the additive mask. */
  double scale;   /* NaN: 1 / sqrt(D) */
  double softcap; /* 0: none */

  /* Which keys a query may see. All given rules hold together. */
  int32_t causal;       /* 1: key <= query + query_offset */
  int32_t nonfinite;    /* attngraph_nonfinite */
  int64_t query_offset; /* or ATTNGRAPH_ALIGN_BOTTOM_RIGHT: Nk - Nq */
  int64_t window;       /* 0: none. query + query_offset - key < window, and without causal also its mirror image */
  const int64_t* key_lengths;   /* [B]: keys at and after the length do not exist (padding); NULL: all exist */
  const attngraph_tensor* mask; /* [B, Hq, Nq, Nk], leading dimensions may be 1 or absent: bool (true keeps) or additive
                                   float in natural-log units; -inf and the dtype's lowest finite value mask the key */
  const attngraph_tensor* sinks; /* [Hq] or [B, Hq]: one more logit per head in the denominator, natural-log units */
  const attngraph_tensor* lse;   /* [B, Hq, Nq]: logsumexp known already (sinks included), infinite for a row without
                                    keys; then one pass thresholds only. Not with sinks */
  int32_t lse_base;              /* attngraph_lse_base */
  uint32_t stats;                /* ATTNGRAPH_STATS_* */

  /* Which part. */
  int64_t query_begin, query_end; /* rows [query_begin, query_end) of Nq; both 0: all. Positions stay global */
  const int64_t* heads;           /* query heads to compute, ascending; NULL: all */
  int64_t head_count;
  int64_t layer; /* label of the slices of this call */

  /* How. */
  const char* backend; /* "reference", "cpu", "cuda_materialised", "cuda_streaming"; NULL: the best of the context's
                          device */
  int32_t threads;     /* 0: as many as this process may use. Results do not depend on it */
  int32_t products;    /* attngraph_products */
  void* stream;        /* CUDA stream: the call's work begins after what is queued on it; NULL: the default one. The
                          call itself waits until its work is done */

  /* Long work: both may be NULL and are called from the calling thread only, at least every 50 ms. */
  int (*cancelled)(void* user);                  /* not 0: stop with ATTNGRAPH_ERROR_CANCELLED */
  void (*progress)(void* user, double fraction); /* fraction of this call in [0, 1] */
  void* user;

  size_t workspace_bytes; /* CUDA: device memory beside inputs and answer, on each device; 0: an eighth of it, at most
                             2 GiB */

  /* For ATTNGRAPH_STATS_TOKENS: [Nk] or [B, Nk] of i32 or i64 in host memory, one for every key; negative: none. A
   * query has the token of the key position where it stands. Q and K must be in host memory too. */
  const attngraph_tensor* token_ids; /* NULL: by the texts of the sink's tokens, equal texts being equal tokens */
  const attngraph_tensor* word_ids;  /* NULL: by those texts, where they are known; see attngraph_words */

  /* [Hq] or [B, Hq], in host memory: attention with linear biases (ALiBi). Each head's slope m takes
   * m * |query + query_offset - key| from the scores, in natural-log units; see attngraph_alibi_slopes. Positions of
   * queries and keys stay below 2^30, biases below 1e12. */
  const attngraph_tensor* alibi; /* NULL: none */
} attngraph_options;

#define ATTNGRAPH_OPTIONS_INIT                                                                                        \
  {                                                                                                                   \
    sizeof(attngraph_options), 0.05, 0, 0.0, 0, 0, ATTNGRAPH_DECISION_FAST, ATTNGRAPH_NAN_, 0.0, 0,                   \
        ATTNGRAPH_NONFINITE_ERROR, ATTNGRAPH_ALIGN_BOTTOM_RIGHT, 0, NULL, NULL, NULL, NULL, ATTNGRAPH_LSE_BASE_E, 0u, \
        0, 0, NULL, 0, 0, NULL, 0, ATTNGRAPH_PRODUCTS_AUTO, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL               \
  }
#define ATTNGRAPH_NAN_ (__builtin_nan(""))

/** Write the defaults that ATTNGRAPH_OPTIONS_INIT holds: threshold 0.05, scale 1/sqrt(D), no mask. For callers without
 * C macros. */
ATTNGRAPH_API void attngraph_options_init(attngraph_options* options);

/** The slopes that models with ALiBi use (Press et al. 2021; BLOOM, MPT, llama.cpp): of H heads, H a power of two,
 * 2^(-max_bias h / H) for h = 1 to H; otherwise those of the largest power of two below H, then every other one of
 * twice as many.
 * @param max_bias  8, unless the model says otherwise (GGUF: attention.max_alibi_bias)
 * @param slopes    room for `heads` of them */
ATTNGRAPH_API attngraph_status attngraph_alibi_slopes(int64_t heads, double max_bias, double* slopes);

/* ----------------------------------------------------------------------------------------------------------------
 * context */

typedef struct attngraph_context attngraph_context;
typedef struct attngraph_result attngraph_result;
typedef struct attngraph_device_result attngraph_device_result;
typedef struct attngraph_sink attngraph_sink;
typedef struct attngraph_file attngraph_file;
typedef struct attngraph_session attngraph_session;

/** @param device "auto" (whichever of CPU and CUDA is expected to answer a call first, which attngraph_explain tells;
 * when a CUDA device fails before the first row, the CPU answers, and the report has a note), "cpu", "cuda" (all
 * devices that the process sees share the heads), "cuda:N". Inputs in device memory are worked on where they are.
 * ATTNGRAPH_ERROR_NO_DEVICE says why one cannot be had. */
ATTNGRAPH_API attngraph_status attngraph_context_create(attngraph_context** context, const char* device);
ATTNGRAPH_API void attngraph_context_destroy(attngraph_context* context);

/** Number of backends this library knows, available or not. */
ATTNGRAPH_API int32_t attngraph_backend_count(void);
/** Name of backend i in order of meaning, "reference" first; NULL when i is out of range. */
ATTNGRAPH_API const char* attngraph_backend_name(int32_t i);
/** NULL when backend i works on this machine; otherwise the reason why not. Valid for the life of the process. */
ATTNGRAPH_API const char* attngraph_backend_unavailable(int32_t i);
/** What this machine is to backend i, one line: instruction set, cores, caches. Valid for the life of the process. */
ATTNGRAPH_API const char* attngraph_backend_device(int32_t i);

/* ----------------------------------------------------------------------------------------------------------------
 * extract */

/**
 * Write the edges i -> j whose softmax weight reaches the threshold.
 *
 * @param q        [B, Hq, Nq, D] f32, f16, bf16 or f64; [Hq, Nq, D] and [Nq, D] mean B = 1 and Hq = 1. D from 1 to 512
 * @param k        [B, Hkv, Nk, D] of the same dtype; Hq is a multiple of Hkv: query head h reads key head h / (Hq /
 * Hkv)
 * @param options  NULL: the defaults
 * @param result   slices (batch, layer, head) in that order; keys ascending within a row; weights are probabilities,
 * f32
 * @return ATTNGRAPH_OK; ARGUMENT, SHAPE or DTYPE before any work starts; NONFINITE, RANGE, LIMIT, OUT_OF_MEMORY,
 * CANCELLED, BUSY
 *
 * A row whose keys are all masked has no edges. Waits until the work is done. The online softmax is
 * that of Milakov & Gimelshein 2018, algorithm 3.
 */
ATTNGRAPH_API attngraph_status attngraph_extract(attngraph_context* context, const attngraph_tensor* q,
                                                 const attngraph_tensor* k, const attngraph_options* options,
                                                 attngraph_result** result);
/** As attngraph_extract, but rows go to the sink as they are finished, in order: the answer may be larger than memory.
 */
ATTNGRAPH_API attngraph_status attngraph_extract_to(attngraph_context* context, const attngraph_tensor* q,
                                                    const attngraph_tensor* k, const attngraph_options* options,
                                                    attngraph_sink* sink);

/**
 * Write the pairs of a ready attention matrix whose weight reaches the threshold.
 *
 * @param weights  [B, H, Nq, Nk], [H, Nq, Nk] or [Nq, Nk] in f64, f32, f16 or bf16; rows need not be normalised
 * @param result   weights keep their value: f64 for an f64 matrix, f32 otherwise
 *
 * The comparison is exact in the stored values promoted to double. Threshold 0 keeps every allowed pair. Row
 * statistics: logsumexp is the logarithm of the row's sum, maximum the heaviest weight, entropy -sum w ln w. scale,
 * softcap, sinks and lse do not apply.
 */
ATTNGRAPH_API attngraph_status attngraph_filter_matrix(attngraph_context* context, const attngraph_tensor* weights,
                                                       const attngraph_options* options, attngraph_result** result);
ATTNGRAPH_API attngraph_status attngraph_filter_matrix_to(attngraph_context* context, const attngraph_tensor* weights,
                                                          const attngraph_options* options, attngraph_sink* sink);

/** As attngraph_extract, but the edges stay in the memory of a CUDA device: that of the inputs, or the context's first.
 * When options name a stream, they are ready for work that is queued on it after the call, which does not wait for
 * them; otherwise they are ready when the call returns. ATTNGRAPH_ERROR_UNSUPPORTED for backends that have none. */
ATTNGRAPH_API attngraph_status attngraph_extract_on_device(attngraph_context* context, const attngraph_tensor* q,
                                                           const attngraph_tensor* k, const attngraph_options* options,
                                                           attngraph_device_result** result);

/**
 * Write the softmax weight of every pair, 0 for masked ones: the dense matrix, for comparison and for short sequences.
 * Backend cuda_materialised alone has it.
 *
 * @param weights  [B, Hq, Nq, Nk] f32, row-major, in host memory or on the device in use; the one tensor that a call
 *                 writes to. Rows and heads that the options leave out are not touched
 */
ATTNGRAPH_API attngraph_status attngraph_write_weights(attngraph_context* context, const attngraph_tensor* q,
                                                       const attngraph_tensor* k, const attngraph_options* options,
                                                       const attngraph_tensor* weights);

/** How attngraph_extract would do it (k given) or attngraph_filter_matrix (k NULL): backend, tiles, threads, memory.
 * Nothing runs and no tensor is read: data may be NULL. Give the text to attngraph_string_free. */
ATTNGRAPH_API attngraph_status attngraph_explain(attngraph_context* context, const attngraph_tensor* q,
                                                 const attngraph_tensor* k, const attngraph_options* options,
                                                 char** text);

/** A part of a problem that any process can do alone: some query heads of all sequences of the batch, a range of
 * queries. Set `heads`, `head_count`, `query_begin` and `query_end` of the options to it, and extract; the parts,
 * joined in order by attngraph_results_join, are the whole answer, its edges and rows bit for bit. Sums over queries
 * are added in another order where a head is cut into ranges. */
typedef struct attngraph_task {
  int64_t layer;
  int64_t head_begin, head_end; /* of the heads that the options choose: their positions in `heads`; without `heads`
                                   the heads themselves */
  int64_t query_begin, query_end;
  int64_t pairs; /* (query, key) that causal, window and key_lengths leave of it: what it costs */
} attngraph_task;

/**
 * Cut a problem into tasks of about pairs_per_task, in the order of the answer. The list depends on shapes and options
 * alone, so every process that asks has the same. Nothing runs and no tensor is read: data may be NULL.
 *
 * The query heads of one key head stay together, and ranges of queries begin at multiples of 384.
 *
 * @param tasks     room for `capacity` tasks; NULL with capacity 0: they are counted only
 * @param count     how many there are
 * @return CAPACITY when there is less room; LIMIT when there would be more than 2^22
 */
ATTNGRAPH_API attngraph_status attngraph_plan_tasks(const attngraph_tensor* q, const attngraph_tensor* k,
                                                    const attngraph_options* options, int64_t pairs_per_task,
                                                    attngraph_task* tasks, int64_t capacity, int64_t* count);

/* ----------------------------------------------------------------------------------------------------------------
 * results */

/** One slice as CSR, zero copy. offsets[0] == 0, offsets[query_count] == edge_count; row r is query query_begin + r. */
typedef struct attngraph_csr {
  int64_t batch, layer, head;
  int64_t query_begin, query_count, key_count, edge_count;
  const int64_t* offsets; /* [query_count + 1] */
  const int32_t* keys;    /* [edge_count], ascending within a row */
  const void* weights;    /* [edge_count] of weight_dtype */
  int32_t weight_dtype;   /* ATTNGRAPH_F32 or ATTNGRAPH_F64 */
} attngraph_csr;

/** Statistics of the rows of one slice; each array [query_count]. */
typedef struct attngraph_rows {
  const double* logsumexp; /* natural logarithm, sinks included; a row without keys: its sink, or -inf */
  const double* maximum;   /* largest score (matrix: weight); -inf for a row without keys */
  const int32_t* max_key;  /* its key, the smallest among equals; -1 for a row without keys */
  const double* kept_mass; /* sum of the weights of the row's edges */
  const double* entropy;   /* nats; NaN unless ATTNGRAPH_STATS_ENTROPY was asked for */
} attngraph_rows;

/** Sums over the queries of one slice, from every weight, edge or not. Empty unless asked for. */
typedef struct attngraph_columns {
  const double* received;  /* [key_count] or NULL: attention received by every key */
  const double* distances; /* [distance_count] or NULL: attention mass at distance distance_begin + d */
  int64_t distance_begin;  /* smallest distance (query + query_offset - key); negative when keys ahead are visible */
  int64_t distance_count;
} attngraph_columns;

/** How the answer was made, over all calls that went into it. */
typedef struct attngraph_report {
  double eps;                 /* pairs with |ln(w / threshold)| > eps were decided right; 0: all were; NaN: not known,
                                 because edges came from a table or from the caller */
  int64_t borderline;         /* pairs inside the band; certified: those that were decided again; -1: not known */
  int64_t empty_rows;         /* rows without an allowed key */
  int64_t rows_fp64;          /* rows computed in double because single could not hold the band */
  int64_t skipped_nonfinite;  /* keys, queries and weights left out under ATTNGRAPH_NONFINITE_SKIP */
  double kept_mass;           /* mean over the rows that have keys; 0 without such rows */
  const char* backend;        /* all that answered, "cpu, cuda_streaming"; "" when not known */
  const char* target;         /* instruction set or device */
  int32_t threads;            /* of the CPU; 0 for CUDA */
  const char* note;           /* why another backend than the best one answered; "" when that did */
  int64_t rows_decided_again; /* certified: rows with pairs that were decided again */
  int64_t unresolved;         /* certified: decisions that 16384 bits do not tell, written as no edges; only a
                                 softcap can make one, and none is known */
} attngraph_report;

ATTNGRAPH_API void attngraph_result_destroy(attngraph_result* result);
ATTNGRAPH_API int64_t attngraph_result_slice_count(const attngraph_result* result);
ATTNGRAPH_API int64_t attngraph_result_edge_count(const attngraph_result* result);
ATTNGRAPH_API attngraph_status attngraph_result_csr(const attngraph_result* result, int64_t slice, attngraph_csr* csr);
ATTNGRAPH_API attngraph_status attngraph_result_rows(const attngraph_result* result, int64_t slice,
                                                     attngraph_rows* rows);
ATTNGRAPH_API attngraph_status attngraph_result_columns(const attngraph_result* result, int64_t slice,
                                                        attngraph_columns* columns);
ATTNGRAPH_API attngraph_status attngraph_result_report(const attngraph_result* result, attngraph_report* report);

/** One CSR over the rows of all slices, in the order (slice, query); pointers are the device's. */
typedef struct attngraph_device_csr {
  int32_t device_id;
  int64_t slice_count, row_count, edge_count;
  const int64_t* offsets; /* [row_count + 1], offsets[0] == 0 */
  const int32_t* keys;    /* [edge_count] ascending within a row */
  const float* weights;   /* [edge_count] */
} attngraph_device_csr;

/** The arrays belong to the result. They are complete where attngraph_extract_on_device says, and where
 * attngraph_device_result_wait has been called. */
ATTNGRAPH_API attngraph_status attngraph_device_result_csr(const attngraph_device_result* result,
                                                           attngraph_device_csr* csr);
/** Work that is queued on a stream of the result's device after this call sees complete arrays; nobody waits for them.
 *
 * @param stream  a cudaStream_t, cudaStreamLegacy or cudaStreamPerThread; NULL: the caller waits until they are
 */
ATTNGRAPH_API attngraph_status attngraph_device_result_wait(const attngraph_device_result* result, void* stream);
/** A copy in host memory, with row statistics, report and facts as attngraph_extract would have made it. */
ATTNGRAPH_API attngraph_status attngraph_device_result_to_host(const attngraph_device_result* result,
                                                               attngraph_result** out);
ATTNGRAPH_API void attngraph_device_result_destroy(attngraph_device_result* result);

/** Query i stands at key position i + this. 0 when the graph does not say. */
ATTNGRAPH_API int64_t attngraph_result_query_offset(const attngraph_result* result);

/** The two ends of an edge. */
typedef enum attngraph_side { ATTNGRAPH_KEYS = 0, ATTNGRAPH_QUERIES = 1 } attngraph_side;

/** The word of key i, or of query i, of a sequence of the batch: bytes, UTF-8 by habit. NULL when it has none. Where
 * queries have no words of their own, that of query i is the word of the position where it stands. */
ATTNGRAPH_API const char* attngraph_result_label(const attngraph_result* result, int32_t side, int64_t batch, int64_t i,
                                                 size_t* length);
/** Lists of words of their own that keys, or queries, have: 0 none, 1 for all sequences, otherwise one for each. */
ATTNGRAPH_API int64_t attngraph_result_label_lists(const attngraph_result* result, int32_t side);
/** Words in the list of a sequence. */
ATTNGRAPH_API int64_t attngraph_result_label_count(const attngraph_result* result, int32_t side, int64_t batch);
/** 1 when queries and keys are different things, as in cross attention: queries have words of their own, or the fact
 * `attention` is `cross`. Drawings then have nodes for each side. */
ATTNGRAPH_API int32_t attngraph_result_two_sided(const attngraph_result* result);
/** The words of keys, of the first sequence. NULL when position i has none. */
ATTNGRAPH_API const char* attngraph_result_token(const attngraph_result* result, int64_t i, size_t* length);
ATTNGRAPH_API int64_t attngraph_result_token_count(const attngraph_result* result);
/** Facts that travel with a graph ("threshold", "scale", "model", ...); NULL when there is none of that name. */
ATTNGRAPH_API const char* attngraph_result_metadata(const attngraph_result* result, const char* name);
/** Name of fact i, in order of the names; NULL when i is out of range. */
ATTNGRAPH_API const char* attngraph_result_metadata_name(const attngraph_result* result, int64_t i);

/** One edge of a table; the layer of the columns `batch,layer,head,query,key,weight`. */
typedef struct attngraph_edge {
  int64_t batch, layer, head, query, key;
  double weight;
} attngraph_edge;

/** The n heaviest edges, heaviest first, ties in table order. @param edges room for n; @param count how many were
 * written */
ATTNGRAPH_API attngraph_status attngraph_result_top(const attngraph_result* result, int64_t n, attngraph_edge* edges,
                                                    int64_t* count);

/** One line of a sweep over thresholds. */
typedef struct attngraph_sweep_row {
  double threshold;
  int64_t edges;
  double kept_mass; /* mean over the rows that have keys; 0 without such rows */
  int64_t nodes;    /* (slice, position) pairs that are an end of at least one edge */
} attngraph_sweep_row;

/** Edges, kept mass and nodes for each threshold, in one pass; thresholds in any order. Thresholds up to the result's
 * own count what the result holds; above it softmax weights are compared as stored, in f32. */
ATTNGRAPH_API attngraph_status attngraph_result_sweep(const attngraph_result* result, const double* thresholds,
                                                      int64_t count, attngraph_sweep_row* rows);

/** Figures of one slice (or, with slice -1, of all). Between two sequences (cross attention) distances are NaN. */
typedef struct attngraph_summary {
  int64_t rows, edges, empty_rows; /* empty_rows: rows without an allowed key */
  int64_t rows_without_edges;      /* rows that have keys, but no edge */
  int64_t max_row_edges;
  double mean_row_edges;
  double kept_mass_mean, kept_mass_min; /* over rows that have keys; 0 without such rows */
  double weight_min, weight_max;        /* NaN without edges */
  double entropy_mean;                  /* NaN unless asked for */
  double
      mean_distance; /* of position - key over edges, weighted; position is query + query_offset; NaN without edges */
  double self_share, previous_share, first_share; /* of edge weight on key == position, key == position - 1, key == 0 */
} attngraph_summary;

ATTNGRAPH_API attngraph_status attngraph_result_summary(const attngraph_result* result, int64_t slice,
                                                        attngraph_summary* summary);

/** One slice in figures of all its attention, not of its edges. Shares: of softmax weights, mass over the number of
 * queries that have keys; of a ready matrix, mass over the sum of its weights. NaN: what a figure is made from was not
 * asked for when the graph was made (it says which statistic), or means nothing between two sequences. */
typedef struct attngraph_head {
  int64_t batch, layer, head;
  int64_t queries; /* that have keys */
  int64_t edges;
  double kept_mass;         /* mean over those queries */
  double entropy;           /* likewise, nats. ENTROPY */
  double self_share;        /* on the query's own position. DISTANCES */
  double previous_share;    /* on the position before it. DISTANCES */
  double window_share;      /* on keys at a distance below the window, on either side. DISTANCES */
  double mean_distance;     /* of |position - key|. DISTANCES */
  double first_share;       /* on key 0. COLUMNS */
  int64_t heaviest_key;     /* the key that receives most attention; -1: not known. COLUMNS */
  double heaviest_share;    /* what it receives. COLUMNS */
  double punctuation_share; /* on keys whose token is punctuation. COLUMNS, and tokens */
  double induction_share;   /* on the key after an earlier copy of the query's token. TOKENS */
  double duplicate_share;   /* on other copies of the query's token. TOKENS */
  double same_word_share;   /* on other tokens of the query's word. TOKENS, with word_ids or tokens */
} attngraph_head;

/** The table of heads. @param window at least 1 @param heads room for one line per slice, in their order */
ATTNGRAPH_API attngraph_status attngraph_result_heads(const attngraph_result* result, int64_t window,
                                                      attngraph_head* heads);

/** The number of the word that every token of the result belongs to, ascending from 0: a word begins at a token that
 * begins with white space (or what stands for it), or follows one that ends with it; where "##" marks continuations, at
 * every other token; where nothing marks words, at every token. Special tokens are words of their own.
 * @param words room for attngraph_result_token_count */
ATTNGRAPH_API attngraph_status attngraph_result_words(const attngraph_result* result, int64_t* words);

/** Where the graphs that are joined stand in the whole, and what labels it. */
typedef struct attngraph_join {
  size_t struct_size;
  const int64_t* query_begins; /* [count] query i of graph n is query_begins[n] + i of the whole; NULL: 0 */
  const int64_t* key_begins;   /* [count] likewise for keys */
  const char* const* tokens;   /* one for every key of the whole; NULL: those of the last graph that has any */
  const size_t* token_lengths; /* NULL: C strings */
  int64_t token_count;
  const char* const* fact_names; /* [fact_count] facts that replace or add to those of the first graph */
  const char* const* fact_values;
  int64_t fact_count;
} attngraph_join;
#define ATTNGRAPH_JOIN_INIT \
  { sizeof(attngraph_join), NULL, NULL, NULL, NULL, 0, NULL, NULL, 0 }

/**
 * One graph out of several: layers, query ranges, a prefill and the decoding steps after it.
 *
 * Slices of the same (batch, layer, head) become one, their query ranges one after the other, with as many keys as the
 * longest. Reports add up: the largest eps, the sum of the borderline pairs, all backends. Sums over queries add up
 * where all parts have them. ATTNGRAPH_ERROR_SHAPE when query ranges overlap or leave a gap.
 *
 * @param how  NULL: as they are
 */
ATTNGRAPH_API attngraph_status attngraph_results_join(const attngraph_result* const* results, int64_t count,
                                                      const attngraph_join* how, attngraph_result** out);

/* What a cell of a grid says: its heaviest edge (at least 0); the mean over the pairs that it covers, where a pair that
 * is no edge counts as 0; the sum of its edges. */
typedef enum attngraph_bin_value {
  ATTNGRAPH_BIN_MAX = 0,
  ATTNGRAPH_BIN_MEAN = 1,
  ATTNGRAPH_BIN_SUM = 2
} attngraph_bin_value;

/** A window of one slice as a grid, for pictures. Position p of the n in the window is in cell p * cells / n. */
typedef struct attngraph_bins {
  size_t struct_size;
  int64_t rows, columns;          /* of the grid; each at least 1, together at most 2^28 cells */
  int64_t query_begin, query_end; /* queries in the window; both 0: all of the slice */
  int64_t key_begin, key_end;     /* keys in the window; both 0: all */
  int32_t value;                  /* attngraph_bin_value */
} attngraph_bins;
#define ATTNGRAPH_BINS_INIT \
  { sizeof(attngraph_bins), 0, 0, 0, 0, 0, 0, ATTNGRAPH_BIN_MAX }

/** Write rows * columns cells, row-major, queries down and keys across; 0 where there is no edge. @param cells room for
 * them */
ATTNGRAPH_API attngraph_status attngraph_result_bins(const attngraph_result* result, int64_t slice,
                                                     const attngraph_bins* bins, double* cells);

/** What sets two graphs apart. An edge in one only whose weight is within band (relative) of its threshold is not a
 * difference. */
typedef struct attngraph_difference {
  int64_t edges_a, edges_b;
  int64_t only_a, only_b; /* edges outside the band in one graph only */
  int64_t inside_band;    /* edges in one graph only, but within the band of the larger threshold */
  int64_t common;
  double max_weight_difference; /* relative, over common edges */
  int64_t slices_only_a, slices_only_b;
  attngraph_edge first; /* first edge that differs, when only_a + only_b > 0 */
  int32_t first_in_a;   /* 1: `first` is in a only */
} attngraph_difference;

ATTNGRAPH_API attngraph_status attngraph_result_diff(const attngraph_result* a, const attngraph_result* b, double band,
                                                     attngraph_difference* difference);

/** A part of a graph; the conditions given hold together. */
typedef struct attngraph_part {
  size_t struct_size;
  double threshold; /* weight >= threshold */
  int64_t top_k;    /* per query; 0: all */
  const int64_t* layers;
  int64_t layer_count; /* 0: all */
  const int64_t* heads;
  int64_t head_count;                 /* 0: all */
  const int64_t* layer_heads;         /* [2 * layer_head_count]: layer, head, layer, head, ... */
  int64_t layer_head_count;           /* 0: all */
  int64_t query_begin, query_end;     /* queries [begin, end); both 0: all. The rows of the others are left out */
  int64_t key_begin, key_end;         /* keys [begin, end); both 0: all */
  int64_t distance_min, distance_max; /* of query + query_offset - key, both included */
  const int64_t* query_positions;     /* where a query may stand (two-sided: queries); other rows stay, without edges */
  int64_t query_position_count;       /* 0: all */
  const int64_t* key_positions;
  int64_t key_position_count; /* 0: all */
} attngraph_part;
#define ATTNGRAPH_PART_INIT \
  { sizeof(attngraph_part), 0.0, 0, NULL, 0, NULL, 0, NULL, 0, 0, 0, 0, 0, INT64_MIN, INT64_MAX, NULL, 0, NULL, 0 }

/** Kept mass and counts are made anew. Sums over queries, which are of all attention, stay where no row is left out. */
ATTNGRAPH_API attngraph_status attngraph_result_part(const attngraph_result* result, const attngraph_part* part,
                                                     attngraph_result** out);
/** The n heaviest edges of a part, as attngraph_result_top. */
ATTNGRAPH_API attngraph_status attngraph_result_top_of(const attngraph_result* result, const attngraph_part* part,
                                                       int64_t n, attngraph_edge* edges, int64_t* count);

/* Positions in no span: refused, left out, or a span each. */
typedef enum attngraph_rest {
  ATTNGRAPH_REST_ERROR = 0,
  ATTNGRAPH_REST_DROP = 1,
  ATTNGRAPH_REST_OWN = 2
} attngraph_rest;

/** Spans of positions: words, sentences. */
typedef struct attngraph_group {
  size_t struct_size;
  const int64_t* begins; /* [count] first position of a span; spans ascend and do not overlap */
  const int64_t* ends;   /* [count] one past its last */
  int64_t count;
  int32_t rest;              /* attngraph_rest */
  const char* const* labels; /* [count]; NULL: the tokens of the span, one after the other, where there are tokens */
  const size_t* label_lengths;
} attngraph_group;
#define ATTNGRAPH_GROUP_INIT \
  { sizeof(attngraph_group), NULL, NULL, 0, ATTNGRAPH_REST_ERROR, NULL, NULL }

/**
 * The graph between spans: the weight of span -> span is the sum over the keys of the one, and the mean over the
 * queries of the other, of the kept weights (f64); so a row of whole softmax rows sums to 1, and 1 - kept mass is what
 * was not kept, below the threshold or on positions left out. Spans become the positions of the answer, in order. Rows
 * that have no keys do not count in a mean. Logsumexp, maximum and entropy of the answer are not known; sums over
 * queries are dropped.
 */
ATTNGRAPH_API attngraph_status attngraph_result_group(const attngraph_result* result, const attngraph_group* group,
                                                      attngraph_result** out);

/** How far one head is from itself in another graph, over the queries that both have with keys. Only kept weights are
 * known, so two bounds say where the figure of all attention lies; of softmax weights that were kept whole they meet.
 */
typedef struct attngraph_head_difference {
  int64_t batch, layer, head;
  int64_t queries; /* compared */
  int64_t edges_a, edges_b, common;
  double kept_a, kept_b;                 /* mean mass that the edges of these queries hold */
  double variation_min, variation_max;   /* total variation, in [0, 1], mean over the queries */
  double divergence_min, divergence_max; /* Jensen-Shannon, nats, in [0, ln 2], likewise */
} attngraph_head_difference;

/**
 * @param alignment  [alignment_count] the position in b of every position in a, ascending; -1: it has none there, and
 *                   attention on it has left. NULL: positions are the same
 * @param rows       room for the slices of a; the (batch, layer, head) that both graphs have, in order
 * @return SHAPE when a slice of one graph is in several query ranges (join it), or the graphs have no slice in common
 */
ATTNGRAPH_API attngraph_status attngraph_result_diff_heads(const attngraph_result* a, const attngraph_result* b,
                                                           const int64_t* alignment, int64_t alignment_count,
                                                           attngraph_head_difference* rows, int64_t* count);

/** A pair whose weight is another in another graph. */
typedef struct attngraph_moved {
  int64_t batch, layer, head;
  int64_t query, key;     /* in a; -1: the position is in b only */
  int64_t query_b, key_b; /* in b; -1: the position is in a only */
  double before, after;   /* NaN: no edge in a, in b: below the threshold there */
  double change;          /* after - before; where one is not known, the smallest change there can have been */
} attngraph_moved;

/** The n pairs that moved most, by |change|, ties in table order. Parameters as above; @param rows room for n */
ATTNGRAPH_API attngraph_status attngraph_result_diff_pairs(const attngraph_result* a, const attngraph_result* b,
                                                           const int64_t* alignment, int64_t alignment_count, int64_t n,
                                                           attngraph_moved* rows, int64_t* count);

/** The longest alignment of the tokens of a with those of b: equal texts, in order. @param positions room for the
 * tokens of a; the position in b of each, -1 for none. LIMIT when the texts differ in more than 5,000 places. */
ATTNGRAPH_API attngraph_status attngraph_results_align(const attngraph_result* a, const attngraph_result* b,
                                                       int64_t* positions);

/* ----------------------------------------------------------------------------------------------------------------
 * sessions */

/** Keys that come piece by piece, as a model decodes. */
typedef struct attngraph_session_options {
  size_t struct_size;
  int64_t window;   /* > 0: rows see keys nearer than this alone (attngraph_options.window), so that keys farther behind
                       the end may be dropped, after which no certified decision and no other backend than cpu can be
                       asked for; 0: all stay */
  int64_t capacity; /* make room for so many keys at once; 0: as they come */
  int32_t nonfinite; /* attngraph_nonfinite: of keys */
} attngraph_session_options;
#define ATTNGRAPH_SESSION_OPTIONS_INIT \
  { sizeof(attngraph_session_options), 0, 0, ATTNGRAPH_NONFINITE_ERROR }

typedef struct attngraph_session_info {
  int64_t keys;          /* appended so far */
  int64_t first_key;     /* keys before it were dropped */
  uint64_t bytes;        /* held for keys */
  uint64_t packed_bytes; /* written in packed form since the session began */
} attngraph_session_info;

/**
 * Keeps keys from call to call, packed as the CPU reads them: rows of a step then cost one look at every key, and no
 * packing. What rows are asked for equals, bit for bit, what attngraph_extract gives for them among all keys in one
 * call (edges, weights, row statistics; with decision certified the edges on every backend): the join of all steps is
 * the whole pass. Sums over queries (ATTNGRAPH_STATS_COLUMNS, _DISTANCES) alone are rounded in another order.
 *
 * Memory, of N keys in B x Hkv heads of D numbers: those as they were given, with room for half as many more, and one
 * packed copy in whole strips of 512 keys (f64: 256): 4 D bytes a key and head, 8 D for f64, 6 D for f32 where AMX is
 * used, 2 D for bf16, and for f16 where the processor widens it and AMX is not used; a second copy of 8 D bytes where
 * rows needed double. More than 2 MiB of a head lie in blocks of that size (D above 256: of up to 8 MiB or four
 * strips). With a window, of the last `window` keys, the last append and at most 511 more, or the rest of a block, and
 * up to three times those as they were given.
 *
 * @param context  its device is the session's; it may be destroyed before. Keys are kept on the host; a CUDA backend,
 *                 where one is asked for, reads them from there in every call
 * @param options  NULL: the defaults
 */
ATTNGRAPH_API attngraph_status attngraph_session_create(const attngraph_context* context,
                                                        const attngraph_session_options* options,
                                                        attngraph_session** session);
ATTNGRAPH_API void attngraph_session_destroy(attngraph_session* session);
/** More keys: [B, Hkv, n, D], [Hkv, n, D] or [n, D] in host memory, copied. The first ones say B, Hkv, D and the type
 * of all. On failure the session is as it was. */
ATTNGRAPH_API attngraph_status attngraph_session_append(attngraph_session* session, const attngraph_tensor* k);
/** How many of the first keys of k are, bit for bit, those of the session: how a caller who is given all keys anew
 * finds which are new. 0 where keys were dropped, or k is of another kind. */
ATTNGRAPH_API attngraph_status attngraph_session_common(attngraph_session* session, const attngraph_tensor* k,
                                                        int64_t* count);
/** Forget the keys from `count` on: a draft guessed wrong. */
ATTNGRAPH_API attngraph_status attngraph_session_truncate(attngraph_session* session, int64_t count);
/**
 * Edges of queries [B, Hq, n, D] among the keys so far, as attngraph_extract of them. query_offset is the position of
 * the first query; ATTNGRAPH_ALIGN_BOTTOM_RIGHT: the last query stands at the last key. key_lengths, mask, sinks, lse
 * and query range are of this call.
 */
ATTNGRAPH_API attngraph_status attngraph_session_rows(attngraph_session* session, const attngraph_tensor* q,
                                                      const attngraph_options* options, attngraph_result** result);
ATTNGRAPH_API attngraph_status attngraph_session_rows_to(attngraph_session* session, const attngraph_tensor* q,
                                                         const attngraph_options* options, attngraph_sink* sink);
ATTNGRAPH_API attngraph_status attngraph_session_describe(attngraph_session* session, attngraph_session_info* info);

/* ----------------------------------------------------------------------------------------------------------------
 * sinks */

/** Rows [query_begin, query_begin + row_count) of one slice, valid during the call only. */
typedef struct attngraph_row_block {
  int64_t batch, layer, head;
  int64_t query_begin, row_count, key_count;
  const int64_t* offsets; /* [row_count + 1], offsets[0] == 0 */
  const int32_t* keys;
  const void* weights;
  int32_t weight_dtype;
  attngraph_rows rows;
} attngraph_row_block;

/** Receives blocks in the order (slice, query). Return 0 to go on, anything else to stop with
 * ATTNGRAPH_ERROR_CANCELLED. */
typedef int (*attngraph_row_callback)(void* user, const attngraph_row_block* block);

typedef enum attngraph_direction {
  ATTNGRAPH_QUERY_TO_KEY = 0, /* source is the query: "i attends to j" */
  ATTNGRAPH_KEY_TO_QUERY = 1  /* source is the key: information flow */
} attngraph_direction;

typedef struct attngraph_write_options {
  size_t struct_size;
  int32_t direction; /* attngraph_direction; for the formats with a source and a target */
  int32_t labels;    /* 1: add query_token and key_token to tables */
  int32_t csv_raw;   /* 1: text cells of CSV as they are; otherwise those a spreadsheet would run (= + - @ tab CR) get a
                        leading ' */
  int32_t rows;      /* 1: csv, jsonl: row statistics too, in a second file NAME.rows.EXT; npz and safetensors always
                        hold them, formats without ATTNGRAPH_FORMAT_ROWS have no place for them: ERROR_ARGUMENT */
} attngraph_write_options;
#define ATTNGRAPH_WRITE_OPTIONS_INIT \
  { sizeof(attngraph_write_options), ATTNGRAPH_QUERY_TO_KEY, 0, 0, 0 }

/* What a format of graph files can do, beside being written; a bit set. */
#define ATTNGRAPH_FORMAT_READ 1u    /* attngraph_result_load reads it */
#define ATTNGRAPH_FORMAT_WHOLE 2u   /* what is read back is the whole graph: statistics, sums, words, facts, report */
#define ATTNGRAPH_FORMAT_STREAM 4u  /* it may go to standard output */
#define ATTNGRAPH_FORMAT_ROWS 8u    /* has row statistics: always, or where write_options.rows asks */
#define ATTNGRAPH_FORMAT_LABELS 16u /* has words where write_options.labels asks; the others always have them */
#define ATTNGRAPH_FORMAT_DIRECTION 32u /* has a source and a target, which write_options.direction chooses */

typedef struct attngraph_format {
  const char* name;   /* "csv" */
  const char* suffix; /* ".csv": files of such a name are written in it unless a format is named */
  uint32_t abilities; /* ATTNGRAPH_FORMAT_* */
} attngraph_format;
/** Format i of graph files; NULL when i is out of range. Valid for the life of the process. */
ATTNGRAPH_API const attngraph_format* attngraph_format_at(int32_t i);

/* Any number of *_to calls may go into a sink. A call that fails after its first row spoils the sink: nothing is left
 * to do but destroy it. */

/** Collects rows in memory. attngraph_sink_take_result hands them out and empties the sink. */
ATTNGRAPH_API attngraph_status attngraph_sink_create_collect(attngraph_sink** sink);
ATTNGRAPH_API attngraph_status attngraph_sink_take_result(attngraph_sink* sink, attngraph_result** result);
/**
 * Writes a file as rows arrive. The name appears only at attngraph_sink_finish, complete, in one step; before that, and
 * after a failure, whatever stood there stays.
 *
 * @param path    "-" is standard output (ATTNGRAPH_FORMAT_STREAM)
 * @param format  a name that attngraph_format_at has; NULL: by the suffix of path, standard output takes csv
 */
ATTNGRAPH_API attngraph_status attngraph_sink_create_file(attngraph_sink** sink, const char* path, const char* format,
                                                          const attngraph_write_options* options);
ATTNGRAPH_API attngraph_status attngraph_sink_create_callback(attngraph_sink** sink, attngraph_row_callback callback,
                                                              void* user);
/** Counts for each threshold without keeping an edge; read it with attngraph_sink_sweep_rows. */
ATTNGRAPH_API attngraph_status attngraph_sink_create_sweep(attngraph_sink** sink, const double* thresholds,
                                                           int64_t count);
ATTNGRAPH_API attngraph_status attngraph_sink_sweep_rows(const attngraph_sink* sink, attngraph_sweep_row* rows);
/** Labels for what is written next; to be set before the first row: as many as there are keys. A query has the label of
 * the key position where it stands, query + query_offset, and none where no key is. Tokens may hold any
 * bytes; lengths NULL: C strings. */
ATTNGRAPH_API attngraph_status attngraph_sink_set_tokens(attngraph_sink* sink, const char* const* tokens,
                                                         const size_t* lengths, int64_t count);
/** Words of keys, or of queries that have their own (as many as there are queries), for one sequence of the batch.
 * @param batch  -1: for all sequences */
ATTNGRAPH_API attngraph_status attngraph_sink_set_labels(attngraph_sink* sink, int32_t side, int64_t batch,
                                                         const char* const* tokens, const size_t* lengths,
                                                         int64_t count);
/** Words from a file: a JSON list of strings, a list of such lists, one for each sequence of the batch, or text with
 * one token a line. Tokens as byte-level tokenizers spell them ("\u0120the") become the text that they stand for ("
 * the"). */
ATTNGRAPH_API attngraph_status attngraph_sink_load_labels(attngraph_sink* sink, int32_t side, const char* path);
/** The same from JSON, as in the safetensors metadata `tokens` and `query_tokens`; a token that is no UTF-8 is a list
 * of its bytes. */
ATTNGRAPH_API attngraph_status attngraph_sink_parse_labels(attngraph_sink* sink, int32_t side, const char* json);
/** The words of keys: attngraph_sink_load_labels and attngraph_sink_parse_labels with ATTNGRAPH_KEYS. */
ATTNGRAPH_API attngraph_status attngraph_sink_load_tokens(attngraph_sink* sink, const char* path);
ATTNGRAPH_API attngraph_status attngraph_sink_parse_tokens(attngraph_sink* sink, const char* json);
/** One fact more. How the first call was made (threshold, causal, scale, ...) is added by itself; a fact set here goes
 * before it. */
ATTNGRAPH_API attngraph_status attngraph_sink_set_metadata(attngraph_sink* sink, const char* name, const char* value);
/**
 * Keep the heaviest edges of all that goes into the sink, however many calls bring them; to be set before the first
 * row. Of equally heavy edges those that came first are kept, so that the answer is the same for every number of
 * threads. Kept mass and counts are those of the edges kept; all other statistics are of all attention. Memory: 24
 * bytes for each of twice the budget and 64 for each row, until attngraph_sink_finish or _take_result hands the rows
 * on; with slice_edges alone, until the end of the slice.
 *
 * @param edges        of the whole graph; 0: all
 * @param slice_edges  of each slice (a head of a layer and sequence); 0: all
 */
ATTNGRAPH_API attngraph_status attngraph_sink_set_budget(attngraph_sink* sink, uint64_t edges, uint64_t slice_edges);
/** The report of the calls that went into the sink so far. Its strings stay until the next call into the sink. */
ATTNGRAPH_API attngraph_status attngraph_sink_report(const attngraph_sink* sink, attngraph_report* report);
/** Number of edges that went into the sink since it was made or emptied; may be asked from a progress callback. With a
 * budget, after attngraph_sink_finish: of those kept. */
ATTNGRAPH_API int64_t attngraph_sink_edge_count(const attngraph_sink* sink);
/** Complete the file. After it the sink only answers questions. */
ATTNGRAPH_API attngraph_status attngraph_sink_finish(attngraph_sink* sink);
/** Without finish: everything begun is undone. */
ATTNGRAPH_API void attngraph_sink_destroy(attngraph_sink* sink);

/** Send a result, with its tokens and facts, through a sink. */
ATTNGRAPH_API attngraph_status attngraph_result_write(const attngraph_result* result, attngraph_sink* sink);
/**
 * Put a slice of the caller's own through a sink: how graphs that were made elsewhere, joined or averaged get the
 * questions, formats and views of results. Everything is checked.
 *
 * @param slice  as attngraph_result_csr answers it; keys ascend within a row, weights are finite
 * @param rows   NULL: logsumexp, maximum and entropy are unknown (NaN), kept mass is the sum of the row's weights;
 *               otherwise all five arrays
 */
ATTNGRAPH_API attngraph_status attngraph_sink_add_slice(attngraph_sink* sink, const attngraph_csr* slice,
                                                        const attngraph_rows* rows);
/** How the slices of attngraph_sink_add_slice were made: eps, borderline, counts and strings of the report are taken
 * over, what it says about rows is counted from the rows. Without it eps and borderline of the sink are not known. */
ATTNGRAPH_API attngraph_status attngraph_sink_set_report(attngraph_sink* sink, const attngraph_report* report);
/** Read a graph that this library wrote in a format with ATTNGRAPH_FORMAT_READ, told by its content. Every byte is
 * checked. A table (csv, jsonl) carries no report: eps and borderline are not known. */
ATTNGRAPH_API attngraph_status attngraph_result_load(const char* path, attngraph_result** result);

/* ----------------------------------------------------------------------------------------------------------------
 * tensor files */

/** Open a .safetensors, .npy or .npz file; by content, not by name. Files are untrusted: every length is checked before
 * it is used. */
ATTNGRAPH_API attngraph_status attngraph_file_open(const char* path, attngraph_file** file);
ATTNGRAPH_API void attngraph_file_destroy(attngraph_file* file);
ATTNGRAPH_API int64_t attngraph_file_tensor_count(const attngraph_file* file);
/** Name of tensor i in the file's order; an .npy file has one tensor of name "". NULL when i is out of range. */
ATTNGRAPH_API const char* attngraph_file_tensor_name(const attngraph_file* file, int64_t i);
/** Its dtype and shape, without reading the data (data is NULL). */
ATTNGRAPH_API attngraph_status attngraph_file_tensor_info(const attngraph_file* file, const char* name,
                                                          attngraph_tensor* tensor);
/** Read it. The data belong to the file and stay until it is destroyed or attngraph_file_release is called for the
 * name. */
ATTNGRAPH_API attngraph_status attngraph_file_tensor(attngraph_file* file, const char* name, attngraph_tensor* tensor);
ATTNGRAPH_API void attngraph_file_release(attngraph_file* file, const char* name);
/** Safetensors metadata; NULL when there is none of that name. */
ATTNGRAPH_API const char* attngraph_file_metadata(const attngraph_file* file, const char* name);

#ifdef __cplusplus
}
#endif

#endif
