// SPDX-License-Identifier: Apache-2.0
// Backend `reference`: three plain loops in double on one thread, the meaning of correct. Other backends are held to
// it; it is held to pencil and paper, so it stays readable rather than fast.
#include <cmath>

#include "../backend/backend.hpp"
#include "rows.hpp"

namespace ag {
namespace {

class ReferenceBackend final : public Backend {
 public:
  std::string_view name() const override { return "reference"; }

  DeviceInfo device() const override {
    DeviceInfo info;
    info.kind = "cpu";
    info.target = "double";
    info.threads = 1;
    return info;
  }

  RunReport extract(const Problem& problem, const Plan&, RowSink& sink, Control& control) const override {
    return signed_report(reference::extract_rows(problem, sink, control));
  }

  RunReport filter(const MatrixProblem& problem, const Plan&, RowSink& sink, Control& control) const override {
    return signed_report(reference::filter_rows(problem, sink, control));
  }

 private:
  static RunReport signed_report(RunReport report) {
    report.backend = "reference";
    report.target = "double";
    report.threads = 1;
    return report;
  }
};

}  // namespace

const Backend& reference_backend();
const Backend& reference_backend() {
  static const ReferenceBackend backend;
  return backend;
}

namespace reference {

double checked_mask_bias(const MaskRules& mask, std::int64_t batch, std::int64_t head, std::int64_t i, std::int64_t j) {
  if (!mask.tensor) return 0.0;
  const double bias = mask_bias(mask.tensor.dtype, mask.tensor.at(batch, head, i, j));
  if (std::isnan(bias) || bias == HUGE_VAL) {
    fail(Status::kNonfinite, "mask holds {} at batch {}, head {}, query {}, key {}; a mask is finite or -inf", bias,
         batch, head, i, j);
  }
  return bias;
}

void SumsBuilder::add(std::int64_t i, std::int64_t j, double weight) {
  if (!sums_.received.empty()) sums_.received[static_cast<std::size_t>(j)] += weight;
  if (!sums_.distances.empty()) {
    sums_.distances[static_cast<std::size_t>(i + query_offset_ - j - sums_.distance_begin)] += weight;
  }
}

}  // namespace reference
}  // namespace ag
