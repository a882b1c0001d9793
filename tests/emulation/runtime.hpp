// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime on the CPU, as tests see it: settings, faults to inject, what was found, what was counted. The
// functions of cuda_runtime_api.h themselves are defined in runtime/, against NVIDIA's header.
//
// Device memory is host memory that host code may not touch (under ASan it is poisoned outside of copies and kernels).
// Every call checks its pointers against a map of the allocations, and every use of stream-ordered memory against the
// order that streams, events and waits give. What real hardware would leave undefined is reported; a report that no
// test has taken, or device memory that nobody has freed, makes the process exit with 1.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace ag::emu {

// When work that was put on a stream is done.
enum class Order {
  kImmediate,  // at once
  kDeferred,   // when something waits for it, and no earlier: a missing wait leaves old bytes
  kRandom,     // some at once, some when something waits for it, by seed
};

// ATTNGRAPH_EMU_DEVICES=n, _DEVICE=8.0, _MULTIPROCESSORS=n, _MEMORY=bytes, _DEFER=0|1|random:SEED
struct Settings {
  int devices = 1;
  int compute_capability = 80;  // 10 * major + minor, of every device
  int multiprocessors = 4;
  std::size_t memory_bytes = std::size_t{4} << 30;  // of each device
  Order order = Order::kImmediate;
  std::uint64_t seed = 1;
};
Settings settings_from_environment();  // throws std::invalid_argument, naming the variable

// What goes wrong. The n-th counts from inject() on; 0: never.
// ATTNGRAPH_EMU_FAULT=no-driver,no-device,no-kernel-image,device-allocation=n,host-allocation=n,launch=n,cublas-create
struct Faults {
  bool no_driver = false;              // 35, cudaErrorInsufficientDriver
  bool no_device = false;              // 100, cudaErrorNoDevice
  bool no_kernel_image = false;        // 209, cudaErrorNoKernelImageForDevice, of launches and function attributes
  std::int64_t device_allocation = 0;  // it and no other fails with cudaErrorMemoryAllocation
  std::int64_t host_allocation = 0;
  std::int64_t launch = 0;  // sets launch_error, which every later call on the device returns
  cudaError_t launch_error = cudaErrorIllegalAddress;
  bool cublas_create = false;  // CUBLAS_STATUS_NOT_INITIALIZED
};
Faults faults_from_environment();  // throws std::invalid_argument

// Start anew: no allocation, stream, error, fault or report; handles and device memory from before are invalid.
void reset_runtime(const Settings& settings = settings_from_environment());
Settings settings();
// A device that a kernel has lost works again, with the memory it has: for tests of several failing kernels.
void revive_devices();
void inject(const Faults& faults);
bool cublas_create_fails();

// Breaches of the runtime's rules since the last call, in order. Taken ones are forgiven.
std::vector<std::string> take_reports();
void report(const std::string& text);  // prints it as well

struct RuntimeCounters {
  std::int64_t launches = 0;
  std::int64_t copies = 0;
  std::int64_t host_bytes = 0;  // copied from or to host memory
  std::int64_t device_allocations = 0;
  std::int64_t host_allocations = 0;
  std::int64_t waits = 0;  // of the host: synchronize calls, synchronous copies, events that were asked for until done
  std::size_t device_bytes = 0;
  std::size_t device_bytes_peak = 0;
};
RuntimeCounters runtime_counters(int device = 0);
void reset_peak(int device = 0);  // the peak is what is allocated now

// What lies at an address, for messages: "byte 40 of the 256 of cudaMalloc on device 0".
std::string describe_memory(const void* address);

// For libraries that queue work: a range of memory that it reads or writes.
struct Touch {
  const void* data;
  std::size_t bytes;
  const char* what;  // "A"
  bool writes = false;
};
// Checks the ranges now and queues `run` on the stream. A failure of `run` is the device's sticky error.
cudaError_t queue_work(cudaStream_t stream, const std::string& what, const std::vector<Touch>& touches,
                       std::function<cudaError_t()> run);

}  // namespace ag::emu
