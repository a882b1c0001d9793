// SPDX-License-Identifier: Apache-2.0
#include "tensor_table.hpp"

#include <algorithm>

#include "../core/error.hpp"
#include "escape.hpp"

namespace ag {

bool TensorTable::add(const std::string& name, TensorEntry entry) {
  if (!index_.emplace(name, entries_.size()).second) return false;
  names_.push_back(name);
  entries_.push_back(std::move(entry));
  data_.emplace_back();
  return true;
}

std::size_t TensorTable::find(const std::string& name) const {
  const auto found = index_.find(name);
  if (found != index_.end()) return found->second;
  constexpr std::size_t kListed = 16;
  std::string list;
  for (std::size_t n = 0; n < std::min(kListed, names_.size()); ++n) {
    if (n > 0) list += ", ";
    list += in_quotes(names_[n], 80);
  }
  if (names_.empty()) list = "none";
  if (names_.size() > kListed) list += fmt::format(" and {} more", names_.size() - kListed);
  fail(Status::kNotFound, "{}: no tensor is named {}; there are: {}", file_, in_quotes(name, 80), list);
}

TensorView TensorTable::info(const std::string& name) const {
  const TensorEntry& entry = entries_[find(name)];
  if (!entry.unsupported.empty()) {
    // The array of an .npy file has no name.
    const std::string what = name.empty() ? "the array" : "tensor " + in_quotes(name, 80);
    fail(Status::kUnsupported, "{}: {} {}", file_, what, entry.unsupported);
  }
  return entry.view;
}

TensorView TensorTable::read(const std::string& name) {
  TensorView view = info(name);
  const std::size_t n = find(name);
  if (!data_[n]) {
    // Never a null pointer: an empty tensor is a tensor.
    auto bytes = std::make_unique_for_overwrite<std::byte[]>(std::max<std::size_t>(entries_[n].bytes, 1));
    load(n, entries_[n], bytes.get());
    data_[n] = std::move(bytes);
  }
  view.data = data_[n].get();
  return view;
}

void TensorTable::release(const std::string& name) {
  if (const auto found = index_.find(name); found != index_.end()) data_[found->second].reset();
}

TensorView view_of_shape(DType dtype, const std::vector<std::int64_t>& shape, bool column_major) {
  TensorView view;
  view.dtype = dtype;
  view.ndim = static_cast<int>(std::max<std::size_t>(shape.size(), 1));
  view.shape[0] = view.strides[0] = 1;
  std::int64_t stride = 1;
  for (std::size_t n = 0; n < shape.size(); ++n) {
    const std::size_t d = column_major ? n : shape.size() - 1 - n;
    view.shape[d] = shape[d];
    view.strides[d] = stride;
    stride *= std::max<std::int64_t>(shape[d], 1);
  }
  return view;
}

}  // namespace ag
