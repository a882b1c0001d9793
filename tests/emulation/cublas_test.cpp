// SPDX-License-Identifier: Apache-2.0
// The emulated cuBLAS: layouts and refusals, not rounding.
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#include "runtime_fixture.hpp"

namespace ag::emu {
namespace {

using testing::HasSubstr;

// Scores of a batch of heads, as the backends ask for them: C (keys x queries, column-major) = K^T Q.
class Cublas : public Runtime {
 protected:
  static constexpr int kBatch = 3, kQueries = 5, kKeys = 7, kDim = 4;
  static constexpr int kPitch = 6;  // of Q and K

  void SetUp() override {
    Runtime::SetUp();
    EXPECT_EQ(cublasCreate(&handle_), CUBLAS_STATUS_SUCCESS);
  }
  void TearDown() override {
    EXPECT_EQ(cublasDestroy(handle_), CUBLAS_STATUS_SUCCESS);
    for (void* const p : memory_) EXPECT_EQ(cudaFree(p), cudaSuccess);
    Runtime::TearDown();
  }

  static float q_at(int b, int i, int d) { return static_cast<float>((b + 2 * i + 3 * d) % 5) - 2; }
  static float k_at(int b, int j, int d) { return static_cast<float>((2 * b + j + 5 * d) % 7) * 0.5f; }

