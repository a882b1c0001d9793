// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <stdexcept>

#include "runtime_fixture.hpp"

namespace ag::emu {
namespace {

using testing::HasSubstr;

class RuntimeDevices : public Runtime {
 protected:
  static void use_devices(int count, int capability = 80) {
    Settings s;
    s.devices = count;
    s.compute_capability = capability;
    reset_runtime(s);
  }
  static const void* kernel() { return reinterpret_cast<const void*>(&RuntimeDevices::kernel); }
};

class RuntimeFaults : public RuntimeDevices {};

TEST_F(RuntimeDevices, MemoryBelongsToADevice) {
  use_devices(2);
  int count = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 2);
  void* const zero = device_memory(16);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  void* const one = device_memory(32);
  cudaPointerAttributes a{};
  EXPECT_EQ(cudaPointerGetAttributes(&a, one), cudaSuccess);
  EXPECT_EQ(a.device, 1);
  EXPECT_EQ(runtime_counters(0).device_bytes, 16u);
  EXPECT_EQ(runtime_counters(1).device_bytes, 32u);
  EXPECT_EQ(cudaMemset(zero, 0, 16), cudaErrorInvalidValue);
  EXPECT_THAT(reported(), HasSubstr("of device 1 of the 16 bytes"));
  EXPECT_EQ(cudaMemset(one, 0, 32), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(zero, one, 16, cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaFree(zero), cudaSuccess);
  EXPECT_EQ(cudaFree(one), cudaSuccess);
}

TEST_F(RuntimeDevices, AKernelReachesAPeerOnlyWhenAllowed) {
  use_devices(2);
  void* const zero = device_memory(16);
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  int can = 0;
  EXPECT_EQ(cudaDeviceCanAccessPeer(&can, 1, 0), cudaSuccess);
  EXPECT_EQ(can, 1);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaSuccess);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaErrorPeerAccessAlreadyEnabled);
  EXPECT_EQ(launch_on(nullptr, {zero}, [zero] { *static_cast<char*>(zero) = 1; }), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaDeviceDisablePeerAccess(0), cudaSuccess);
  EXPECT_EQ(launch_on(nullptr, {zero}, [] {}), cudaSuccess);
  EXPECT_THAT(reported(),
              HasSubstr("argument 0 at byte 0: device 1 may not reach the 16 bytes of cudaMalloc on device 0"));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);  // which has not failed
  EXPECT_EQ(cudaFree(zero), cudaSuccess);
}

TEST_F(RuntimeDevices, AStreamIsUsedOnItsDevice) {
  use_devices(2);
  const cudaStream_t stream = new_stream();
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_EQ(launch_on(stream, {}, [] {}), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(last_error(), HasSubstr("is of device 0, the current one is 1"));
  EXPECT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(RuntimeDevices, CapabilitiesDiffer) {
  const struct {
    int capability, opt_in, threads;
  } cases[] = {{75, 65536, 1024}, {80, 166912, 2048}, {86, 101376, 1536}, {90, 232448, 2048}, {120, 101376, 1536}};
  for (const auto& c : cases) {
    use_devices(1, c.capability);
    cudaDeviceProp p{};
    EXPECT_EQ(cudaGetDeviceProperties(&p, 0), cudaSuccess);
    EXPECT_EQ(p.major * 10 + p.minor, c.capability);
    EXPECT_EQ(p.sharedMemPerBlockOptin, static_cast<std::size_t>(c.opt_in));
    EXPECT_EQ(p.maxThreadsPerMultiProcessor, c.threads);
    int value = 0;
    EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
    EXPECT_EQ(value, c.opt_in);
    EXPECT_EQ(cudaFuncSetAttribute(kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, c.opt_in), cudaSuccess);
    EXPECT_EQ(cudaFuncSetAttribute(kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, c.opt_in + 1),
              cudaErrorInvalidValue);
  }
}

TEST_F(RuntimeDevices, SharedMemoryAbove48KiBNeedsLeave) {
  LaunchConfig config;
  config.grid = config.block = dim3(1);
  config.kernel = kernel();
  config.name = "greedy_kernel";
  config.dynamic_shared_bytes = 64 * 1024;
  EXPECT_EQ(launch(config, [] {}), cudaErrorInvalidValue);
  int blocks = -1;
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel(), 128, 64 * 1024), cudaSuccess);
  EXPECT_EQ(blocks, 0);
  EXPECT_EQ(cudaFuncSetAttribute(kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024), cudaSuccess);
  EXPECT_EQ(launch(config, [] {}), cudaSuccess);
  EXPECT_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel(), 128, 64 * 1024), cudaSuccess);
  EXPECT_EQ(blocks, 2);
  cudaFuncAttributes a{};
  EXPECT_EQ(cudaFuncGetAttributes(&a, kernel()), cudaSuccess);
  EXPECT_EQ(a.maxDynamicSharedSizeBytes, 64 * 1024);
  EXPECT_EQ(a.binaryVersion, 80);
}

