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

// The library's refusals, with the name of the array before them.
template <class View>
attngraph::tensor named(const std::string& name, View&& view) {
  try {
    return view();
  } catch (const attngraph::error& e) {
    fail(e.status(), name + ": " + e.what());
  }
}

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

Tensor Tensor::swapped(std::size_t a, std::size_t b) const {
  return Tensor(*this, named(name_, [&] { return view_.swapped(a, b); }));
}

Tensor Tensor::at(std::int64_t i) const {
  return Tensor(*this, named(name_, [&] { return view_.at(i); }));
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
