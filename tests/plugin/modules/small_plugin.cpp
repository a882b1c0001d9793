// SPDX-License-Identifier: Apache-2.0
// A plugin with one backend, `cuda_streaming`, that has one answer and one error. WRONG_INTERFACE and WRONG_BUILD make
// it one that must be refused before its backend is looked at.
#include "backend/plugin.hpp"

#include <cstring>

namespace {

class SmallBackend final : public ag::Backend {
 public:
  std::string_view name() const override { return "cuda_streaming"; }
  std::string_view kind() const override { return "cuda"; }
  ag::DeviceInfo device() const override {
    ag::DeviceInfo device;
    device.kind = "cuda";
    device.target = "small";
    device.facts = "a small device";
    return device;
  }
  // One row without keys in every slice, so that what passes the border both ways is seen.
  ag::RunReport extract(const ag::Problem& problem, const ag::Plan&, ag::RowSink& sink,
                        ag::Control& control) const override {
    control.poll(0.5);
    const std::int64_t offsets[] = {0, 0};
    const double nothing = -ag::kInfinity, no_mass = 0;
    const std::int32_t no_key = -1;
    const ag::RowStatsView stats{&nothing, &nothing, &no_mass, nullptr, &no_key, nullptr};
    for (const std::int64_t head : problem.heads) {
      sink.begin_slice({{0, 0, head}, 0, 1, problem.keys()}, ag::DType::kF32);
      sink.rows({0, 1, offsets, nullptr, nullptr, ag::DType::kF32, stats});
      sink.end_slice({});
    }
    ag::RunReport report;
    report.backend = "cuda_streaming";
    return report;
  }
  ag::RunReport filter(const ag::MatrixProblem&, const ag::Plan&, ag::RowSink&, ag::Control&) const override {
    ag::fail(ag::Status::kDeviceOutOfMemory, "{} bytes are too many", 12);
  }
};

const ag::Backend* find(const char* name) {
  static const SmallBackend backend;
  return std::strcmp(name, "cuda_streaming") == 0 ? &backend : nullptr;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const ag::PluginTable* attngraph_cuda_plugin();
extern "C" const ag::PluginTable* attngraph_cuda_plugin() {
#if defined(WRONG_INTERFACE)
  static const ag::PluginTable table{ag::kPluginInterface + 1, ATTNGRAPH_BUILD_IDENTITY, &find};
#elif defined(WRONG_BUILD)
  static const ag::PluginTable table{ag::kPluginInterface, "0.0.9-another", &find};
#else
  static const ag::PluginTable table{ag::kPluginInterface, ATTNGRAPH_BUILD_IDENTITY, &find};
#endif
  return &table;
}
