// SPDX-License-Identifier: Apache-2.0
// Arrays of six numbers, and files that must be refused.
#pragma once

#include "core/dtype.hpp"
#include "io_support.hpp"

namespace ag::io_test {

inline std::vector<double> values_of(const TensorView& view) {
  std::vector<double> values;
  std::vector<std::int64_t> index(static_cast<std::size_t>(view.ndim), 0);
  std::int64_t count = 1;
  for (int d = 0; d < view.ndim; ++d) count *= view.shape[static_cast<std::size_t>(d)];
  for (std::int64_t n = 0; n < count; ++n) {
    std::int64_t rest = n, offset = 0;
    for (auto d = static_cast<std::size_t>(view.ndim); d-- > 0;) {
      offset += rest % view.shape[d] * view.strides[d];
      rest /= view.shape[d];
    }
    values.push_back(load_double(
        view.dtype, static_cast<const char*>(view.data) + offset * static_cast<std::int64_t>(size_of(view.dtype))));
  }
  return values;
}

inline const std::vector<double> kCount = {0, 1, 2, 3, 4, 5};

inline const std::string kArray = npy(npy_dict("<f4", "(2, 3)"), raw(std::vector<float>{0, 1, 2, 3, 4, 5}));

struct Broken {
  const char* what;
  std::string bytes;
  Status status;
  std::string text;  // in the message
};

inline void expect_refused(const std::vector<Broken>& cases) {
  const TempDir dir;
  for (const Broken& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string path = dir.write("bad.bin", c.bytes);
    expect_error(c.status, {"bad.bin'", c.text}, [&] {
      const auto file = open_tensor_file(path);
      for (const std::string& name : file->names()) file->read(name);
    });
  }
}

}  // namespace ag::io_test
