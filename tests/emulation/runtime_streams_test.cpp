// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>

#include "runtime_fixture.hpp"

namespace ag::emu {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class RuntimeStreams : public Runtime {
 protected:
  static void put(void* device, int value) {
    EXPECT_EQ(cudaMemcpy(device, &value, sizeof value, cudaMemcpyHostToDevice), cudaSuccess);
  }
  static void set_on(cudaStream_t stream, void* device, int byte) {
    EXPECT_EQ(cudaMemsetAsync(device, byte, sizeof(int), stream), cudaSuccess);
  }
  static void get_on(cudaStream_t stream, int* host, const void* device) {
    EXPECT_EQ(cudaMemcpyAsync(host, device, sizeof(int), cudaMemcpyDeviceToHost, stream), cudaSuccess);
  }
};

TEST_F(RuntimeStreams, AMissingWaitLeavesOldBytesWhenDeferred) {
  use(Order::kDeferred);
  int host = 7;
  void* const d = device_memory(4);
  const cudaStream_t stream = new_stream();
  set_on(stream, d, 0);
  get_on(stream, &host, d);
  EXPECT_EQ(host, 7);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(host, 0);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeStreams, WorkIsDoneAtOnceWhenImmediate) {
  int host = 7;
  void* const d = device_memory(4);
  const cudaStream_t stream = new_stream();
  set_on(stream, d, 0);
  get_on(stream, &host, d);
  EXPECT_EQ(host, 0);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeStreams, EventsOrderStreams) {
  for (const bool waits : {false, true}) {
    use(Order::kDeferred);
    int host = 7;
    void* const d = device_memory(4);
    put(d, 7);
    const cudaStream_t writer = new_stream(), reader = new_stream();
    cudaEvent_t written = nullptr;
    EXPECT_EQ(cudaEventCreateWithFlags(&written, cudaEventDisableTiming), cudaSuccess);
    set_on(writer, d, 0);
    EXPECT_EQ(cudaEventRecord(written, writer), cudaSuccess);
    if (waits) {
      EXPECT_EQ(cudaStreamWaitEvent(reader, written, 0), cudaSuccess);
    }
    get_on(reader, &host, d);
    EXPECT_EQ(cudaStreamSynchronize(reader), cudaSuccess);
    EXPECT_EQ(host, waits ? 0 : 7);
    EXPECT_EQ(cudaEventDestroy(written), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(writer), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(reader), cudaSuccess);
    EXPECT_EQ(cudaFree(d), cudaSuccess);
  }
}

TEST_F(RuntimeStreams, TheDefaultStreamWaitsForBlockingStreamsOnly) {
  for (const unsigned flags : {cudaStreamDefault, cudaStreamNonBlocking}) {
    use(Order::kDeferred);
    int host = 0;
    void* const d = device_memory(4);
    put(d, 7);
    const cudaStream_t stream = new_stream(flags);
    set_on(stream, d, 0);
    EXPECT_EQ(cudaMemcpy(&host, d, 4, cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(host, flags == cudaStreamDefault ? 0 : 7);
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    EXPECT_EQ(cudaFree(d), cudaSuccess);
  }
}

TEST_F(RuntimeStreams, AskingGetsWorkDone) {
  use(Order::kDeferred);
  void* const d = device_memory(4);
  const cudaStream_t stream = new_stream();
  EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
  set_on(stream, d, 0);
  set_on(stream, d, 1);
  int asked = 0;
  while (cudaStreamQuery(stream) == cudaErrorNotReady) ++asked;
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // not ready is no error
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeStreams, ADestroyedStreamEndsItsWork) {
  use(Order::kDeferred);
  int host = 7;
  void* const d = device_memory(4);
  const cudaStream_t stream = new_stream();
  set_on(stream, d, 0);
  get_on(stream, &host, d);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(host, 7);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(host, 0);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(reported(), HasSubstr("no stream, or no longer"));
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeStreams, EventsKnowTime) {
  use(Order::kDeferred);
  cudaEvent_t begin = nullptr, end = nullptr, untimed = nullptr;
  EXPECT_EQ(cudaEventCreate(&begin), cudaSuccess);
  EXPECT_EQ(cudaEventCreate(&end), cudaSuccess);
  EXPECT_EQ(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming), cudaSuccess);
  float ms = -1;
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaEventRecord(begin, nullptr), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(end, nullptr), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaErrorNotReady);
  EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(begin), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, end), cudaSuccess);
  EXPECT_GE(ms, 0);
  EXPECT_EQ(cudaEventRecord(untimed, nullptr), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(untimed), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&ms, begin, untimed), cudaErrorInvalidResourceHandle);
  for (const cudaEvent_t event : {begin, end, untimed}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(begin), cudaErrorInvalidResourceHandle);
  EXPECT_THAT(reported(), HasSubstr("no event, or no longer"));
}

