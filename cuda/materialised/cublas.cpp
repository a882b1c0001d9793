// SPDX-License-Identifier: Apache-2.0
#include "cublas.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "../../src/core/dtype.hpp"
#include "../device/error.hpp"

namespace ag::cuda {
namespace {

// The header overloads cublasGemmStridedBatchedEx for callers of the past; this is the one that the library exports.
using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                                  const void*, cudaDataType, int, long long, const void*, cudaDataType, int, long long,
                                  const void*, void*, cudaDataType, int, long long, int, cublasComputeType_t,
                                  cublasGemmAlgo_t);

struct Table {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasGetVersion_v2) version = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  decltype(&cublasSetMathMode) set_math_mode = nullptr;
  decltype(&cublasGetStatusString) status_string = nullptr;
  GemmEx gemm = nullptr;
};

struct Library {
  Table table;
  std::string file;
  std::string missing;
};

Library open_library() {
  Library library;
  const char* const wanted = std::getenv("ATTNGRAPH_CUBLAS");
#if defined(ATTNGRAPH_EMULATION)
  if (wanted == nullptr || *wanted == '\0') {  // linked into the tests
    library.file = "emulated";
    library.table = {&cublasCreate_v2,       &cublasDestroy_v2,  &cublasGetVersion_v2,   &cublasSetStream_v2,
                     &cublasSetWorkspace_v2, &cublasSetMathMode, &cublasGetStatusString, &cublasGemmStridedBatchedEx};
    return library;
  }
#endif
  library.file = wanted != nullptr && *wanted != '\0' ? wanted : fmt::format("libcublas.so.{}", CUBLAS_VER_MAJOR);
  void* const handle = dlopen(library.file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const reason = dlerror();
    library.missing = fmt::format(
        "cuBLAS cannot be opened ({}): install CUDA {}'s, put its folder on LD_LIBRARY_PATH, or set ATTNGRAPH_CUBLAS "
        "to "
        "the file",
        reason != nullptr ? reason : library.file, CUBLAS_VER_MAJOR);
    return library;
  }
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
    if (function == nullptr && library.missing.empty()) {
      library.missing = fmt::format("{} is no cuBLAS that this build can use: it has no {}", library.file, name);
    }
  };
  find(library.table.create, "cublasCreate_v2");
  find(library.table.destroy, "cublasDestroy_v2");
  find(library.table.version, "cublasGetVersion_v2");
  find(library.table.set_stream, "cublasSetStream_v2");
  find(library.table.set_workspace, "cublasSetWorkspace_v2");
  find(library.table.set_math_mode, "cublasSetMathMode");
  find(library.table.status_string, "cublasGetStatusString");
  find(library.table.gemm, "cublasGemmStridedBatchedEx");
  if (!library.missing.empty()) dlclose(handle);
  return library;
}

const Library& library() {
  static const Library opened = open_library();
  return opened;
}

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  cuda_check(cudaPeekAtLastError(), what);  // a lost device speaks through cuBLAS in riddles
  const char* const text = library().table.status_string(status);
  switch (status) {
    case CUBLAS_STATUS_ALLOC_FAILED:
      fail(Status::kDeviceOutOfMemory, "{}: device memory is exhausted; give a smaller workspace", what);
    case CUBLAS_STATUS_NOT_INITIALIZED:
    case CUBLAS_STATUS_ARCH_MISMATCH: fail(Status::kNoDevice, "{}: cuBLAS cannot run here: {}", what, text);
    default: fail(Status::kInternal, "{}: {}", what, text);
  }
}

// Handles cost milliseconds and memory to make, so they are kept: one is taken for as long as it takes to queue a
// product, whatever the stream.
class Handles {
 public:
  void destroy_all() {
    const std::lock_guard lock(mutex_);
    for (auto& [device, free] : free_) {
      for (const cublasHandle_t handle : free) library().table.destroy(handle);
    }
    free_.clear();
  }
  cublasHandle_t take(int device) {
    {
      const std::lock_guard lock(mutex_);
      std::vector<cublasHandle_t>& free = free_[device];
      if (!free.empty()) {
        const cublasHandle_t handle = free.back();
        free.pop_back();
        return handle;
      }
    }
    cublasHandle_t handle = nullptr;
    check(library().table.create(&handle), "cublasCreate");
    int version = 0;
    check(library().table.version(handle, &version), "cublasGetVersion");
    if (version / 10000 != CUBLAS_VER_MAJOR) {
      fail(Status::kNoDevice, "{} is cuBLAS {}; this build needs {}", library().file, version / 10000,
           CUBLAS_VER_MAJOR);
    }
    const std::lock_guard lock(mutex_);
    version_ = version;
    return handle;
  }
  void give_back(int device, cublasHandle_t handle) {
    const std::lock_guard lock(mutex_);
    free_[device].push_back(handle);
  }
  int version() {
    const std::lock_guard lock(mutex_);
    return version_;
  }

