// SPDX-License-Identifier: Apache-2.0
#include <attngraph/attngraph.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "../core/control.hpp"
#include "../exact/certifying_sink.hpp"
#include "../plan/cost.hpp"
#include "caller_struct.hpp"
#include "context.hpp"
#include "device_result.hpp"
#include "guard.hpp"
#include "request.hpp"
#include "result.hpp"
#include "token_ids.hpp"

namespace {

// Contexts that have used a backend which keeps memory.
std::atomic<int> users{0};

}  // namespace

void attngraph_context::note_use(const ag::Backend& backend) const {
  if (used == nullptr) ++users;
  used = &backend;
}

attngraph_context::~attngraph_context() {
  if (used != nullptr && --users == 0) used->release_memory();
}

namespace ag::api {
namespace {

void set_device(attngraph_context& context, std::string_view device) {
  if (device == "auto" || device == "cpu" || device == "cuda") {
    context.device_kind = device;
    return;
  }
  constexpr std::string_view kNumbered = "cuda:";
  if (device.starts_with(kNumbered)) {
    const std::string_view digits = device.substr(kNumbered.size());
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), context.device);
    if (error == std::errc{} && end == digits.data() + digits.size() && context.device >= 0) {
      context.device_kind = "cuda";
      return;
    }
  }
  fail(Status::kArgument, "there is no device '{}'; say auto, cpu, cuda or cuda:N", device);
}

// The one that is asked for, or the best of the context's devices.
const Backend& choose_backend(const attngraph_context& context, const attngraph_options& options) {
  const Backend& backend =
      options.backend == nullptr ? default_backend(context.device_kind) : find_backend(options.backend);
  if (backend.kind() == "cuda") context.note_use(backend);
  if (options.backend == nullptr) return backend;
  const std::string reason = backend.unavailable();
  if (!reason.empty()) fail(backend.unavailable_status(), "backend '{}' cannot run here: {}", backend.name(), reason);
  const std::string kind(backend.kind());
  if (context.device_kind != "auto" && context.device_kind != kind) {
    fail(Status::kArgument, "backend '{}' runs on '{}', but the context is for '{}'; make one for '{}' or 'auto'",
         backend.name(), kind, context.device_kind, kind);
  }
  return backend;
}

void require_device(const Backend& backend, int device) {
  const std::vector<int> usable = backend.device().devices;
  if (std::find(usable.begin(), usable.end(), device) == usable.end()) {
    fail(Status::kNoDevice, "there is no usable CUDA device {}; backend '{}' has {}", device, backend.name(),
         fmt::join(usable, ", "));
  }
}

// A view of the request and what messages call it.
struct NamedView {
  const char* name;
  const TensorView& view;
};
std::vector<NamedView> views_of(const Problem& p) {
  return {{"q", p.q}, {"k", p.k}, {"mask", p.mask.tensor}, {"sinks", p.sinks}, {"lse", p.logsumexp}};
}
std::vector<NamedView> views_of(const MatrixProblem& p) { return {{"weights", p.weights}, {"mask", p.mask.tensor}}; }

bool is_on_device(const std::vector<NamedView>& views) {
  return std::any_of(views.begin(), views.end(), [](const NamedView& v) { return v.view && v.view.device >= 0; });
}

// Device memory is read where it is, by a backend that can.
void check_places(const attngraph_context& context, const Backend& backend, const std::vector<NamedView>& views) {
  int device = context.device;
  for (const auto& [name, view] : views) {
    if (!view || view.device < 0) continue;
    if (backend.kind() != "cuda") {
      fail(Status::kUnsupported,
           "{} is in the memory of CUDA device {}; backend '{}' reads host memory: copy it there, or choose a CUDA "
           "backend",
           name, view.device, backend.name());
    }
    if (device < 0) require_device(backend, view.device);
    if (device >= 0 && view.device != device) {
      fail(Status::kArgument, "{} is in the memory of CUDA device {}, but the call works on device {}; copy it there",
           name, view.device, device);
    }
    device = view.device;
  }
}

template <class AnyProblem>
Plan plan_for(const attngraph_context& context, const Backend& backend, const AnyProblem& problem,
              const attngraph_options& options) {
  check_places(context, backend, views_of(problem));
  PlanOptions how;
  how.backend = backend.name();
  how.threads = options.threads;
  how.pair_products = options.products == ATTNGRAPH_PRODUCTS_AUTO;
  how.device = context.device;
  how.workspace_bytes = options.workspace_bytes;
  const PlanShape shape = shape_of(problem);
  if (backend.kind() == "cuda" && shape.head_dim > kMaxHeadDim) {
    fail(Status::kUnsupported, "the head size D is {}; backend '{}' takes 1 to {}, the CPU more", shape.head_dim,
         backend.name(), kMaxHeadDim);
  }
  return make_plan(shape, how, backend.device_for(shape));
}

