// SPDX-License-Identifier: Apache-2.0
// The CUDA backends as the list has them: names that stand for what the plugin holds, opened when first asked.
#include <fmt/format.h>

#include "backend.hpp"
#include "plugin_loader.hpp"

namespace ag {
namespace {

class PluginBackend final : public Backend {
 public:
  explicit PluginBackend(const char* name) : name_(name) {}

  std::string_view name() const override { return name_; }
  std::string_view kind() const override { return "cuda"; }

  std::string unavailable() const override {
    const Backend* const own = find();
    if (own != nullptr) return own->unavailable();
    const Plugin& plugin = cuda_plugin();
    return plugin.table == nullptr ? plugin.problem : fmt::format("'{}' has no backend {}", plugin.path, name_);
  }

  Status unavailable_status() const override {
    const Backend* const own = find();
    return own != nullptr ? own->unavailable_status() : Status::kNoDevice;
  }

  DeviceInfo device() const override {
    const Backend* const own = find();
    DeviceInfo device;
    device.kind = "cuda";
    device.target = "none";
    if (own != nullptr) {
      device = own->device();
      device.facts = fmt::format("plugin {}, {}", cuda_plugin().path, device.facts);
    }
    return device;
  }

  RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control) const override {
    return required().extract(problem, plan, sink, control);
  }
  RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control) const override {
    return required().filter(problem, plan, sink, control);
  }
  std::unique_ptr<DeviceGraph> extract_on_device(const Problem& problem, const Plan& plan,
                                                 Control& control) const override {
    return required().extract_on_device(problem, plan, control);
  }
  RunReport write_weights(const Problem& problem, const Plan& plan, const TensorView& out,
                          Control& control) const override {
    return required().write_weights(problem, plan, out, control);
  }

  void release_memory() const override {
    const Backend* const own = find();
    if (own != nullptr) own->release_memory();
  }

 private:
  const Backend* find() const {
    const PluginTable* const table = cuda_plugin().table;
    return table != nullptr ? table->find(name_) : nullptr;
  }
  const Backend& required() const {
    const Backend* const own = find();
    if (own == nullptr) fail(Status::kNoDevice, "backend '{}' cannot run here: {}", name_, unavailable());
    return *own;
  }

  const char* const name_;
};

}  // namespace

const Backend& cuda_materialised_backend();
const Backend& cuda_materialised_backend() {
  static const PluginBackend backend("cuda_materialised");
  return backend;
}

const Backend& cuda_streaming_backend();
const Backend& cuda_streaming_backend() {
  static const PluginBackend backend("cuda_streaming");
  return backend;
}

}  // namespace ag