 private:
  std::mutex mutex_;
  std::map<int, std::vector<cublasHandle_t>> free_;
  int version_ = 0;
};

Handles& handles() {
  // Never freed: at the end of a process the driver may be gone before they are. The emulator's is not, and counts.
  static Handles* const kept = (library(), new Handles);  // the library outlives them
#if defined(ATTNGRAPH_EMULATION)
  static const std::shared_ptr<Handles> at_exit(kept, [](Handles* all) { all->destroy_all(); });
#endif
  return *kept;
}

class TakenHandle {
 public:
  TakenHandle() {
    cuda_check(cudaGetDevice(&device_), "cudaGetDevice");
    handle_ = handles().take(device_);
  }
  ~TakenHandle() { handles().give_back(device_, handle_); }
  TakenHandle(const TakenHandle&) = delete;
  TakenHandle& operator=(const TakenHandle&) = delete;
  cublasHandle_t get() const { return handle_; }

 private:
  int device_ = 0;
  cublasHandle_t handle_ = nullptr;
};

int as_int(std::int64_t n, const char* what) {
  if (n > std::numeric_limits<int>::max()) {
    fail(Status::kLimit, "a matrix product has {} {}; cuBLAS takes {}", n, what, std::numeric_limits<int>::max());
  }
  return static_cast<int>(n);
}

cudaDataType data_type(DType dtype) {
  switch (dtype) {
    case DType::kF16: return CUDA_R_16F;
    case DType::kBF16: return CUDA_R_16BF;
    default: return CUDA_R_32F;
  }
}

}  // namespace

const std::string& cublas_missing() { return library().missing; }

std::string cublas_description() {
  const int version = handles().version();
  if (version == 0) return library().file;
  return fmt::format("{} {}.{}.{}", library().file, version / 10000, version / 100 % 100, version % 100);
}

void queue_score_gemm(const ScoreGemm& gemm, void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  if (!cublas_missing().empty()) fail(Status::kNoDevice, "{}", cublas_missing());
  if (gemm.rows == 0 || gemm.keys == 0 || gemm.count == 0) return;
  const Table& table = library().table;
  const TakenHandle handle;
  const bool plain = static_cast<DType>(gemm.dtype) == DType::kF32;
  check(table.set_stream(handle.get(), stream), "cublasSetStream");
  check(table.set_workspace(handle.get(), workspace, workspace_bytes), "cublasSetWorkspace");
  check(table.set_math_mode(handle.get(), plain ? CUBLAS_PEDANTIC_MATH : CUBLAS_DEFAULT_MATH), "cublasSetMathMode");
  // Column-major there: scores^T [keys][rows] = (k^T)^T q^T. Padding after D is zeros, so the pitch is the depth.
  const float one = 1, zero = 0;
  const cudaDataType type = data_type(static_cast<DType>(gemm.dtype));
  const int keys = as_int(gemm.keys, "keys");
  const int rows = as_int(gemm.rows, "rows");
  const int depth = as_int(gemm.pitch, "dimensions");
  check(
      table.gemm(handle.get(), CUBLAS_OP_T, CUBLAS_OP_N, keys, rows, depth, &one, gemm.k, type, depth, gemm.k_stride,
                 gemm.q, type, depth, gemm.rows * gemm.pitch, &zero, gemm.scores, CUDA_R_32F,
                 as_int(gemm.score_pitch, "scores a row"), gemm.rows * gemm.score_pitch, as_int(gemm.count, "products"),
                 plain ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "cublasGemmStridedBatchedEx");
}

}  // namespace ag::cuda