  template <class T, class F>
  void* upload(int rows, F element) {
    std::vector<T> host(static_cast<std::size_t>(kBatch * rows * kPitch), T(NAN));
    for (int b = 0; b < kBatch; ++b) {
      for (int r = 0; r < rows; ++r) {
        for (int d = 0; d < kDim; ++d)
          host[static_cast<std::size_t>((b * rows + r) * kPitch + d)] = T(element(b, r, d));
      }
    }
    void* const p = memory_.emplace_back(device_memory(host.size() * sizeof(T)));
    EXPECT_EQ(cudaMemcpy(p, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    return p;
  }

  struct Call {
    cudaDataType type = CUDA_R_32F, out = CUDA_R_32F;
    int ldk = kPitch, ldq = kPitch, ldc = kKeys;
    long long c_stride = kQueries * kKeys;
    cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  };

  cublasStatus_t scores(void* k, void* q, void* c, const Call& call) {
    const float one = 1, zero = 0;
    return cublasGemmStridedBatchedEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, kKeys, kQueries, kDim, &one, k, call.type,
                                      call.ldk, kKeys * kPitch, q, call.type, call.ldq, kQueries * kPitch, &zero, c,
                                      call.out, call.ldc, call.c_stride, kBatch, call.compute, CUBLAS_GEMM_DEFAULT);
  }

  template <class T>
  void expect_right_scores(cudaDataType type) {
    void* const q = upload<T>(kQueries, q_at);
    void* const k = upload<T>(kKeys, k_at);
    std::vector<float> out(kBatch * kQueries * kKeys);
    void* const c = memory_.emplace_back(device_memory(out.size() * sizeof(float)));
    Call call;
    call.type = type;
    EXPECT_EQ(scores(k, q, c, call), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cudaMemcpy(out.data(), c, out.size() * sizeof(float), cudaMemcpyDeviceToHost), cudaSuccess);
    for (int b = 0; b < kBatch; ++b) {
      for (int i = 0; i < kQueries; ++i) {
        for (int j = 0; j < kKeys; ++j) {
          float expected = 0;
          for (int d = 0; d < kDim; ++d) expected += q_at(b, i, d) * k_at(b, j, d);
          EXPECT_EQ(out[static_cast<std::size_t>((b * kQueries + i) * kKeys + j)], expected);
        }
      }
    }
  }

  cublasHandle_t handle_ = nullptr;
  std::vector<void*> memory_;
};

TEST_F(Cublas, MultipliesSinglePrecision) { expect_right_scores<float>(CUDA_R_32F); }
TEST_F(Cublas, MultipliesHalfPrecision) { expect_right_scores<__half>(CUDA_R_16F); }
TEST_F(Cublas, MultipliesBfloat16) { expect_right_scores<__nv_bfloat16>(CUDA_R_16BF); }

TEST_F(Cublas, RefusesWhatIsWrong) {
  void* const q = upload<float>(kQueries, q_at);
  void* const k = upload<float>(kKeys, k_at);
  void* const c = memory_.emplace_back(device_memory(kBatch * kQueries * kKeys * sizeof(float)));
  Call call;
  call.ldk = kDim - 1;
  EXPECT_EQ(scores(k, q, c, call), CUBLAS_STATUS_INVALID_VALUE);
  call = {};
  call.ldc = kKeys - 1;
  EXPECT_EQ(scores(k, q, c, call), CUBLAS_STATUS_INVALID_VALUE);
  call = {};
  call.out = CUDA_R_16F;
  EXPECT_EQ(scores(k, q, c, call), CUBLAS_STATUS_NOT_SUPPORTED);
  call = {};
  call.compute = CUBLAS_COMPUTE_32F_FAST_TF32;
  EXPECT_EQ(scores(k, q, c, call), CUBLAS_STATUS_NOT_SUPPORTED);
  call = {};
  call.type = CUDA_R_64F;
  EXPECT_EQ(scores(k, q, c, call), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(Cublas, LooksAtItsPointers) {
  void* const q = upload<float>(kQueries, q_at);
  void* const k = upload<float>(kKeys, k_at);
  void* const small = memory_.emplace_back(device_memory(kBatch * kQueries * kKeys * sizeof(float) - 4));
  EXPECT_EQ(scores(k, q, small, {}), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_THAT(reported(), HasSubstr("cublasGemmStridedBatchedEx: C of 420 bytes leaves its memory"));
  std::vector<float> host(kBatch * kQueries * kKeys);
  EXPECT_EQ(scores(k, q, host.data(), {}), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_THAT(reported(), HasSubstr("C is host memory"));
  Call overlapping;
  overlapping.c_stride = kKeys;
  EXPECT_EQ(scores(k, q, small, overlapping), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_THAT(reported(), HasSubstr("the matrices of C overlap"));
}

TEST_F(Cublas, WorksOnItsStream) {
  use(Order::kDeferred);
  void* const q = upload<float>(kQueries, q_at);
  void* const k = upload<float>(kKeys, k_at);
  void* const c = memory_.emplace_back(device_memory(kBatch * kQueries * kKeys * sizeof(float)));
  const cudaStream_t stream = new_stream();
  EXPECT_EQ(cublasSetStream(handle_, stream), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(scores(k, q, c, {}), CUBLAS_STATUS_SUCCESS);
  float first = 0;
  EXPECT_EQ(cudaMemcpy(&first, c, sizeof first, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_TRUE(std::isnan(first));  // nobody has waited for the stream
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(&first, c, sizeof first, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_FALSE(std::isnan(first));
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(Cublas, CreationFails) {
  for (const bool driver : {false, true}) {
    Faults faults;
    faults.no_driver = driver;
    faults.cublas_create = !driver;
    inject(faults);
    cublasHandle_t handle = nullptr;
    EXPECT_EQ(cublasCreate(&handle), CUBLAS_STATUS_NOT_INITIALIZED);
    EXPECT_EQ(handle, nullptr);
  }
  inject(Faults());
  EXPECT_EQ(cublasSetStream(nullptr, nullptr), CUBLAS_STATUS_NOT_INITIALIZED);
}

TEST_F(Cublas, SaysItsVersionAndItsStatuses) {
  int version = 0;
  EXPECT_EQ(cublasGetVersion(handle_, &version), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(version, CUBLAS_VERSION);
  EXPECT_EQ(cublasGetProperty(MAJOR_VERSION, &version), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(version, CUBLAS_VER_MAJOR);
  EXPECT_STREQ(cublasGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED), "CUBLAS_STATUS_NOT_SUPPORTED");
  EXPECT_STREQ(cublasGetStatusString(CUBLAS_STATUS_INVALID_VALUE), "an invalid value was provided");
}

}  // namespace
}  // namespace ag::emu
