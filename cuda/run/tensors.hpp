// SPDX-License-Identifier: Apache-2.0
// Views of host or device memory as kernels and host code need them: on the device, or a few elements on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "../../src/core/tensor_view.hpp"
#include "../stages/work.hpp"
#include "lane.hpp"

namespace ag::cuda {

// A block of a [B, H, N, M] tensor on the device: element (g, i, j) of the block at g * stride_head + i * stride_row +
// j * stride_column.
struct DeviceTensor {
  AnyTensor tensor;
  DeviceBuffer<std::byte> own;  // empty when the tensor's own memory is used
};

struct BlockRange {
  std::int64_t batch = 0;
  std::int64_t first_head = 0, heads = 0;  // consecutive ones
  std::int64_t first_row = 0, rows = 0;
  std::int64_t columns = 0;
};

// In place when the view is in device memory, else a copy, queued on the lane. Dimensions of stride 0 are copied once.
DeviceTensor device_tensor(const TensorView& view, const BlockRange& block, Lane& lane, const Poll& poll);

// Blocks of host tensors on their way to one piece of device memory, in one stream of copies. A block that two ask for,
// as the mask that all heads share, is sent once. Views in device memory are used in place.
class Uploads {
 public:
  // Fills `tensor` now (device memory) or in send(): until then it must stay where it is.
  void add(const TensorView& view, const BlockRange& block, AnyTensor* tensor);
  // Queued on the lane, to `memory`. When `sent` says that the very same blocks of this call lie there already, nothing
  // is copied.
  struct Sent {
    std::uint64_t call = 0;
    std::vector<std::pair<const void*, std::int64_t>> blocks;  // address and bytes
  };
  void send(std::uint64_t call, KeptBuffer<std::byte>& memory, Sent& sent, Lane& lane, const Poll& poll);

 private:
  struct Item {
    const TensorView* view;
    BlockRange block;  // stride-0 dimensions shrunk to 1
    std::int64_t offset = 0, bytes = 0;
  };
  std::vector<Item> items_;
  std::map<std::pair<const void*, std::int64_t>, std::size_t> known_;  // address and bytes, to the item
  std::vector<std::pair<AnyTensor*, std::size_t>> waiting_;
  std::int64_t total_ = 0;
};

// `count` elements `stride` elements apart, from anywhere, as bytes on the host: element n at data() + n * step().
class HostElements {
 public:
  // Waits for the lane when the memory is the device's.
  HostElements(const TensorView& view, const std::byte* first, std::int64_t stride, std::int64_t count, Lane& lane);
  double operator[](std::int64_t n) const { return load_double(dtype_, first_ + n * step_); }

 private:
  DType dtype_;
  std::vector<std::byte> copy_;
  const std::byte* first_ = nullptr;
  std::int64_t step_ = 0;  // bytes
};

}  // namespace ag::cuda
