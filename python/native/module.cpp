// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "native.hpp"

namespace attngraph_python {
namespace {

// A list of Python exception types, by status; attngraph.errors fills it. Kept by the module.
PyObject* g_error_types = nullptr;

void raise(const attngraph::error& error) {
  const auto status = static_cast<Py_ssize_t>(error.status());
  PyObject* type = PyExc_RuntimeError;
  if (g_error_types != nullptr && status < PyList_GET_SIZE(g_error_types)) {
    type = PyList_GET_ITEM(g_error_types, status);
  }
  // Messages can quote file names and tensor names, which are bytes.
  const std::string_view text = error.what();
  PyObject* message = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (message == nullptr) return;
  PyErr_SetObject(type, message);
  Py_DECREF(message);
}

}  // namespace

void bind_errors(nb::module_& m) {
  m.def(
      "set_error_types",
      [](nb::list types) {
        PyObject* const before = g_error_types;
        g_error_types = types.release().ptr();
        Py_XDECREF(before);
      },
      nb::arg("types"));
  m.def("status_name", [](int status) { return attngraph_status_name(static_cast<attngraph_status>(status)); });
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const attngraph::error& error) {
      raise(error);
    }
  });
}

}  // namespace attngraph_python

// Python's entry is the function below, which asks before nanobind begins.
#define PyInit__native attngraph_init_native
NB_MODULE(_native, m) {
  using namespace attngraph_python;
  bind_errors(m);
  bind_tensor(m);
  bind_file(m);
  bind_run(m);
  bind_result(m);
  bind_device(m);
  m.def("version", [] { return std::string(attngraph::version()); });
  m.def("abi_version", [] { return attngraph::abi_version(); });
  m.def("backends", [] {
    nb::list all;
    for (const attngraph::backend& backend : attngraph::backends()) {
      const nb::object unavailable = backend.unavailable ? nb::cast(*backend.unavailable) : nb::none();
      all.append(nb::make_tuple(backend.name, unavailable, backend.device));
    }
    return all;
  });
}
#undef PyInit__native

// What nanobind knows of types it knows once a process: a second interpreter would take it from the first.
extern "C" NB_EXPORT PyObject* PyInit__native() {
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
    PyErr_SetString(PyExc_ImportError, "attngraph works in the main interpreter of a process, and this is another one");
    return nullptr;
  }
  return attngraph_init_native();
}
