// SPDX-License-Identifier: Apache-2.0
// What devices of a compute capability can hold, from the table "Technical Specifications per Compute Capability" of
// the CUDA C++ Programming Guide.
#pragma once

namespace ag::emu {

struct DeviceLimits {
  int capability;                  // 10 * major + minor
  int shared_bytes_per_processor;  // of which a block gets at most 1 KiB less
  int threads_per_processor;
  int blocks_per_processor;
};

inline constexpr DeviceLimits kDeviceLimits[] = {
    {75, 65536, 1024, 16},   {80, 167936, 2048, 32},  {86, 102400, 1536, 16},  {87, 167936, 1536, 16},
    {89, 102400, 1536, 24},  {90, 233472, 2048, 32},  {100, 233472, 2048, 32}, {103, 233472, 2048, 32},
    {110, 233472, 1536, 24}, {120, 102400, 1536, 24}, {121, 102400, 1536, 24},
};

inline constexpr int kRegistersPerProcessor = 65536;
inline constexpr int kReservedSharedBytes = 1024;  // of every block, from 8.0 on
inline constexpr int kSharedBytesPerBlock = 48 * 1024;
inline constexpr int kThreadsPerBlock = 1024;
inline constexpr int kAssumedRegisters = 128;  // of a thread: g++ compiles no kernel for a GPU

// Unknown capabilities get what 8.0 has.
constexpr DeviceLimits limits_of(int capability) {
  DeviceLimits limits = kDeviceLimits[1];
  for (const DeviceLimits& candidate : kDeviceLimits) {
    if (candidate.capability == capability) limits = candidate;
  }
  return limits;
}

constexpr int shared_bytes_opt_in(int capability) {
  const int all = limits_of(capability).shared_bytes_per_processor;
  return capability < 80 ? all : all - kReservedSharedBytes;
}

}  // namespace ag::emu
