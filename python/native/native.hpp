// SPDX-License-Identifier: Apache-2.0
// attngraph._native: the C++ face of the library as Python objects, one to one. What is convenient stands in Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <attngraph/attngraph.hpp>

#include <cstdint>
#include <string>

namespace attngraph_python {

namespace nb = nanobind;

// A view of an array of any library that speaks DLPack or the buffer protocol; it keeps the array alive.
class Tensor {
 public:
  // name is for messages. as_bfloat16: the 16-bit integers are bfloat16 (NumPy cannot say so itself).
  Tensor(nb::handle array, std::string name, bool as_bfloat16);
  // With axes a and b exchanged; nothing moves.
  Tensor swapped(std::size_t a, std::size_t b) const;
  // Element i of the first axis.
  Tensor at(std::int64_t i) const;
  const attngraph::tensor& view() const { return view_; }
  const nb::ndarray<nb::ro>& array() const { return array_; }

 private:
  Tensor(const Tensor& other, const attngraph::tensor& view) : array_(other.array_), name_(other.name_), view_(view) {}
  nb::ndarray<nb::ro> array_;
  std::string name_;
  attngraph::tensor view_;
};

void bind_errors(nb::module_& m);
void bind_tensor(nb::module_& m);
void bind_file(nb::module_& m);
void bind_run(nb::module_& m);
void bind_device(nb::module_& m);
void bind_result(nb::module_& m);
// Tables about graphs, and graphs out of graphs.
void bind_questions(nb::class_<attngraph::result>& graph);

// Without the GIL: work that reads every edge.
template <class F>
auto unlocked(F&& work) {
  const nb::gil_scoped_release no_gil;
  return work();
}

}  // namespace attngraph_python