struct Choice {
  const Backend* backend = nullptr;
  std::string estimate;  // that it was chosen by; empty when there was no choice
};

// Where nothing was asked for by name and the inputs are in host memory, the side that is expected to answer first.
// `forgone` is the context's, or a copy.
template <class AnyProblem>
Choice choose_for(const attngraph_context& context, const attngraph_options& options, const AnyProblem& problem,
                  double& forgone) {
  const bool free = context.device_kind == "auto" && options.backend == nullptr && !is_on_device(views_of(problem));
  if (!free) return {&choose_backend(context, options), {}};
  if constexpr (std::is_same_v<AnyProblem, Problem>) {
    if (problem.kept != nullptr) return {&default_backend("cpu"), {}};  // it has the keys ready
  }
  const PlanShape shape = shape_of(problem);
  const Backend& cpu = default_backend("cpu");
  const Cost of_cpu = cost_of(plan_for(context, cpu, problem, options), shape, cpu.device());
  if (of_cpu.total() < kTooShortToAsk) return {&cpu, "less than it takes to look for a GPU"};
  if (default_backend("auto").kind() != "cuda" || shape.head_dim > kMaxHeadDim) return {&cpu, {}};
  const Backend& cuda = choose_backend(context, options);
  const Cost of_cuda = cost_of(plan_for(context, cuda, problem, options), shape, cuda.device());
  const bool prefers = prefers_cuda(of_cpu, of_cuda, forgone);
  return {prefers ? &cuda : &cpu, describe(of_cpu, of_cuda, std::string(cuda.name()))};
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

// Whether the CPU may answer in place of a CUDA device that failed: when neither was asked for by name and the input is
// where the CPU can read it.
bool may_fall_back(const attngraph_context& context, const attngraph_options& options, const Backend& backend,
                   const std::vector<NamedView>& views, const Error& error) {
  switch (error.status()) {
    case Status::kDeviceOutOfMemory:
    case Status::kNoDevice:
    case Status::kDeviceLost:
    case Status::kForked:
    case Status::kUnsupported: break;
    default: return false;
  }
  return context.device_kind == "auto" && options.backend == nullptr && backend.kind() == "cuda" &&
         !is_on_device(views);
}

int host_threads(const Plan& plan, const attngraph_options& options) {
  if (plan.threads > 0) return plan.threads;  // 0 for CUDA
  return options.threads > 0 ? options.threads : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

// A sink looks at the caller's wishes during this call, and not after it.
class PollOfCall {
 public:
  PollOfCall(GraphSink& sink, Control& control) : sink_(sink) {
    sink_.set_poll([&control] { control.poll(); });
  }
  ~PollOfCall() { sink_.set_poll({}); }
  PollOfCall(const PollOfCall&) = delete;
  PollOfCall& operator=(const PollOfCall&) = delete;

 private:
  GraphSink& sink_;
};

RunReport certified_answer(const attngraph_context& context, const Backend& backend, const Problem& problem,
                           const attngraph_options& options, RowSink& to, Control& control) {
  exact::require_certifiable(problem);
  const Problem asked = exact::relaxed(problem);
  const Plan plan = plan_for(context, backend, asked, options);
  exact::CertifyingSink certifying(problem, host_threads(plan, options), to, control);
  return certifying.report(backend.extract(asked, plan, certifying, control));
}

// The one way from a problem to rows in a sink.
template <class AnyProblem>
void run(const attngraph_context& context, const AnyProblem& problem, const attngraph_options& options,
         attngraph_sink& sink) {
  sink.require_open();
  sink.require_fitting_words(problem.batch(), problem.keys(), problem.queries());
  const Backend& backend = *choose_for(context, options, problem, context.forgone).backend;
  Control control = control_of(options);
  control.poll(0);  // a call cancelled before it starts does no work

  const PollOfCall polled(*sink.target, control);
  if (auto* const collecting = dynamic_cast<CollectSink*>(sink.target.get())) {
    collecting->expect(problem.batch() * static_cast<std::int64_t>(problem.heads.size()),
                       problem.query_end - problem.query_begin);
  }
  CallIntoSink call(sink, facts_of(problem), nullptr, options.max_edges);
  TokenIds ids;
  if (problem.stats.tokens) {
    ids = token_ids(options, sink.own.tokens.common(), problem.batch(), problem.keys());
    if (is_on_device(views_of(problem)))
      fail(Status::kUnsupported, "attention by tokens is summed on the host; copy the inputs there");
  }
  const auto answer_by = [&](const Backend& chosen) {
    const Plan plan = plan_for(context, chosen, problem, options);
    std::unique_ptr<RowSink> summed;
    if (problem.stats.tokens) summed = with_token_sums(problem, ids, host_threads(plan, options), control, call);
    RowSink& rows = summed ? *summed : call;
    if constexpr (std::is_same_v<AnyProblem, Problem>) {
      if (options.decision == ATTNGRAPH_DECISION_CERTIFIED)
        return certified_answer(context, chosen, problem, options, rows, control);
      return chosen.extract(problem, plan, rows, control);
    } else {
      return chosen.filter(problem, plan, rows, control);
    }
  };
  RunReport report;
  std::string failure;  // of a device that was nobody's choice
  try {
    report = answer_by(backend);
  } catch (const Error& error) {
    if (call.began() || !may_fall_back(context, options, backend, views_of(problem), error)) throw;
    failure = error.what();
  }
  if (!failure.empty()) {
    const Backend& other = default_backend("cpu");
    report = answer_by(other);
    report.note = fmt::format("{} answered because {} failed: {}", other.name(), backend.name(), failure);
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

void answer(const attngraph_context& context, const Problem& problem, const attngraph_options& options,
            attngraph_sink& sink) {
  run(context, problem, options, sink);
}

}  // namespace ag::api

using namespace ag::api;

attngraph_status attngraph_context_create(attngraph_context** context, const char* device) {
  return guarded([&] {
    required(context, "context");
    auto created = std::make_unique<attngraph_context>();
    set_device(*created, &required(device, "device"));
    // On "auto" something always answers; whether that is a GPU is asked when there is work for one.
    if (created->device_kind != "auto") {
      const ag::Backend& best = ag::default_backend(created->device_kind);
      if (created->device >= 0) require_device(best, created->device);
    }
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

attngraph_status attngraph_extract_on_device(attngraph_context* context, const attngraph_tensor* q,
                                             const attngraph_tensor* k, const attngraph_options* options,
                                             attngraph_device_result** result) {
  return with_context(context, options, [&](const attngraph_context& own, const attngraph_options& o) {
    required(result, "result");
    const ag::Backend& backend = choose_backend(own, o);
    const ag::Problem problem = make_problem(q, k, o);
    if (problem.stats.tokens)
      ag::fail(ag::Status::kUnsupported, "attention by tokens is summed on the host; use attngraph_extract");
    if (o.decision == ATTNGRAPH_DECISION_CERTIFIED) {
      ag::fail(ag::Status::kUnsupported,
               "decision certified decides on the host, and these edges stay on the device; take decision fast, or "
               "attngraph_extract");
    }
    const ag::Plan plan = plan_for(own, backend, problem, o);
    ag::Control control = control_of(o);
    control.poll(0);
    auto answer = std::make_unique<attngraph_device_result>();
    answer->graph = backend.extract_on_device(problem, plan, control);
    answer->facts = facts_of(problem);
    if (o.max_edges > 0 && static_cast<std::uint64_t>(answer->graph->edges) > o.max_edges) {
      ag::fail(ag::Status::kLimit, "the call has {} edges; max_edges is {}", answer->graph->edges, o.max_edges);
    }
    *result = answer.release();
  });
}

attngraph_status attngraph_write_weights(attngraph_context* context, const attngraph_tensor* q,
                                         const attngraph_tensor* k, const attngraph_options* options,
                                         const attngraph_tensor* weights) {
  return with_context(context, options, [&](const attngraph_context& own, const attngraph_options& o) {
    const ag::Backend& backend = choose_backend(own, o);
    const ag::Problem problem = make_problem(q, k, o);
    const ag::TensorView out = weights_to_write(weights, problem);
    const ag::Plan plan = plan_for(own, backend, problem, o);
    if (out.device >= 0 && (plan.cuda.devices.size() == 0 || out.device != plan.cuda.devices.front())) {
      ag::fail(
          ag::Status::kArgument, "weights is in the memory of CUDA device {}, but the call works on {}", out.device,
          plan.cuda.devices.empty() ? std::string("the host") : fmt::format("device {}", plan.cuda.devices.front()));
    }
    ag::Control control = control_of(o);
    control.poll(0);
    backend.write_weights(problem, plan, out, control);
  });
}

attngraph_status attngraph_explain(attngraph_context* context, const attngraph_tensor* q, const attngraph_tensor* k,
                                   const attngraph_options* options, char** text) {
  return with_context(context, options, [&](const attngraph_context& own, const attngraph_options& o) {
    char*& out = required(text, "text");
    const auto explain = [&](const auto& problem) {
      double forgone = own.forgone;
      const Choice choice = choose_for(own, o, problem, forgone);
      std::string plan = ag::describe(plan_for(own, *choice.backend, problem, o), ag::shape_of(problem));
      if (!choice.estimate.empty()) plan += fmt::format("{:<20}{}\n", "chosen by time", choice.estimate);
      out = duplicate(plan);
    };
    if (k != nullptr) {
      explain(make_problem(q, k, o, Data::kShapesOnly));
    } else {
      explain(make_matrix_problem(q, o, Data::kShapesOnly));
    }
  });
}