TEST_F(RuntimeStreams, StreamOrderedMemoryFollowsItsStream) {
  for (const Order order : {Order::kImmediate, Order::kDeferred, Order::kRandom}) {
    use(order);
    const cudaStream_t own = new_stream(), other = new_stream();
    cudaEvent_t event = nullptr;
    EXPECT_EQ(cudaEventCreate(&event), cudaSuccess);

    void* p = nullptr;
    EXPECT_EQ(cudaMallocAsync(&p, 4, own), cudaSuccess);
    set_on(other, p, 1);  // nothing says that it comes after
    EXPECT_THAT(reported(), HasSubstr("which exists in the order of that stream only"));
    EXPECT_EQ(cudaFreeAsync(p, own), cudaSuccess);
    EXPECT_THAT(reported(), HasSubstr("without waiting for cudaMemsetAsync"));

    EXPECT_EQ(cudaMallocAsync(&p, 4, own), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(event, own), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(other, event, 0), cudaSuccess);
    set_on(other, p, 1);
    EXPECT_EQ(cudaEventRecord(event, other), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(own, event, 0), cudaSuccess);
    EXPECT_EQ(cudaFreeAsync(p, own), cudaSuccess);
    EXPECT_THAT(reported(), IsEmpty());

    EXPECT_EQ(cudaMallocAsync(&p, 4, own), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(own), cudaSuccess);
    set_on(other, p, 1);
    EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
    EXPECT_EQ(cudaFreeAsync(p, own), cudaSuccess);
    EXPECT_THAT(reported(), IsEmpty());
    EXPECT_EQ(cudaMemsetAsync(p, 1, 4, own), cudaErrorInvalidValue);
    EXPECT_THAT(reported(), HasSubstr("freed by cudaFreeAsync on stream"));

    EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(own), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(runtime_counters().device_bytes, 0u);
  }
}

TEST_F(RuntimeStreams, QueuedFreesMakeRoom) {
  Settings s;
  s.order = Order::kDeferred;
  s.memory_bytes = 100;
  reset_runtime(s);
  void* p = nullptr;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(cudaMallocAsync(&p, 60, nullptr), cudaSuccess);
    EXPECT_EQ(cudaFreeAsync(p, nullptr), cudaSuccess);
  }
  EXPECT_LE(runtime_counters().device_bytes_peak, 100u);
}

TEST_F(RuntimeStreams, KernelArgumentsAreLookedAt) {
  const cudaStream_t own = new_stream(), other = new_stream();
  void* p = nullptr;
  EXPECT_EQ(cudaMallocAsync(&p, 64, own), cudaSuccess);
  EXPECT_EQ(launch_on(other, {nullptr, static_cast<char*>(p) + 8}, [] {}), cudaSuccess);
  EXPECT_THAT(reported(), HasSubstr("a_kernel on stream"));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaFreeAsync(p, own), cudaSuccess);
  EXPECT_EQ(launch_on(own, {p}, [] { FAIL() << "the launch has run"; }), cudaSuccess);
  EXPECT_THAT(reported(), HasSubstr("a_kernel, argument 0 at byte 0: the 64 bytes of cudaMallocAsync"));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
}

TEST_F(RuntimeStreams, HostFunctionsRunInOrderAndMayNotCallCuda) {
  use(Order::kDeferred);
  struct Seen {
    int value = 7, host = 7;
    cudaError_t code = cudaSuccess;
  } seen;
  void* const d = device_memory(4);
  const cudaStream_t stream = new_stream();
  set_on(stream, d, 0);
  get_on(stream, &seen.host, d);
  const auto function = [](void* data) {
    auto& s = *static_cast<Seen*>(data);
    s.value = s.host;
    s.code = cudaDeviceSynchronize();
  };
  EXPECT_EQ(cudaLaunchHostFunc(stream, function, &seen), cudaSuccess);
  EXPECT_EQ(seen.value, 7);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(seen.value, 0);
  EXPECT_EQ(seen.code, cudaErrorNotPermitted);
  EXPECT_THAT(reported(), HasSubstr("inside of a host function"));
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  EXPECT_EQ(cudaFree(d), cudaSuccess);
}

TEST_F(RuntimeStreams, HostThreadsShareTheDevice) {
  use(Order::kRandom);
  const auto work = [] {
    const cudaStream_t stream = new_stream();
    for (int i = 0; i < 50; ++i) {
      int host = -1;
      void* p = nullptr;
      EXPECT_EQ(cudaMallocAsync(&p, 4, stream), cudaSuccess);
      set_on(stream, p, 0);
      get_on(stream, &host, p);
      EXPECT_EQ(cudaFreeAsync(p, stream), cudaSuccess);
      EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      EXPECT_EQ(host, 0);
    }
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  };
  std::thread first(work), second(work);
  first.join();
  second.join();
}

TEST_F(RuntimeStreams, StreamsHaveFlagsAndPriorities) {
  int least = 0, greatest = 0, priority = 1, device = -1;
  unsigned flags = 0;
  EXPECT_EQ(cudaDeviceGetStreamPriorityRange(&least, &greatest), cudaSuccess);
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest - 3), cudaSuccess);
  EXPECT_EQ(cudaStreamGetPriority(stream, &priority), cudaSuccess);
  EXPECT_EQ(priority, greatest);
  EXPECT_EQ(cudaStreamGetFlags(stream, &flags), cudaSuccess);
  EXPECT_EQ(flags, unsigned{cudaStreamNonBlocking});
  EXPECT_EQ(cudaStreamGetDevice(stream, &device), cudaSuccess);
  EXPECT_EQ(device, 0);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
  EXPECT_EQ(cudaStreamIsCapturing(stream, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, 64), cudaErrorInvalidValue);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

}  // namespace
}  // namespace ag::emu
