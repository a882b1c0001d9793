// SPDX-License-Identifier: Apache-2.0
// Files of tensors, and what the library can write and read.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <utility>
#include <vector>

#include "native.hpp"

namespace attngraph_python {
namespace {

using attngraph::file;

// The type of an element as NumPy can name it: bfloat16 is the 16-bit integers of its bits.
nb::dlpack::dtype numpy_dtype(attngraph_dtype dtype) {
  using nb::dlpack::dtype_code;
  const auto bits = static_cast<std::uint8_t>(8 * attngraph_dtype_size(dtype));
  const auto of = [&](dtype_code code) { return nb::dlpack::dtype{static_cast<std::uint8_t>(code), bits, 1}; };
  if (dtype == ATTNGRAPH_BF16) return of(dtype_code::UInt);
  if (dtype == ATTNGRAPH_BOOL) return of(dtype_code::Bool);
  return of(dtype == ATTNGRAPH_I32 || dtype == ATTNGRAPH_I64 ? dtype_code::Int : dtype_code::Float);
}

// An array that keeps the file, and its own bytes, in memory.
nb::object read(nb::handle self, const std::string& name) {
  file& from = nb::cast<file&>(self);
  const attngraph::tensor t = unlocked([&] { return from.read(name); });
  const std::vector<std::size_t> shape(t.shape().begin(), t.shape().end());
  const auto strides = t.strides();
  return nb::cast(nb::ndarray<nb::numpy, nb::ro>(t.data(), shape.size(), shape.data(), self,
                                                 strides.empty() ? nullptr : strides.data(), numpy_dtype(t.dtype())));
}

}  // namespace

void bind_file(nb::module_& m) {
  nb::class_<file>(m, "File")
      .def(nb::init<std::string>(), nb::arg("path"), nb::call_guard<nb::gil_scoped_release>())
      .def("names", &file::names)
      .def("dtype", [](const file& f, const std::string& name) { return attngraph_dtype_name(f.info(name).dtype()); })
      .def("read", [](nb::handle self, const std::string& name) { return read(self, name); });
  // {name: abilities} of the formats of graph files.
  m.def("formats", [] {
    nb::dict all;
    for (const attngraph::graph_format& format : attngraph::graph_formats()) all[format.name] = format.abilities;
    return all;
  });
  m.attr("FORMAT_WHOLE") = ATTNGRAPH_FORMAT_WHOLE;
  m.attr("FORMAT_LABELS") = ATTNGRAPH_FORMAT_LABELS;
}

}  // namespace attngraph_python
