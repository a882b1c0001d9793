// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/string.h>

#include <memory>
#include <utility>
#include <vector>

#include "native.hpp"

namespace attngraph_python {
namespace {

using Array = nb::ndarray<nb::ro>;
using Dims = std::vector<std::int64_t>;

// DLPack's numbers for memory that the host can read: CPU, CUDA host, CUDA managed.
constexpr int kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13;

[[noreturn]] void fail(attngraph_status status, const std::string& message) { throw attngraph::error(status, message); }

Array array_of(nb::handle object, const std::string& name) {
  Array array;
  if (!nb::try_cast(object, array, false)) {
    fail(ATTNGRAPH_ERROR_DTYPE, name + " is " + nb::cast<std::string>(nb::str(nb::handle(object.type()))) +
                                    ", which gives no array by DLPack or the buffer protocol");
  }
  return array;
}

attngraph_dtype dtype_of(const Array& array, const std::string& name, bool as_bfloat16) {
  using nb::dlpack::dtype_code;
  const nb::dlpack::dtype given = array.dtype();
  const auto is = [&](dtype_code code, int bits) {
    return given.lanes == 1 && given.code == static_cast<std::uint8_t>(code) && given.bits == bits;
  };
  if (as_bfloat16 && is(dtype_code::UInt, 16)) return ATTNGRAPH_BF16;
  if (is(dtype_code::Float, 64)) return ATTNGRAPH_F64;
  if (is(dtype_code::Float, 32)) return ATTNGRAPH_F32;
  if (is(dtype_code::Float, 16)) return ATTNGRAPH_F16;
  if (is(dtype_code::Bfloat, 16)) return ATTNGRAPH_BF16;
  if (is(dtype_code::Bool, 8)) return ATTNGRAPH_BOOL;
  if (is(dtype_code::Int, 32)) return ATTNGRAPH_I32;
  if (is(dtype_code::Int, 64)) return ATTNGRAPH_I64;
  fail(ATTNGRAPH_ERROR_DTYPE, name + " has an element type (DLPack code " + std::to_string(given.code) + ", " +
                                  std::to_string(given.bits) +
                                  " bits) that is not supported; convert it to float16, bfloat16, float32 or float64");
}

attngraph::tensor view_of(const Array& array, const std::string& name, bool as_bfloat16) {
  const Dims shape(array.shape_ptr(), array.shape_ptr() + array.ndim());
  const Dims strides(array.stride_ptr(), array.stride_ptr() + array.ndim());
  attngraph::tensor view(array.data(), dtype_of(array, name, as_bfloat16), shape, strides);
  const int device = array.device_type();
  if (device != kCpu && device != kCudaHost && device != kCudaManaged) {
    if (device != kCuda) {
      fail(ATTNGRAPH_ERROR_UNSUPPORTED,
           name + " is on a device of DLPack type " + std::to_string(device) + "; copy it to the host first");
    }
    view.on_device(ATTNGRAPH_DEVICE_CUDA, array.device_id());
  }
  return view;
}

attngraph::tensor with_dims(const attngraph::tensor& t, const void* data, const Dims& shape, const Dims& strides) {
  attngraph::tensor view(data, t.dtype(), shape, strides);
  view.on_device(static_cast<attngraph_device_type>(t.c()->device_type), t.c()->device_id);
  return view;
}

std::size_t bytes_of(attngraph_dtype dtype) {
  switch (dtype) {
    case ATTNGRAPH_F64:
    case ATTNGRAPH_I64: return 8;
    case ATTNGRAPH_F32:
    case ATTNGRAPH_I32: return 4;
    case ATTNGRAPH_F16:
    case ATTNGRAPH_BF16: return 2;
    case ATTNGRAPH_BOOL: return 1;
  }
  return 1;
}

Dims dims_of(attngraph::tensor::dims dims) { return Dims(dims.begin(), dims.end()); }

nb::tuple tuple_of(attngraph::tensor::dims dims) {
  nb::list all;
  for (const std::int64_t n : dims) all.append(n);
  return nb::tuple(all);
}

// A list (or tuple) of rows as an array [rows, columns] of double; none unless every row is a list or tuple of the same
// number of floats. NumPy asks each element what it is, which takes ten times as long as reading it.
nb::object floats_of(nb::handle nested) {
  const auto is_row = [](PyObject* o) { return PyList_CheckExact(o) || PyTuple_CheckExact(o); };
  if (!is_row(nested.ptr())) return nb::none();
  const Py_ssize_t rows = PySequence_Fast_GET_SIZE(nested.ptr());
  if (rows == 0) return nb::none();
  PyObject* const* const row = PySequence_Fast_ITEMS(nested.ptr());
  for (Py_ssize_t i = 0; i < rows; ++i)
    if (!is_row(row[i]) || PySequence_Fast_GET_SIZE(row[i]) != PySequence_Fast_GET_SIZE(row[0])) return nb::none();
  const Py_ssize_t columns = PySequence_Fast_GET_SIZE(row[0]);
  auto values =
      std::make_unique<double[]>(static_cast<std::size_t>(rows * columns));  // no Python code runs from here on
  double* to = values.get();
  for (Py_ssize_t i = 0; i < rows; ++i) {
    PyObject* const* const cell = PySequence_Fast_ITEMS(row[i]);
    for (Py_ssize_t j = 0; j < columns; ++j) {
      if (!PyFloat_CheckExact(cell[j])) return nb::none();
      *to++ = PyFloat_AS_DOUBLE(cell[j]);
    }
  }
  const std::size_t shape[2] = {static_cast<std::size_t>(rows), static_cast<std::size_t>(columns)};
  double* const data = values.release();
  const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<double*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, double>(data, 2, shape, owner));
}

}  // namespace

