// SPDX-License-Identifier: Apache-2.0
// The caller's tensor structs as views: every field checked, nothing read.
#pragma once

#include <attngraph/attngraph.h>

#include <initializer_list>

#include "../core/tensor_view.hpp"

namespace ag::api {

struct TensorRule {
  const char* name;                     // in messages
  int min_ndim, max_ndim;               // leading dimensions of size 1 fill up to max_ndim
  std::initializer_list<DType> dtypes;  // allowed
  bool data_needed = true;              // false: only the shape is asked for
};

inline constexpr std::initializer_list<DType> kFloatTypes{DType::kF64, DType::kF32, DType::kF16, DType::kBF16};
inline constexpr std::initializer_list<DType> kMaskTypes{DType::kBool, DType::kF64, DType::kF32, DType::kF16,
                                                         DType::kBF16};

// [max_ndim] dimensions. All addresses and the number of elements fit.
TensorView tensor_argument(const attngraph_tensor* tensor, const TensorRule& rule);

// The struct of a view; shape and strides point into it.
attngraph_tensor tensor_struct(const TensorView& view);

}  // namespace ag::api
