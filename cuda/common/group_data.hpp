// SPDX-License-Identifier: Apache-2.0
// What all chunks of a group share on one device: its queries and keys, their lengths, the precision that they need.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "band.hpp"
#include "extract_job.hpp"
#include "lane.hpp"
#include "tensors.hpp"

namespace ag::cuda {

struct GroupData {
  std::int64_t key_count = 0;               // keys that exist
  DeviceTensor q;                           // [heads from the first to the last of the group][Nq][D]
  DeviceTensor k;                           // [key_count][D]
  std::vector<double> q_norms;              // [heads of the group][Nq]; NaN: the query holds NaN or infinity
  DeviceBuffer<double> d_q_norms;           // the same
  std::int64_t bad_keys = 0;                // keys that hold NaN or infinity
  std::vector<std::uint8_t> bad_key_flags;  // [keys], empty when there is none
  DeviceBuffer<std::uint8_t> d_bad_keys;    // the same
  double key_norm = 0;                      // largest
  bool in_double = false;                   // single precision cannot hold the band
  BandModel band;                           // of the precision in use
  BandModel band_f64;                       // of rows_f64
  Operands operands;                        // k only; single precision
  DeviceBuffer<std::byte> k_operand;
};

// Looks at all queries and keys of the group and prepares what the score pass needs. Throws kNonfinite (by request) and
// kRange. Waits for the device.
std::unique_ptr<GroupData> load_group(const ExtractJob& job, const Group& group, Lane& lane, const Poll& poll);

// Throws kNonfinite with the place of the first bad value of that row.
[[noreturn]] void fail_nonfinite(const TensorView& tensor, const char* name, std::int64_t b, std::int64_t h,
                                 std::int64_t n, Lane& lane);

// The groups at hand on one device, for its lanes: the first that asks loads, others wait. Kept while they are used,
// the last two a little longer.
class GroupCache {
 public:
  std::shared_ptr<const GroupData> get(std::size_t n, const ExtractJob& job, const Group& group, Lane& lane,
                                       const Poll& poll);

 private:
  struct Entry {
    std::size_t group;
    std::shared_ptr<const GroupData> data;  // null: being loaded
  };

  std::mutex mutex_;
  std::condition_variable loaded_;
  std::deque<Entry> entries_;  // newest last
};

}  // namespace ag::cuda
