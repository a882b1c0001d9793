// SPDX-License-Identifier: Apache-2.0
#include "tensor_argument.hpp"

#include <algorithm>
#include <string>

#include "../core/checked.hpp"
#include "guard.hpp"

namespace ag::api {
namespace {

DType checked_dtype(const attngraph_tensor& tensor, const TensorRule& rule) {
  std::string names;
  for (const DType allowed : rule.dtypes) {
    if (static_cast<std::int32_t>(allowed) == tensor.dtype) return allowed;
    names += (names.empty() ? "" : ", ") + std::string(name_of(allowed));
  }
  if (!is_dtype(tensor.dtype))
    fail(Status::kDType, "{} has the unknown dtype {}; it may be {}", rule.name, tensor.dtype, names);
  fail(Status::kDType, "{} is {}; it may be {}", rule.name, name_of(static_cast<DType>(tensor.dtype)), names);
}

// The CUDA ordinal, -1 for host memory. Whether the backend reads such memory is asked once it is chosen.
int checked_device(const attngraph_tensor& tensor, const TensorRule& rule) {
  if (tensor.device_type == ATTNGRAPH_DEVICE_CPU) return -1;
  if (tensor.device_type != ATTNGRAPH_DEVICE_CUDA) {
    fail(Status::kArgument, "{} has the unknown device_type {}; it may be {} (host) or {} (CUDA)", rule.name,
         tensor.device_type, static_cast<int>(ATTNGRAPH_DEVICE_CPU), static_cast<int>(ATTNGRAPH_DEVICE_CUDA));
  }
  if (tensor.device_id < 0)
    fail(Status::kArgument, "{}.device_id is {}; CUDA devices are numbered from 0", rule.name, tensor.device_id);
  return tensor.device_id;
}

std::int64_t element_count(const TensorView& view, const char* name) {
  const auto* const end = view.shape.begin() + view.ndim;
  if (std::find(view.shape.begin(), end, 0) != end) return 0;
  std::int64_t count = 1;
  for (const auto* size = view.shape.begin(); size != end; ++size) count = checked_mul(count, *size, name);
  return count;
}

void set_row_major(TensorView& view) {
  std::int64_t stride = 1;
  for (auto d = static_cast<std::size_t>(view.ndim); d-- > 0;) {
    view.strides[d] = stride;
    stride *= view.shape[d];
  }
}

// The addresses of the first and last byte must exist, in 64-bit arithmetic that backends may then do unchecked.
void check_reach(const TensorView& view, const char* name) {
  std::int64_t lowest = 0, highest = 0;  // elements
  for (std::size_t d = 0; d < static_cast<std::size_t>(view.ndim); ++d) {
    const std::int64_t reach = checked_mul(view.shape[d] - 1, view.strides[d], name);
    (reach < 0 ? lowest : highest) = checked_add(reach < 0 ? lowest : highest, reach, name);
  }
  const auto bytes = static_cast<std::int64_t>(size_of(view.dtype));
  const std::int64_t before = checked_mul(lowest, bytes, name);
  const std::int64_t after = checked_mul(checked_add(highest, std::int64_t{1}, name), bytes, name);
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  if (address == 0) return;
  if (std::uintptr_t{0} - static_cast<std::uintptr_t>(before) > address ||
      static_cast<std::uintptr_t>(after) > UINTPTR_MAX - address)
    fail(Status::kShape, "{}: shape and strides reach outside the address space; check them", name);
}

}  // namespace

TensorView tensor_argument(const attngraph_tensor* tensor, const TensorRule& rule) {
  const attngraph_tensor& given = required(tensor, rule.name);
  TensorView view;
  view.dtype = checked_dtype(given, rule);
  view.device = checked_device(given, rule);
  if (given.ndim < rule.min_ndim || given.ndim > rule.max_ndim) {
    fail(Status::kShape, "{} has {} dimensions; it may have {} to {}", rule.name, given.ndim, rule.min_ndim,
         rule.max_ndim);
  }
  if (given.shape == nullptr)
    fail(Status::kArgument, "{}.shape is NULL; it is an array of {} sizes", rule.name, given.ndim);
  view.data = given.data;
  view.ndim = given.ndim;
  for (std::size_t d = 0; d < static_cast<std::size_t>(view.ndim); ++d) {
    if (given.shape[d] < 0)
      fail(Status::kShape, "{}.shape[{}] is {}; a size is not negative", rule.name, d, given.shape[d]);
    view.shape[d] = given.shape[d];
  }
  if (element_count(view, rule.name) > 0) {
    if (given.strides != nullptr) {
      std::copy_n(given.strides, view.ndim, view.strides.begin());
    } else {
      set_row_major(view);
    }
    if (view.data == nullptr && rule.data_needed)
      fail(Status::kArgument, "{}.data is NULL, but its shape is {}", rule.name, shape_text(view));
    check_reach(view, rule.name);
  }
  return with_leading_ones(view, rule.max_ndim);
}

attngraph_tensor tensor_struct(const TensorView& view) {
  const bool on_host = view.device < 0;
  return {view.data,
          on_host ? ATTNGRAPH_DEVICE_CPU : ATTNGRAPH_DEVICE_CUDA,
          on_host ? 0 : view.device,
          static_cast<std::int32_t>(view.dtype),
          view.ndim,
          view.shape.data(),
          view.strides.data()};
}

}  // namespace ag::api
