// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "runtime_fixture.hpp"

namespace ag::emu {
namespace {

using testing::HasSubstr;

class RuntimeMemory : public Runtime {};

TEST_F(RuntimeMemory, CopiesThereAndBack) {
  std::vector<int> in = {1, 2, 3, 4}, out(4);
  void* const d = device_memory(16);
  EXPECT_EQ(cudaMemcpy(d, in.data(), 16, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(out.data(), d, 16, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(out, in);
  EXPECT_EQ(cudaMemset(static_cast<char*>(d) + 4, 0, 8), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(out.data(), d, 16, cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(out, (std::vector<int>{1, 0, 0, 4}));
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeMemory, FreshMemoryIsNaN) {
  float out = 0;
  void* const d = device_memory(4);
  EXPECT_EQ(cudaMemcpy(&out, d, 4, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_TRUE(out != out);
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeMemory, CopiesRowsOfAPitch) {
  const std::vector<char> in = {'a', 'b', '-', 'c', 'd', '-', 'e', 'f'};
  std::vector<char> out(6);
  void* const d = device_memory(12);
  EXPECT_EQ(cudaMemcpy2D(d, 5, in.data(), 3, 2, 3, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(cudaMemcpy2D(out.data(), 2, d, 5, 2, 3, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(std::string(out.begin(), out.end()), "abcdef");
  EXPECT_EQ(cudaMemcpy2D(d, 1, in.data(), 3, 2, 3, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
  EXPECT_EQ(cudaMemcpy2D(d, 6, in.data(), 3, 2, 3, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("leaves its memory"));
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeMemory, RefusesACopyPastTheEnd) {
  std::vector<char> host(17);
  void* const d = device_memory(16);
  EXPECT_EQ(cudaMemcpy(host.data(), static_cast<char*>(d) + 8, 9, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("cudaMemcpy from a source of 9 bytes leaves its memory: it begins at byte 8 of"));
  EXPECT_EQ(cudaMemset(d, 0, 17), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("cudaMemset of 17 bytes"));
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeMemory, RefusesAWrongKind) {
  char host[4] = {};
  void* const d = device_memory(4);
  void* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 4), cudaSuccess);
  const struct {
    void* to;
    const void* from;
    cudaMemcpyKind kind;
    bool right;
  } cases[] = {
      {d, host, cudaMemcpyHostToDevice, true},      {d, host, cudaMemcpyDeviceToHost, false},
      {d, host, cudaMemcpyDeviceToDevice, false},   {host, d, cudaMemcpyHostToHost, false},
      {host, d, cudaMemcpyHostToDevice, false},     {pinned, d, cudaMemcpyDeviceToHost, true},
      {d, pinned, cudaMemcpyDeviceToDevice, false}, {host, pinned, cudaMemcpyHostToHost, true},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(cudaMemcpy(c.to, c.from, 4, c.kind), c.right ? cudaSuccess : cudaErrorInvalidValue) << c.kind;
    EXPECT_EQ(reported().empty(), c.right) << c.kind;
  }
  EXPECT_EQ(cudaMemset(host, 0, 4), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("host memory"));
  EXPECT_EQ(cudaFree(d), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(RuntimeMemory, RefusesAWrongFree) {
  int on_stack = 0;
  void* const d = device_memory(16);
  EXPECT_EQ(cudaFree(&on_stack), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("not allocated"));
  EXPECT_EQ(cudaFree(static_cast<char*>(d) + 4), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("not its beginning"));
  EXPECT_EQ(cudaFreeHost(d), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("cudaFreeHost of the 16 bytes of cudaMalloc"));
  EXPECT_EQ(cudaFree(d), cudaSuccess);
  EXPECT_EQ(cudaFree(d), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("frees again"));
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
}

TEST_F(RuntimeMemory, KnowsFreedMemory) {
  char host[4];
  void* const d = device_memory(4);
  EXPECT_EQ(cudaFree(d), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(host, d, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("freed by cudaFree"));
}

TEST_F(RuntimeMemory, SeesAWritePastTheEnd) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer ends the process at the write itself";
#endif
  void* const d = device_memory(5);
  static_cast<char*>(d)[7] = 0;
  EXPECT_EQ(cudaFree(d), cudaSuccess);
  EXPECT_THAT(reported(), HasSubstr("wrote 2 bytes past the end of the 5 bytes"));
}

TEST_F(RuntimeMemory, HostCodeMayNotTouchDeviceMemory) {
#if defined(__SANITIZE_ADDRESS__)
  auto* const d = static_cast<volatile char*>(device_memory(8));
  EXPECT_DEATH(d[0] = 1, "use-after-poison");
  EXPECT_EQ(launch_on(nullptr, {}, [d] { d[0] = 1; }), cudaSuccess);
  EXPECT_DEATH(d[0] = 1, "use-after-poison");
  EXPECT_EQ(cudaFree(const_cast<char*>(d)), cudaSuccess);
#else
  GTEST_SKIP() << "only AddressSanitizer sees it";
#endif
}

TEST_F(RuntimeMemory, LeaksAreReportedAtExit) {
  const auto leak = [] {
    void* p = nullptr;
    cudaMalloc(&p, 48);
    std::exit(0);
  };
  EXPECT_EXIT(leak(), testing::ExitedWithCode(1), "not freed at exit: the 48 bytes of cudaMalloc on device 0");
  const auto report_nobody_takes = [] {
    int on_stack = 0;
    cudaFree(&on_stack);
    std::exit(0);
  };
  EXPECT_EXIT(report_nobody_takes(), testing::ExitedWithCode(1), "1 reports that no test has taken");
  EXPECT_EXIT(std::exit(0), testing::ExitedWithCode(0), "");
}

TEST_F(RuntimeMemory, AttributesOfPointers) {
  int on_stack = 0;
  void* const d = device_memory(16);
  void* pinned = nullptr;
  void* managed = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 4), cudaSuccess);
  ASSERT_EQ(cudaMallocManaged(&managed, 4, cudaMemAttachGlobal), cudaSuccess);
  const struct {
    void* p;
    cudaMemoryType type;
  } cases[] = {{static_cast<char*>(d) + 15, cudaMemoryTypeDevice},
               {static_cast<char*>(d) + 16, cudaMemoryTypeUnregistered},
               {pinned, cudaMemoryTypeHost},
               {managed, cudaMemoryTypeManaged},
               {&on_stack, cudaMemoryTypeUnregistered}};
  for (const auto& c : cases) {
    cudaPointerAttributes a{};
    EXPECT_EQ(cudaPointerGetAttributes(&a, c.p), cudaSuccess);
    EXPECT_EQ(a.type, c.type);
    const bool on_device = c.type != cudaMemoryTypeUnregistered;
    EXPECT_EQ(a.devicePointer, on_device ? c.p : nullptr);
    EXPECT_EQ(a.hostPointer, c.type == cudaMemoryTypeDevice ? nullptr : c.p);
  }
  EXPECT_EQ(Memory::find(static_cast<char*>(d) + 3)->begin, d);
  EXPECT_EQ(Memory::find(&on_stack), nullptr);
  EXPECT_EQ(cudaFree(d), cudaSuccess);
  EXPECT_EQ(Memory::find(d), nullptr);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  EXPECT_EQ(cudaFree(managed), cudaSuccess);
}

TEST_F(RuntimeMemory, EndsWhereTheDeviceEnds) {
  Settings s;
  s.memory_bytes = 1000;
  reset_runtime(s);
  void* const d = device_memory(600);
  void* other = nullptr;
  EXPECT_EQ(cudaMalloc(&other, 401), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  std::size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_EQ(free, 400u);
  EXPECT_EQ(total, 1000u);
  EXPECT_EQ(cudaMalloc(&other, 400), cudaSuccess);
  EXPECT_EQ(runtime_counters().device_bytes_peak, 1000u);
  EXPECT_EQ(cudaFree(d), cudaSuccess);
  EXPECT_EQ(cudaFree(other), cudaSuccess);
  EXPECT_EQ(runtime_counters().device_bytes, 0u);
}

TEST_F(RuntimeMemory, NothingIsAllocatedForNoBytes) {
  void* p = &p;
  EXPECT_EQ(cudaMalloc(&p, 0), cudaSuccess);
  EXPECT_EQ(p, nullptr);
  EXPECT_EQ(cudaMallocAsync(&p, 0, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(nullptr, nullptr, 0, cudaMemcpyHostToDevice), cudaSuccess);
}

TEST_F(RuntimeMemory, PoolsHaveAttributes) {
  cudaMemPool_t pool = nullptr;
  ASSERT_EQ(cudaDeviceGetDefaultMemPool(&pool, 0), cudaSuccess);
  std::uint64_t value = 1 << 20;
  EXPECT_EQ(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &value), cudaSuccess);
  value = 0;
  EXPECT_EQ(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &value), cudaSuccess);
  EXPECT_EQ(value, std::uint64_t{1} << 20);
  void* p = nullptr;
  EXPECT_EQ(cudaMallocAsync(&p, 100, nullptr), cudaSuccess);
  EXPECT_EQ(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &value), cudaSuccess);
  EXPECT_EQ(value, 100u);
  EXPECT_EQ(cudaFreeAsync(p, nullptr), cudaSuccess);
  EXPECT_EQ(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &value), cudaSuccess);
  EXPECT_EQ(value, 100u);
  EXPECT_EQ(cudaMemPoolTrimTo(pool, 0), cudaSuccess);
  EXPECT_EQ(cudaDeviceGetDefaultMemPool(&pool, 1), cudaErrorInvalidDevice);
}

}  // namespace
}  // namespace ag::emu
