// SPDX-License-Identifier: Apache-2.0
// Graphs in the memory of a CUDA device. Their arrays speak DLPack; who reads them says on which stream.
#include "native.hpp"

namespace attngraph_python {
namespace {

using attngraph::device_result;

template <class T>
nb::object array(const T* values, std::int64_t count, std::int32_t device, nb::handle owner) {
  const auto size = static_cast<std::size_t>(count);
  // Not marked as read-only: importers that know no such mark refuse what has it.
  return nb::cast(nb::ndarray<nb::array_api, T, nb::ndim<1>>(const_cast<T*>(values), {size}, owner, {}, nb::dtype<T>(),
                                                             nb::device::cuda::value, device));
}

}  // namespace

void bind_device(nb::module_& m) {
  nb::class_<device_result>(m, "DeviceResult")
      .def_prop_ro("device", [](const device_result& r) { return r.csr().device_id; })
      .def_prop_ro("slice_count", [](const device_result& r) { return r.csr().slice_count; })
      .def_prop_ro("row_count", [](const device_result& r) { return r.csr().row_count; })
      .def_prop_ro("edge_count", [](const device_result& r) { return r.csr().edge_count; })
      .def("arrays",
           [](nb::handle self) {
             const attngraph_device_csr csr = nb::cast<const device_result&>(self).csr();
             return nb::make_tuple(array(csr.offsets, csr.row_count + 1, csr.device_id, self),
                                   array(csr.keys, csr.edge_count, csr.device_id, self),
                                   array(csr.weights, csr.edge_count, csr.device_id, self));
           })
      // The stream's handle as a number; 0: the caller waits.
      .def(
          "wait", [](const device_result& r, std::uintptr_t stream) { r.wait(reinterpret_cast<void*>(stream)); },
          nb::arg("stream"), nb::call_guard<nb::gil_scoped_release>())
      .def("to_host", &device_result::to_host, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace attngraph_python
