// SPDX-License-Identifier: Apache-2.0
// The part of cuBLAS that a matrix of scores needs, over OpenBLAS: f32, f16 or bf16 in, f32 out, single precision sums.
// Anything else is CUBLAS_STATUS_NOT_SUPPORTED, on purpose: it would be another rounding. Wrong leading dimensions are
// CUBLAS_STATUS_INVALID_VALUE; ranges are checked against the map of allocations when the call is made.
#include <cblas.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "../runtime.hpp"

struct cublasContext {
  int device = 0;
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math_mode = CUBLAS_DEFAULT_MATH;
  cublasAtomicsMode_t atomics_mode = CUBLAS_ATOMICS_NOT_ALLOWED;
};

namespace ag::emu {
namespace {

std::mutex handles_mutex;
std::set<cublasHandle_t> handles;

bool alive(cublasHandle_t handle) {
  const std::lock_guard lock(handles_mutex);
  return handles.count(handle) != 0;
}

__attribute__((destructor)) void judge_handles() {
  if (!handles.empty()) report("a cuBLAS handle is not destroyed at exit");
}

struct Matrix {
  const void* data;
  cudaDataType type;
  std::int64_t ld, stride;
  cublasOperation_t operation;
  std::int64_t rows, columns;  // as stored, before the operation

