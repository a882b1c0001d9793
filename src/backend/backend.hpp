// SPDX-License-Identifier: Apache-2.0
// The list of backends. Adding one is a folder and a line in backend.cpp; tests, the command line and benchmarks walk
// the list.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "../core/control.hpp"
#include "../core/problem.hpp"
#include "../core/row_block.hpp"
#include "../plan/plan.hpp"

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
  // Send every row of the problem to the sink, slice after slice, rows in order. The result does not depend on
  // plan.threads.
  virtual RunReport extract(const Problem& problem, const Plan& plan, RowSink& sink, Control& control) const = 0;
  virtual RunReport filter(const MatrixProblem& problem, const Plan& plan, RowSink& sink, Control& control) const = 0;
};

// In order of meaning: "reference" first.
std::span<const Backend* const> backends();

// By name; kArgument lists the names when there is none.
const Backend& find_backend(std::string_view name);

// The best available backend of a device kind ("auto", "cpu", "cuda"); kNoDevice says why there is none.
const Backend& default_backend(std::string_view device_kind);

}  // namespace ag
