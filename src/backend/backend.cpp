// SPDX-License-Identifier: Apache-2.0
#include "backend.hpp"

#include <fmt/format.h>

#include <array>

namespace ag {

// One door per backend, defined in its room.
const Backend& reference_backend();
const Backend& cpu_backend();
const Backend& cuda_materialised_backend();
const Backend& cuda_streaming_backend();

std::span<const Backend* const> backends() {
  static const std::array<const Backend*, 4> list{&reference_backend(), &cpu_backend(), &cuda_materialised_backend(),
                                                  &cuda_streaming_backend()};
  return list;
}

const Backend& find_backend(std::string_view name) {
  std::string names;
  for (const Backend* backend : backends()) {
    if (backend->name() == name) return *backend;
    names += (names.empty() ? "" : ", ") + std::string(backend->name());
  }
  fail(Status::kArgument, "there is no backend '{}'; this library has {}", name, names);
}

const Backend& default_backend(std::string_view device_kind) {
  std::string reasons;
  Status status = Status::kNoDevice;
  // The last one of the list that runs is the best: the order of meaning is also the order of speed.
  for (auto it = backends().rbegin(); it != backends().rend(); ++it) {
    const Backend& backend = **it;
    if (device_kind != "auto" && backend.kind() != device_kind) continue;
    const std::string reason = backend.unavailable();
    if (reason.empty()) return backend;
    reasons += fmt::format("; {}: {}", backend.name(), reason);
    status = backend.unavailable_status();
  }
  fail(status, "no backend runs on device '{}'{}", device_kind,
       reasons.empty() ? "; this library was built without one" : reasons);
}

}  // namespace ag
