// SPDX-License-Identifier: Apache-2.0
// The list of backends, as strings that live as long as the process.
#include <attngraph/attngraph.h>

#include <fmt/format.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../backend/backend.hpp"
#include "guard.hpp"

namespace {

// One string per backend, each made when it is first asked for: naming a backend looks for no device.
template <class Make>
const char* text_of(std::int32_t i, Make&& make) {
  return ag::api::answer_or<const char*>(nullptr, [&]() -> const char* {
    static std::mutex mutex;
    static std::vector<std::unique_ptr<std::string>> texts(ag::backends().size());
    if (i < 0 || static_cast<std::size_t>(i) >= texts.size()) return nullptr;
    const std::lock_guard lock(mutex);
    std::unique_ptr<std::string>& text = texts[static_cast<std::size_t>(i)];
    if (!text) text = std::make_unique<std::string>(make(*ag::backends()[static_cast<std::size_t>(i)]));
    return text->c_str();
  });
}

std::string describe_device(const ag::Backend& backend) {
  const ag::DeviceInfo d = backend.device();
  if (d.kind != "cpu") return fmt::format("{}, {}", d.kind, d.facts.empty() ? "no plugin" : d.facts);
  const std::string choices = backend.choices();
  return fmt::format("{}, {}, {} threads, {} KiB L1, {} KiB L2 per core{}{}{}{}", d.kind, d.target, d.threads,
                     d.l1_bytes >> 10, d.l2_bytes >> 10, d.facts.empty() ? "" : ", ", d.facts,
                     choices.empty() ? "" : "; ", choices);
}

}  // namespace

int32_t attngraph_backend_count(void) {
  return ag::api::answer_or<int32_t>(0, [] { return static_cast<int32_t>(ag::backends().size()); });
}

const char* attngraph_backend_name(int32_t i) {
  // Names are literals: nothing can fail, and C++ callers make strings of them.
  return ag::api::answer_or<const char*>(nullptr, [i]() -> const char* {
    const auto& all = ag::backends();
    return i >= 0 && static_cast<std::size_t>(i) < all.size() ? all[static_cast<std::size_t>(i)]->name().data()
                                                              : nullptr;
  });
}

const char* attngraph_backend_unavailable(int32_t i) {
  const char* const reason = text_of(i, [](const ag::Backend& backend) { return backend.unavailable(); });
  return reason == nullptr ? "there is no such backend" : *reason == '\0' ? nullptr : reason;
}

const char* attngraph_backend_device(int32_t i) { return text_of(i, describe_device); }
