// SPDX-License-Identifier: Apache-2.0
#include "tensors.hpp"

#include <algorithm>
#include <cstring>

namespace ag::cuda {
namespace {

std::int64_t element_bytes(const TensorView& view) { return static_cast<std::int64_t>(size_of(view.dtype)); }

// Elements [first, first + count) of one row, side by side.
void gather_row(const TensorView& view, const std::byte* row, std::int64_t first, std::int64_t count, std::byte* out) {
  const std::int64_t bytes = element_bytes(view), step = view.strides[3] * bytes;
  const std::byte* from = row + first * step;
  if (step == bytes) {
    std::memcpy(out, from, static_cast<std::size_t>(count * bytes));
    return;
  }
  const auto size = static_cast<std::size_t>(bytes);
  for (std::int64_t n = 0; n < count; ++n) std::memcpy(out + n * bytes, from + n * step, size);
}

}  // namespace

DeviceTensor device_tensor(const TensorView& view, const BlockRange& block, Lane& lane, const Poll& poll) {
  DeviceTensor out;
  out.tensor.dtype = static_cast<std::int32_t>(view.dtype);
  if (block.heads == 0 || block.rows == 0 || block.columns == 0) return out;
  if (view.device >= 0) {
    out.tensor.data = view.at(block.batch, block.first_head, block.first_row);
    out.tensor.stride_head = view.strides[1];
    out.tensor.stride_row = view.strides[2];
    out.tensor.stride_column = view.strides[3];
    return out;
  }
  const std::int64_t heads = view.strides[1] == 0 ? 1 : block.heads, rows = view.strides[2] == 0 ? 1 : block.rows;
  const std::int64_t columns = view.strides[3] == 0 ? 1 : block.columns;
  const std::int64_t bytes = element_bytes(view), row_bytes = columns * bytes;
  const std::int64_t total = checked_mul(checked_mul(heads, rows, "rows to upload"), row_bytes, "bytes to upload");
  out.own = DeviceBuffer<std::byte>(total, lane.stream());
  out.tensor.data = out.own.data();
  out.tensor.stride_column = view.strides[3] == 0 ? 0 : 1;
  out.tensor.stride_row = view.strides[2] == 0 ? 0 : columns;
  out.tensor.stride_head = view.strides[1] == 0 ? 0 : rows * columns;
  lane.upload(out.own.data(), total, bytes, poll, [&](std::byte* to, std::int64_t first, std::int64_t count) {
    for (std::int64_t at = first; at < first + count;) {
      const std::int64_t row = at / row_bytes, inside = at % row_bytes;
      const std::int64_t piece = std::min(row_bytes - inside, first + count - at);
      const std::byte* const from = view.at(block.batch, block.first_head + row / rows, block.first_row + row % rows);
      gather_row(view, from, inside / bytes, piece / bytes, to + (at - first));
      at += piece;
    }
  });
  return out;
}

void Uploads::add(const TensorView& view, const BlockRange& block, AnyTensor* tensor) {
  tensor->dtype = static_cast<std::int32_t>(view.dtype);
  if (block.heads == 0 || block.rows == 0 || block.columns == 0) return;
  const std::byte* const first = view.at(block.batch, block.first_head, block.first_row);
  if (view.device >= 0) {
    tensor->data = first;
    tensor->stride_head = view.strides[1];
    tensor->stride_row = view.strides[2];
    tensor->stride_column = view.strides[3];
    return;
  }
  Item item{&view, block};
  item.block.heads = view.strides[1] == 0 ? 1 : block.heads;
  item.block.rows = view.strides[2] == 0 ? 1 : block.rows;
  item.block.columns = view.strides[3] == 0 ? 1 : block.columns;
  tensor->stride_column = view.strides[3] == 0 ? 0 : 1;
  tensor->stride_row = view.strides[2] == 0 ? 0 : item.block.columns;
  tensor->stride_head = view.strides[1] == 0 ? 0 : item.block.rows * item.block.columns;
  item.bytes = checked_mul(checked_mul(item.block.heads, item.block.rows, "rows to upload"),
                           item.block.columns * element_bytes(view), "bytes to upload");
  item.offset = total_;
  const auto [known, is_new] = known_.try_emplace({first, item.bytes}, items_.size());
  if (is_new) {
    items_.push_back(item);
    total_ += (item.bytes + 255) / 256 * 256;
  }
  waiting_.push_back({tensor, known->second});
}

void Uploads::send(std::uint64_t call, KeptBuffer<std::byte>& memory, Sent& sent, Lane& lane, const Poll& poll) {
  Sent wanted;
  wanted.call = call;
  for (const Item& item : items_) {
    wanted.blocks.push_back({item.view->at(item.block.batch, item.block.first_head, item.block.first_row), item.bytes});
  }
  const bool is_there = sent.call == call && sent.blocks == wanted.blocks;
  if (!is_there) sent = {};
  std::byte* const base = is_there ? memory.data() : memory.resize(total_, lane.stream());
  for (const auto& [tensor, n] : waiting_) tensor->data = base + items_[n].offset;
  if (is_there || total_ == 0) return;
  std::size_t at_item = 0;
  lane.upload(base, total_, 8, poll, [&](std::byte* to, std::int64_t first, std::int64_t count) {
    for (std::int64_t at = first; at < first + count;) {
      while (at_item + 1 < items_.size() && at >= items_[at_item + 1].offset) ++at_item;
      const Item& item = items_[at_item];
      const std::int64_t inside_item = at - item.offset, end = std::min(first + count - item.offset, item.bytes);
      if (inside_item >= item.bytes) {  // between two blocks
        const std::int64_t next = at_item + 1 < items_.size() ? items_[at_item + 1].offset : first + count;
        const std::int64_t gap = std::min(next, first + count) - at;
        std::memset(to + (at - first), 0, static_cast<std::size_t>(gap));
        at += gap;
        continue;
      }
      const std::int64_t bytes = element_bytes(*item.view), row_bytes = item.block.columns * bytes;
      const std::int64_t row = inside_item / row_bytes, inside = inside_item % row_bytes;
      const std::int64_t piece = std::min(row_bytes - inside, end - inside_item);
      const std::byte* const from = item.view->at(item.block.batch, item.block.first_head + row / item.block.rows,
                                                  item.block.first_row + row % item.block.rows);
      gather_row(*item.view, from, inside / bytes, piece / bytes, to + (at - first));
      at += piece;
    }
  });
  sent = std::move(wanted);
}

HostElements::HostElements(const TensorView& view, const std::byte* first, std::int64_t stride, std::int64_t count,
                           Lane& lane)
    : dtype_(view.dtype), first_(first), step_(stride * element_bytes(view)) {
  if (view.device < 0 || count == 0) return;
  const std::int64_t reach = (count - 1) * step_, size = std::abs(reach) + element_bytes(view);
  copy_.resize(static_cast<std::size_t>(size));
  const std::byte* const lowest = reach < 0 ? first + reach : first;
  download(copy_.data(), lowest, size, lane.stream(), "elements of a tensor");
  cuda_check(cudaStreamSynchronize(lane.stream()), "elements of a tensor");
  first_ = copy_.data() + (reach < 0 ? -reach : 0);
}

}  // namespace ag::cuda