Tensor::Tensor(nb::handle array, std::string name, bool as_bfloat16)
    : array_(array_of(array, name)), name_(std::move(name)), view_(view_of(array_, name_, as_bfloat16)) {}

Tensor Tensor::swapped(std::int64_t a, std::int64_t b) const {
  Dims shape = dims_of(view_.shape()), strides = dims_of(view_.strides());
  const auto i = static_cast<std::size_t>(a), j = static_cast<std::size_t>(b);
  if (a < 0 || b < 0 || std::max(i, j) >= shape.size()) {
    fail(ATTNGRAPH_ERROR_SHAPE, name_ + " has " + std::to_string(shape.size()) + " dimensions; too few to exchange " +
                                    std::to_string(a) + " and " + std::to_string(b));
  }
  std::swap(shape[i], shape[j]);
  std::swap(strides[i], strides[j]);
  return Tensor(*this, with_dims(view_, view_.data(), shape, strides));
}

Tensor Tensor::at(std::int64_t i) const {
  Dims shape = dims_of(view_.shape()), strides = dims_of(view_.strides());
  if (shape.empty() || i < 0 || i >= shape[0]) {
    fail(ATTNGRAPH_ERROR_SHAPE, name_ + " has no element " + std::to_string(i) + " on its first axis");
  }
  const auto* const bytes = static_cast<const char*>(view_.data());
  const char* const data = bytes + i * strides[0] * static_cast<std::int64_t>(bytes_of(view_.dtype()));
  shape.erase(shape.begin());
  strides.erase(strides.begin());
  return Tensor(*this, with_dims(view_, data, shape, strides));
}

void bind_tensor(nb::module_& m) {
  m.def("floats_of", &floats_of, nb::arg("nested").none());
  nb::class_<Tensor>(m, "Tensor")
      .def(nb::init<nb::handle, std::string, bool>(), nb::arg("array"), nb::arg("name"), nb::arg("as_bfloat16") = false)
      .def("swapped", &Tensor::swapped, nb::arg("a"), nb::arg("b"))
      .def("at", &Tensor::at, nb::arg("i"))
      .def_prop_ro("shape", [](const Tensor& t) { return tuple_of(t.view().shape()); })
      .def_prop_ro("strides", [](const Tensor& t) { return tuple_of(t.view().strides()); })
      .def_prop_ro("dtype", [](const Tensor& t) { return static_cast<int>(t.view().dtype()); })
      .def_prop_ro("address", [](const Tensor& t) { return reinterpret_cast<std::uintptr_t>(t.view().data()); });
}

}  // namespace attngraph_python