  std::size_t element_bytes() const { return type == CUDA_R_32F ? 4 : 2; }
  // From the first element to behind the last one of the last matrix.
  std::size_t span_bytes(std::int64_t batch) const {
    if (rows == 0 || columns == 0 || batch == 0) return 0;
    const std::int64_t elements = (batch - 1) * stride + (columns - 1) * ld + rows;
    return static_cast<std::size_t>(elements) * element_bytes();
  }
  bool ld_is_right() const { return ld >= std::max<std::int64_t>(1, rows); }
};

struct Product {
  Matrix a, b, c;
  std::int64_t m, n, k, batch;
  float alpha, beta;
};

bool is_input(cudaDataType type) { return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF; }

float value(const void* data, cudaDataType type, std::int64_t i) {
  if (type == CUDA_R_16F) return __half2float(static_cast<const __half*>(data)[i]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
}

// The matrix in single precision, its leading dimension its rows; itself when it is that already.
const float* as_floats(const Matrix& x, std::int64_t index, std::vector<float>& room, std::int64_t& ld) {
  if (x.type == CUDA_R_32F) {
    ld = x.ld;
    return static_cast<const float*>(x.data) + index * x.stride;
  }
  ld = std::max<std::int64_t>(1, x.rows);
  room.resize(static_cast<std::size_t>(x.rows * x.columns));
  for (std::int64_t column = 0; column < x.columns; ++column) {
    for (std::int64_t row = 0; row < x.rows; ++row) {
      room[static_cast<std::size_t>(column * x.rows + row)] =
          value(x.data, x.type, index * x.stride + column * x.ld + row);
    }
  }
  return room.data();
}

CBLAS_TRANSPOSE transposed(cublasOperation_t operation) { return operation == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }

cudaError_t multiply(const Product& p) {
  std::vector<float> a_room, b_room;
  const auto size = [](std::int64_t x) { return static_cast<blasint>(x); };
  openblas_set_num_threads(1);
  for (std::int64_t index = 0; index < p.batch; ++index) {
    std::int64_t lda = 0, ldb = 0;
    const float* const a = as_floats(p.a, index, a_room, lda);
    const float* const b = as_floats(p.b, index, b_room, ldb);
    float* const c = static_cast<float*>(const_cast<void*>(p.c.data)) + index * p.c.stride;
    cblas_sgemm(CblasColMajor, transposed(p.a.operation), transposed(p.b.operation), size(p.m), size(p.n), size(p.k),
                p.alpha, a, size(lda), b, size(ldb), p.beta, c, size(p.c.ld));
  }
  return cudaSuccess;
}

cublasStatus_t status_of(cudaError_t code) {
  if (code == cudaSuccess) return CUBLAS_STATUS_SUCCESS;
  return code == cudaErrorInvalidValue ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t queue_product(cublasHandle_t handle, const char* call, const Product& p) {
  if (p.m < 0 || p.n < 0 || p.k < 0 || p.batch < 0) return CUBLAS_STATUS_INVALID_VALUE;
  for (const Matrix* x : {&p.a, &p.b, &p.c}) {
    if (!x->ld_is_right() || x->stride < 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (x->data == nullptr && x->span_bytes(p.batch) != 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (reinterpret_cast<std::uintptr_t>(x->data) % x->element_bytes() != 0) return CUBLAS_STATUS_INVALID_VALUE;
  }
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (device != handle->device) {
    report(std::string(call) + " with a handle of device " + std::to_string(handle->device) + " while device " +
           std::to_string(device) + " is current");
    return CUBLAS_STATUS_ARCH_MISMATCH;
  }
  if (p.c.stride < p.c.columns * p.c.ld && p.batch > 1 && p.m != 0 && p.n != 0) {
    report(std::string(call) + ": the matrices of C overlap");
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (p.m == 0 || p.n == 0 || p.batch == 0) return CUBLAS_STATUS_SUCCESS;
  const std::vector<Touch> touches = {{p.a.data, p.a.span_bytes(p.batch), "A", false},
                                      {p.b.data, p.b.span_bytes(p.batch), "B", false},
                                      {p.c.data, p.c.span_bytes(p.batch), "C", true}};
  return status_of(queue_work(handle->stream, call, touches, [p] { return multiply(p); }));
}

// Device pointer mode is not handled: the factors are read here.
struct Factors {
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  float alpha = 0, beta = 0;
};

Factors factors(cublasHandle_t handle, const void* alpha, const void* beta) {
  Factors f;
  if (!alive(handle)) {
    f.status = CUBLAS_STATUS_NOT_INITIALIZED;
  } else if (handle->pointer_mode != CUBLAS_POINTER_MODE_HOST) {
    f.status = CUBLAS_STATUS_NOT_SUPPORTED;
  } else if (alpha == nullptr || beta == nullptr) {
    f.status = CUBLAS_STATUS_INVALID_VALUE;
  } else {
    f.alpha = *static_cast<const float*>(alpha);
    f.beta = *static_cast<const float*>(beta);
  }
  return f;
}

Matrix operand(const void* data, cudaDataType type, std::int64_t ld, std::int64_t stride, cublasOperation_t operation,
               std::int64_t rows, std::int64_t columns) {
  if (operation != CUBLAS_OP_N) std::swap(rows, columns);
  return {data, type, ld, stride, operation, rows, columns};
}

cublasStatus_t gemm(const char* call, cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, std::int64_t m,
                    std::int64_t n, std::int64_t k, const void* alpha, const void* a, cudaDataType a_type,
                    std::int64_t lda, std::int64_t a_stride, const void* b, cudaDataType b_type, std::int64_t ldb,
                    std::int64_t b_stride, const void* beta, void* c, cudaDataType c_type, std::int64_t ldc,
                    std::int64_t c_stride, std::int64_t batch, cublasComputeType_t compute) {
  const Factors f = factors(handle, alpha, beta);
  if (f.status != CUBLAS_STATUS_SUCCESS) return f.status;
  const bool plain = handle->math_mode == CUBLAS_DEFAULT_MATH || handle->math_mode == CUBLAS_PEDANTIC_MATH;
  if (a_type != b_type || !is_input(a_type) || c_type != CUDA_R_32F || !plain ||
      (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  return queue_product(handle, call,
                       {operand(a, a_type, lda, a_stride, ta, m, k), operand(b, b_type, ldb, b_stride, tb, k, n),
                        operand(c, c_type, ldc, c_stride, CUBLAS_OP_N, m, n), m, n, k, batch, f.alpha, f.beta});
}

template <class Body>
cublasStatus_t with(cublasHandle_t handle, Body body) {
  if (!alive(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  body();
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace ag::emu

using namespace ag::emu;

extern "C" {

cublasStatus_t CUBLASWINAPI cublasCreate_v2(cublasHandle_t* out) {
  if (out == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  int device = 0;
  if (cublas_create_fails() || cudaGetDevice(&device) != cudaSuccess || cudaSetDevice(device) != cudaSuccess) {
    return CUBLAS_STATUS_NOT_INITIALIZED;
  }
  auto* const handle = new cublasContext;
  handle->device = device;
  const std::lock_guard lock(handles_mutex);
  handles.insert(handle);
  *out = handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasDestroy_v2(cublasHandle_t handle) {
  const std::lock_guard lock(handles_mutex);
  if (handles.erase(handle) == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasGetVersion_v2(cublasHandle_t handle, int* version) {
  return with(handle, [&] { *version = CUBLAS_VERSION; });
}

cublasStatus_t CUBLASWINAPI cublasGetProperty(libraryPropertyType type, int* value) {
  if (value == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  switch (type) {
    case MAJOR_VERSION: *value = CUBLAS_VER_MAJOR; return CUBLAS_STATUS_SUCCESS;
    case MINOR_VERSION: *value = CUBLAS_VER_MINOR; return CUBLAS_STATUS_SUCCESS;
    case PATCH_LEVEL: *value = CUBLAS_VER_PATCH; return CUBLAS_STATUS_SUCCESS;
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}

size_t CUBLASWINAPI cublasGetCudartVersion(void) { return CUDART_VERSION; }

cublasStatus_t CUBLASWINAPI cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  return with(handle, [&] { handle->stream = stream; });
}

cublasStatus_t CUBLASWINAPI cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
  return with(handle, [&] { *stream = handle->stream; });
}

// The emulation uses no workspace, but says what cuBLAS would say of it.
cublasStatus_t CUBLASWINAPI cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, size_t bytes) {
  if (!alive(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (bytes == 0) return CUBLAS_STATUS_SUCCESS;
  if (reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  return status_of(queue_work(handle->stream, "cublasSetWorkspace", {{workspace, bytes, "the workspace", true}},
                              [] { return cudaSuccess; }));
}

cublasStatus_t CUBLASWINAPI cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  return with(handle, [&] { handle->pointer_mode = mode; });
}

cublasStatus_t CUBLASWINAPI cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
  return with(handle, [&] { *mode = handle->pointer_mode; });
}

cublasStatus_t CUBLASWINAPI cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  return with(handle, [&] { handle->math_mode = mode; });
}

cublasStatus_t CUBLASWINAPI cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  return with(handle, [&] { *mode = handle->math_mode; });
}

cublasStatus_t CUBLASWINAPI cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode) {
  return with(handle, [&] { handle->atomics_mode = mode; });
}

cublasStatus_t CUBLASWINAPI cublasGetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t* mode) {
  return with(handle, [&] { *mode = handle->atomics_mode; });
}

const char* CUBLASWINAPI cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR: return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR: return "CUBLAS_STATUS_LICENSE_ERROR";
    default: return "CUBLAS_STATUS_UNKNOWN";
  }
}

const char* CUBLASWINAPI cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED: return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE: return "an invalid value was provided";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "the function requires an architectural feature absent from the device";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "the function failed to launch on the GPU";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "the requested functionality is not supported";
    default: return "an internal operation failed";
  }
}

cublasStatus_t CUBLASWINAPI cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                                           int n, int k, const float* alpha, const float* a, int lda, const float* b,
                                           int ldb, const float* beta, float* c, int ldc) {
  return gemm("cublasSgemm", handle, ta, tb, m, n, k, alpha, a, CUDA_R_32F, lda, 0, b, CUDA_R_32F, ldb, 0, beta, c,
              CUDA_R_32F, ldc, 0, 1, CUBLAS_COMPUTE_32F);
}

cublasStatus_t CUBLASWINAPI cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,
                                                      int m, int n, int k, const float* alpha, const float* a, int lda,
                                                      long long a_stride, const float* b, int ldb, long long b_stride,
                                                      const float* beta, float* c, int ldc, long long c_stride,
                                                      int batch) {
  return gemm("cublasSgemmStridedBatched", handle, ta, tb, m, n, k, alpha, a, CUDA_R_32F, lda, a_stride, b, CUDA_R_32F,
              ldb, b_stride, beta, c, CUDA_R_32F, ldc, c_stride, batch, CUBLAS_COMPUTE_32F);
}

cublasStatus_t CUBLASWINAPI cublasGemmEx(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,
                                         int n, int k, const void* alpha, const void* a, cudaDataType a_type, int lda,
                                         const void* b, cudaDataType b_type, int ldb, const void* beta, void* c,
                                         cudaDataType c_type, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t) {
  return gemm("cublasGemmEx", handle, ta, tb, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c, c_type,
              ldc, 0, 1, compute);
}

cublasStatus_t CUBLASWINAPI cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t ta,
                                                       cublasOperation_t tb, int m, int n, int k, const void* alpha,
                                                       const void* a, cudaDataType a_type, int lda, long long a_stride,
                                                       const void* b, cudaDataType b_type, int ldb, long long b_stride,
                                                       const void* beta, void* c, cudaDataType c_type, int ldc,
                                                       long long c_stride, int batch, cublasComputeType_t compute,
                                                       cublasGemmAlgo_t) {
  return gemm("cublasGemmStridedBatchedEx", handle, ta, tb, m, n, k, alpha, a, a_type, lda, a_stride, b, b_type, ldb,
              b_stride, beta, c, c_type, ldc, c_stride, batch, compute);
}

cublasStatus_t CUBLASWINAPI cublasGemmStridedBatchedEx_64(
    cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, std::int64_t m, std::int64_t n, std::int64_t k,
    const void* alpha, const void* a, cudaDataType a_type, std::int64_t lda, long long a_stride, const void* b,
    cudaDataType b_type, std::int64_t ldb, long long b_stride, const void* beta, void* c, cudaDataType c_type,
    std::int64_t ldc, long long c_stride, std::int64_t batch, cublasComputeType_t compute, cublasGemmAlgo_t) {
  return gemm("cublasGemmStridedBatchedEx_64", handle, ta, tb, m, n, k, alpha, a, a_type, lda, a_stride, b, b_type, ldb,
              b_stride, beta, c, c_type, ldc, c_stride, batch, compute);
}

}  // extern "C"
