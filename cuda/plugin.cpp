// SPDX-License-Identifier: Apache-2.0
// The plugin's one entry: a table that libattngraph checks before it uses anything else (src/backend/plugin.hpp).
#include "../src/backend/plugin.hpp"

#include <string_view>

#include "materialised/cublas.hpp"
#include "matrix/filter.hpp"
#include "run/batch_run.hpp"
#include "run/device_answer.hpp"
#include "run/devices.hpp"
#include "run/extract.hpp"
#include "run/team.hpp"
#include "stages/passes.hpp"

namespace ag::cuda {
namespace {

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(const ScorePass& pass) : pass_(pass) {}

  std::string_view name() const override { return pass_.name(); }
  std::string_view kind() const override { return "cuda"; }
  std::string unavailable() const override { return obstacle().sentence; }
  Status unavailable_status() const override {
    const Status status = obstacle().status;
    return status == Status::kOk ? Status::kNoDevice : status;
  }
  DeviceInfo device() const override { return device_info(); }

  RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control) const override {
    require_devices();
    return signed_report(noticing_loss([&] { return cuda::extract(pass_, problem, plan, sink, control); }));
  }
  RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control) const override {
    require_devices();
    return signed_report(noticing_loss([&] { return cuda::filter(problem, plan, sink, control); }));
  }
  std::unique_ptr<DeviceGraph> extract_on_device(const Problem& problem, const Plan& plan,
                                                 Control& control) const override {
    require_devices();
    auto graph = noticing_loss([&] { return cuda::extract_on_device(pass_, problem, plan, control); });
    graph->report = signed_report(graph->report);
    return graph;
  }

  void release_memory() const override {
    if (obstacle().status != Status::kOk) return;
    release_idle_lanes();
    release_idle_results();
  }

 protected:
  RunReport signed_report(RunReport report) const {
    report.backend = std::string(name());
    report.target = devices().info.target;
    return report;
  }

  const ScorePass& pass_;
};

class Materialised final : public CudaBackend {
 public:
  Materialised() : CudaBackend(materialised_pass()) {}
  std::string unavailable() const override {
    const std::string other = CudaBackend::unavailable();
    return other.empty() ? cublas_missing() : other;
  }
  // cuBLAS takes 0.1 s and 200 MiB to open: for those alone who mean this backend, and where it could work.
  DeviceInfo device() const override {
    DeviceInfo info = CudaBackend::device();
    if (!CudaBackend::unavailable().empty()) return info;
    info.facts += ", cuBLAS: " + (cublas_missing().empty() ? cublas_description() : cublas_missing());
    return info;
  }
  RunReport write_weights(const Problem& problem, const Plan& plan, const TensorView& out,
                          Control& control) const override {
    require_devices();
    return signed_report(noticing_loss([&] { return cuda::write_weights(pass_, problem, plan, out, control); }));
  }
};

const Backend* find(const char* name) {
  static const Materialised materialised;
  static const CudaBackend streaming(streaming_pass());
  for (const CudaBackend* backend : {static_cast<const CudaBackend*>(&materialised), &streaming}) {
    if (backend->name() == std::string_view(name)) return backend;
  }
  return nullptr;
}

}  // namespace
}  // namespace ag::cuda

extern "C" __attribute__((visibility("default"))) const ag::PluginTable* attngraph_cuda_plugin();
extern "C" const ag::PluginTable* attngraph_cuda_plugin() {
  static constexpr ag::PluginTable table{ag::kPluginInterface, ATTNGRAPH_BUILD_IDENTITY, &ag::cuda::find};
  return &table;
}
