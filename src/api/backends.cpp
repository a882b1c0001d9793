// SPDX-License-Identifier: Apache-2.0
// The list of backends, as strings that live as long as the process.
#include <attngraph/attngraph.h>

#include <fmt/format.h>

#include <vector>

#include "../backend/backend.hpp"
#include "guard.hpp"

namespace {

struct BackendTexts {
  std::string name, unavailable, device;
};

const std::vector<BackendTexts>& backend_texts() {
  static const std::vector<BackendTexts> texts = [] {
    std::vector<BackendTexts> out;
    for (const ag::Backend* backend : ag::backends()) {
      const ag::DeviceInfo d = backend->device();
      out.push_back({std::string(backend->name()), backend->unavailable(),
                     fmt::format("{}, {}, {} threads, {} KiB L1, {} KiB L2 per core", d.kind, d.target, d.threads,
                                 d.l1_bytes >> 10, d.l2_bytes >> 10)});
    }
    return out;
  }();
  return texts;
}

const BackendTexts* texts_of(std::int32_t i) {
  return ag::api::answer_or<const BackendTexts*>(nullptr, [&]() -> const BackendTexts* {
    const auto& all = backend_texts();
    return i >= 0 && static_cast<std::size_t>(i) < all.size() ? &all[static_cast<std::size_t>(i)] : nullptr;
  });
}

}  // namespace

int32_t attngraph_backend_count(void) { return static_cast<int32_t>(ag::backends().size()); }

const char* attngraph_backend_name(int32_t i) {
  const BackendTexts* texts = texts_of(i);
  return texts != nullptr ? texts->name.c_str() : nullptr;
}

const char* attngraph_backend_unavailable(int32_t i) {
  const BackendTexts* texts = texts_of(i);
  return texts == nullptr             ? "there is no such backend"
         : texts->unavailable.empty() ? nullptr
                                      : texts->unavailable.c_str();
}

const char* attngraph_backend_device(int32_t i) {
  const BackendTexts* texts = texts_of(i);
  return texts != nullptr ? texts->device.c_str() : nullptr;
}