TEST_F(RuntimeFaults, NoDriverAndNoDevice) {
  for (const bool driver : {false, true}) {
    Faults faults;
    faults.no_driver = !driver;
    faults.no_device = driver;
    inject(faults);
    const cudaError_t expected = driver ? cudaErrorNoDevice : cudaErrorInsufficientDriver;
    int value = -1;
    void* p = nullptr;
    EXPECT_EQ(cudaGetDeviceCount(&value), expected);
    EXPECT_EQ(value, 0);
    EXPECT_EQ(cudaMalloc(&p, 4), expected);
    EXPECT_EQ(cudaMallocHost(&p, 4), expected);
    EXPECT_EQ(cudaDeviceSynchronize(), expected);
    EXPECT_EQ(launch_on(nullptr, {}, [] {}), expected);
    EXPECT_EQ(cudaDriverGetVersion(&value), cudaSuccess);
    EXPECT_EQ(value, driver ? CUDART_VERSION : 0);
    EXPECT_EQ(cudaGetLastError(), expected);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }
}

TEST_F(RuntimeFaults, NoKernelImage) {
  Faults faults;
  faults.no_kernel_image = true;
  inject(faults);
  cudaFuncAttributes a{};
  EXPECT_EQ(cudaFuncGetAttributes(&a, kernel()), cudaErrorNoKernelImageForDevice);
  EXPECT_EQ(launch_on(nullptr, {}, [] {}), cudaErrorNoKernelImageForDevice);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // it does not stay
}

TEST_F(RuntimeFaults, TheNthAllocationFails) {
  for (const bool host : {false, true}) {
    Faults faults;
    (host ? faults.host_allocation : faults.device_allocation) = 2;
    inject(faults);
    void* p[3] = {};
    const auto allocate = [host](void** out) {
      return host ? cudaMallocHost(out, 4) : cudaMallocAsync(out, 4, nullptr);
    };
    EXPECT_EQ(allocate(&p[0]), cudaSuccess);
    EXPECT_EQ(allocate(&p[1]), cudaErrorMemoryAllocation);
    EXPECT_EQ(allocate(&p[2]), cudaSuccess);
    for (void* const q : {p[0], p[2]}) {
      EXPECT_EQ(host ? cudaFreeHost(q) : cudaFree(q), cudaSuccess);
    }
  }
}

TEST_F(RuntimeFaults, AFailedLaunchStays) {
  for (const Order order : {Order::kImmediate, Order::kDeferred}) {
    Settings s;
    s.devices = 2;
    s.order = order;
    reset_runtime(s);
    Faults faults;
    faults.launch = 2;
    faults.launch_error = cudaErrorMisalignedAddress;
    inject(faults);
    int ran = 0;
    void* const d = device_memory(4);
    EXPECT_EQ(launch_on(nullptr, {}, [&] { ++ran; }), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(launch_on(nullptr, {}, [&] { ++ran; }), cudaSuccess);  // it fails when it runs
    EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorMisalignedAddress);
    EXPECT_EQ(ran, 1);
    EXPECT_EQ(launch_on(nullptr, {}, [] {}), cudaErrorMisalignedAddress);
    EXPECT_EQ(cudaFree(d), cudaErrorMisalignedAddress);
    EXPECT_EQ(cudaGetLastError(), cudaErrorMisalignedAddress);
    EXPECT_EQ(cudaGetLastError(), cudaErrorMisalignedAddress);
    EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
    EXPECT_EQ(launch_on(nullptr, {}, [&] { ++ran; }), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(ran, 2);
  }
}

TEST_F(RuntimeFaults, AKernelThatFailsLosesTheDevice) {
  EXPECT_EQ(launch_on(nullptr, {}, [] { fail_kernel({"a.cu", 7}, "planted"); }), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  EXPECT_THAT(last_error(), HasSubstr("planted"));
}

TEST_F(RuntimeFaults, TheEnvironmentSetsThem) {
  setenv("ATTNGRAPH_EMU_FAULT", "no-driver,launch=3", 1);
  const Faults faults = faults_from_environment();
  EXPECT_TRUE(faults.no_driver);
  EXPECT_EQ(faults.launch, 3);
  for (const char* wrong : {"no-drivers", "launch", "launch=x", "launch=-1"}) {
    setenv("ATTNGRAPH_EMU_FAULT", wrong, 1);
    EXPECT_THROW(faults_from_environment(), std::invalid_argument) << wrong;
  }
  unsetenv("ATTNGRAPH_EMU_FAULT");
  setenv("ATTNGRAPH_EMU_DEVICES", "3", 1);
  setenv("ATTNGRAPH_EMU_DEVICE", "12.0", 1);
  setenv("ATTNGRAPH_EMU_DEFER", "random:9", 1);
  setenv("ATTNGRAPH_EMU_MEMORY", "5000", 1);
  const Settings s = settings_from_environment();
  EXPECT_EQ(s.devices, 3);
  EXPECT_EQ(s.compute_capability, 120);
  EXPECT_EQ(s.order, Order::kRandom);
  EXPECT_EQ(s.seed, 9u);
  EXPECT_EQ(s.memory_bytes, 5000u);
  setenv("ATTNGRAPH_EMU_DEVICE", "eight", 1);
  EXPECT_THROW(settings_from_environment(), std::invalid_argument);
  for (const char* name : {"DEVICES", "DEVICE", "DEFER", "MEMORY"}) {
    unsetenv((std::string("ATTNGRAPH_EMU_") + name).c_str());
  }
}

TEST_F(RuntimeFaults, ErrorsHaveNamesAndTexts) {
  EXPECT_STREQ(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
  EXPECT_STREQ(cudaGetErrorName(static_cast<cudaError_t>(12345)), "unrecognized error code");
}

}  // namespace
}  // namespace ag::emu
