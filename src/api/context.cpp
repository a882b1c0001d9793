// SPDX-License-Identifier: Apache-2.0
#include <attngraph/attngraph.h>

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <type_traits>

#include "../backend/backend.hpp"
#include "../core/control.hpp"
#include "caller_struct.hpp"
#include "guard.hpp"
#include "request.hpp"
#include "result.hpp"
#include "sink.hpp"

struct attngraph_context {
  std::string device_kind;  // "auto", "cpu", "cuda"
  std::atomic<bool> busy{false};
};

namespace ag::api {
namespace {

std::string device_kind(std::string_view device) {
  if (device == "auto" || device == "cpu" || device == "cuda") return std::string(device);
  constexpr std::string_view kNumbered = "cuda:";
  if (device.starts_with(kNumbered)) {
    const std::string_view digits = device.substr(kNumbered.size());
    unsigned number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error == std::errc{} && end == digits.data() + digits.size()) return "cuda";
  }
  fail(Status::kArgument, "there is no device '{}'; say auto, cpu, cuda or cuda:N", device);
}

const Backend& choose_backend(const attngraph_context& context, const attngraph_options& options) {
  if (options.backend == nullptr) return default_backend(context.device_kind);
  const Backend& backend = find_backend(options.backend);
  const std::string reason = backend.unavailable();
  if (!reason.empty()) fail(backend.unavailable_status(), "backend '{}' cannot run here: {}", backend.name(), reason);
  const std::string kind(backend.kind());
  if (context.device_kind != "auto" && context.device_kind != kind) {
    fail(Status::kArgument, "backend '{}' runs on '{}', but the context is for '{}'; make one for '{}' or 'auto'",
         backend.name(), kind, context.device_kind, kind);
  }
  return backend;
}

template <class AnyProblem>
Plan plan_for(const Backend& backend, const AnyProblem& problem, const attngraph_options& options) {
  return make_plan(shape_of(problem), {std::string(backend.name()), options.threads}, backend.device());
}

Control control_of(const attngraph_options& options) {
  std::function<bool()> cancelled;
  std::function<void(double)> progress;
  if (options.cancelled != nullptr)
    cancelled = [ask = options.cancelled, user = options.user] { return ask(user) != 0; };
  if (options.progress != nullptr)
    progress = [tell = options.progress, user = options.user](double fraction) { tell(user, fraction); };
  return {std::move(cancelled), std::move(progress)};
}

// The one way from a problem to rows in a sink.
template <class AnyProblem>
void run(const attngraph_context& context, const AnyProblem& problem, const attngraph_options& options,
         attngraph_sink& sink) {
  sink.require_open();
  sink.require_fitting_tokens(problem.keys());
  const Backend& backend = choose_backend(context, options);
  const Plan plan = plan_for(backend, problem, options);
  Control control = control_of(options);
  control.poll(0);  // a call cancelled before it starts does no work

  CallIntoSink call(sink, facts_of(problem), {}, options.max_edges);
  RunReport report;
  if constexpr (std::is_same_v<AnyProblem, Problem>) {
    report = backend.extract(problem, plan, call, control);
  } else {
    report = backend.filter(problem, plan, call, control);
  }
  call.complete(report);
  if (options.progress != nullptr) options.progress(options.user, 1.0);
}

// Runs `work(context, options)` as a call on the context.
template <class F>
attngraph_status with_context(attngraph_context* context, const attngraph_options* options, F&& work) noexcept {
  return guarded([&] {
    attngraph_context& own = required(context, "context");
    const Occupied busy(own.busy, "context");
    work(own, read_options(options));
  });
}

template <class MakeProblem>
attngraph_status run_to_result(attngraph_context* context, const attngraph_options* options, attngraph_result** result,
                               MakeProblem&& make) noexcept {
  return with_context(context, options, [&](const attngraph_context& own, const attngraph_options& o) {
    required(result, "result");
    attngraph_sink sink(std::make_unique<CollectSink>());
    run(own, make(o), o, sink);
    auto answer = std::make_unique<attngraph_result>();
    answer->graph = sink.take();
    *result = answer.release();
  });
}

template <class MakeProblem>
attngraph_status run_to_sink(attngraph_context* context, const attngraph_options* options, attngraph_sink* sink,
                             MakeProblem&& make) noexcept {
  return with_context(context, options, [&](const attngraph_context& own, const attngraph_options& o) {
    attngraph_sink& open = required(sink, "sink");
    const Occupied busy(open.busy, "sink");
    run(own, make(o), o, open);
  });
}

char* duplicate(const std::string& text) {
  auto* const copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

}  // namespace
}  // namespace ag::api

using namespace ag::api;

attngraph_status attngraph_context_create(attngraph_context** context, const char* device) {
  return guarded([&] {
    required(context, "context");
    auto created = std::make_unique<attngraph_context>();
    created->device_kind = device_kind(&required(device, "device"));
    ag::default_backend(created->device_kind);
    *context = created.release();
  });
}

void attngraph_context_destroy(attngraph_context* context) { delete context; }

attngraph_status attngraph_extract(attngraph_context* context, const attngraph_tensor* q, const attngraph_tensor* k,
                                   const attngraph_options* options, attngraph_result** result) {
  return run_to_result(context, options, result, [&](const attngraph_options& o) { return make_problem(q, k, o); });
}

attngraph_status attngraph_extract_to(attngraph_context* context, const attngraph_tensor* q, const attngraph_tensor* k,
                                      const attngraph_options* options, attngraph_sink* sink) {
  return run_to_sink(context, options, sink, [&](const attngraph_options& o) { return make_problem(q, k, o); });
}

attngraph_status attngraph_filter_matrix(attngraph_context* context, const attngraph_tensor* weights,
                                         const attngraph_options* options, attngraph_result** result) {
  return run_to_result(context, options, result,
                       [&](const attngraph_options& o) { return make_matrix_problem(weights, o); });
}

attngraph_status attngraph_filter_matrix_to(attngraph_context* context, const attngraph_tensor* weights,
                                            const attngraph_options* options, attngraph_sink* sink) {
  return run_to_sink(context, options, sink,
                     [&](const attngraph_options& o) { return make_matrix_problem(weights, o); });
}

attngraph_status attngraph_explain(attngraph_context* context, const attngraph_tensor* q, const attngraph_tensor* k,
                                   const attngraph_options* options, char** text) {
  return with_context(context, options, [&](const attngraph_context& own, const attngraph_options& o) {
    char*& out = required(text, "text");
    const ag::Backend& backend = choose_backend(own, o);
    const auto explain = [&](const auto& problem) {
      out = duplicate(ag::describe(plan_for(backend, problem, o), ag::shape_of(problem)));
    };
    if (k != nullptr) {
      explain(make_problem(q, k, o, Data::kShapesOnly));
    } else {
      explain(make_matrix_problem(q, o, Data::kShapesOnly));
    }
  });
}
