// SPDX-License-Identifier: Apache-2.0
// The list of backends. Adding one is a folder and a line in backend.cpp; tests, the command line and benchmarks walk
// the list.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "../core/control.hpp"
#include "../core/kept_keys.hpp"
#include "../core/problem.hpp"
#include "../core/row_block.hpp"
#include "../plan/plan.hpp"
#include "device_graph.hpp"

namespace ag {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  // "cpu" or "cuda", known without looking for a device. A "cuda" backend reads host and device memory.
  virtual std::string_view kind() const { return "cpu"; }
  // Empty when it works on this machine, otherwise a sentence why not, and the status of a call that insists.
  virtual std::string unavailable() const { return {}; }
  virtual Status unavailable_status() const { return Status::kNoDevice; }
  virtual DeviceInfo device() const = 0;
  // The same with what matters for one shape: figures that a backend measures once, when they are first of use.
  virtual DeviceInfo device_for(const PlanShape&) const { return device(); }
  // For people: what was measured to choose by; measures what has not been yet.
  virtual std::string choices() const { return {}; }
  // Send every row of the problem to the sink, slice after slice, rows in order. The result does not depend on
  // plan.threads.
  virtual RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control) const = 0;
  virtual RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control) const = 0;

  // Of keys like `k`, whose data nobody reads: a place for keys that this backend finds ready when rows are asked.
  virtual std::unique_ptr<KeptKeys> keep_keys(const TensorView& /*k*/) const {
    fail(Status::kUnsupported, "backend '{}' keeps no keys from call to call", name());
  }

  // These are inline, as all of this class: a plugin has its own copy and takes no symbol from the library.
  // Of "cuda" backends. As extract, but the edges stay in the memory of the plan's first device.
  virtual std::unique_ptr<DeviceGraph> extract_on_device(const Problem&, const Plan&, Control&) const {
    fail(Status::kUnsupported, "backend '{}' keeps its results in host memory; choose a CUDA backend", name());
  }
  // Gives back the device and pinned memory that is kept between calls and that no call uses.
  virtual void release_memory() const {}
  // Of backends that have all scores: the softmax weight of every pair, 0 where it is masked, to `out`: [B, Hq, Nq, Nk]
  // f32, row-major, in host memory or that of the plan's first device. Rows and heads that are not asked for are left
  // as they are.
  virtual RunReport write_weights(const Problem&, const Plan&, const TensorView& /*out*/, Control&) const {
    fail(Status::kUnsupported, "backend '{}' never has all weights at hand; choose cuda_materialised", name());
  }
};

// In order of meaning: "reference" first.
std::span<const Backend* const> backends();

// By name; kArgument lists the names when there is none.
const Backend& find_backend(std::string_view name);

// The best available backend of a device kind ("auto", "cpu", "cuda"); kNoDevice says why there is none.
const Backend& default_backend(std::string_view device_kind);

}  // namespace ag
