// SPDX-License-Identifier: Apache-2.0
// Where calls run, and the one way from a problem to rows in a sink.
#pragma once

#include <attngraph/attngraph.h>

#include <atomic>
#include <string>

#include "../backend/backend.hpp"
#include "../core/problem.hpp"
#include "sink.hpp"

struct attngraph_context {
  std::string device_kind;  // "auto", "cpu", "cuda"
  int device = -1;          // of "cuda:N"
  std::atomic<bool> busy{false};
  mutable double forgone = 0;  // seconds by which CUDA would have been sooner, but for its start (prefers_cuda)
  mutable const ag::Backend* used = nullptr;  // the last one that keeps memory between calls

  // What such backends keep belongs to all contexts that use them, and goes with the last.
  void note_use(const ag::Backend& backend) const;
  ~attngraph_context();
};

namespace ag::api {

void answer(const attngraph_context& context, const Problem& problem, const attngraph_options& options,
            attngraph_sink& sink);

}  // namespace ag::api
