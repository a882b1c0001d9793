// SPDX-License-Identifier: Apache-2.0
// Keys that are kept from call to call.
#include <attngraph/attngraph.h>

#include <cstring>
#include <memory>

#include "../core/kept_keys.hpp"
#include "caller_struct.hpp"
#include "context.hpp"
#include "guard.hpp"
#include "request.hpp"
#include "result.hpp"
#include "tensor_argument.hpp"

struct attngraph_session {
  attngraph_context context;
  std::int64_t window = 0;
  std::int64_t capacity = 0;
  ag::Nonfinite nonfinite = ag::Nonfinite::kError;
  std::unique_ptr<ag::KeptKeys> keys;  // null: none came yet
  std::atomic<bool> busy{false};
};

namespace ag::api {
namespace {

constexpr auto kSessionStarts = ATTNGRAPH_FIELD_STARTS(
    attngraph_session_options, nonfinite, offsetof(attngraph_session_options, window),
    offsetof(attngraph_session_options, capacity), offsetof(attngraph_session_options, nonfinite));

// Runs `work(session)` as a call on the session.
template <class F>
attngraph_status with_session(attngraph_session* session, F&& work) noexcept {
  return guarded([&] {
    attngraph_session& own = required(session, "session");
    const Occupied busy(own.busy, "session");
    work(own);
  });
}

TensorView keys_argument(const attngraph_tensor* k) {
  const TensorView view = tensor_argument(k, {"k", 2, 4, kFloatTypes});
  if (view.device >= 0)
    fail(Status::kUnsupported, "k is in the memory of CUDA device {}; a session keeps keys on the host: copy it there",
         view.device);
  return view;
}

bool is_alike(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape[0] == b.shape[0] && a.shape[1] == b.shape[1] && a.shape[3] == b.shape[3];
}

void require_alike(const TensorView& k, const TensorView& kept) {
  if (k.dtype != kept.dtype)
    fail(Status::kDType, "k is {}, but the session keeps {}; convert it, or begin a new session", name_of(k.dtype),
         name_of(kept.dtype));
  if (!is_alike(k, kept))
    fail(Status::kShape,
         "k is {}, but the session keeps [{}, {}, N, {}]; a session has one number of sequences and heads and one D",
         shape_text(k), kept.shape[0], kept.shape[1], kept.shape[3]);
}

void append(attngraph_session& session, const TensorView& k) {
  if (session.keys == nullptr) {
    if (k.shape[0] < 1 || k.shape[1] < 1)
      fail(Status::kShape, "k is {}; a session keeps the keys of at least one sequence and head", shape_text(k));
    if (k.shape[3] < 1 || k.shape[3] > kLargestHeadDim)
      fail(Status::kShape, "the head size D is {}; it is 1 to {}", k.shape[3], kLargestHeadDim);
  } else {
    require_alike(k, session.keys->view());
  }
  const std::int64_t count = session.keys == nullptr ? 0 : session.keys->count();
  if (k.shape[2] > kMaxKeys - count)
    fail(Status::kShape, "the session has {} keys and would get {} more; the limit is {}", count, k.shape[2], kMaxKeys);
  if (session.keys == nullptr) {
    auto keys = find_backend("cpu").keep_keys(k);
    if (session.capacity > 0) keys->reserve(session.capacity);
    keys->append(k, session.nonfinite);
    session.keys = std::move(keys);
    return;
  }
  session.keys->append(k, session.nonfinite);
  // What the first row of this append can still see stays.
  if (session.window > 0 && count >= session.window) session.keys->drop_before(count - session.window + 1);
}

std::int64_t common(const KeptKeys& keys, const TensorView& k) {
  const TensorView kept = keys.view();
  if (keys.first() > 0 || !is_alike(k, kept)) return 0;
  const std::int64_t count = std::min(keys.count(), k.shape[2]);
  const std::size_t size = size_of(k.dtype), bytes = static_cast<std::size_t>(k.shape[3]) * size;
  const auto same_key = [&](std::int64_t b, std::int64_t h, std::int64_t j) {
    if (k.strides[3] == 1) return std::memcmp(kept.at(b, h, j), k.at(b, h, j), bytes) == 0;
    for (std::int64_t d = 0; d < k.shape[3]; ++d)
      if (std::memcmp(kept.at(b, h, j, d), k.at(b, h, j, d), size) != 0) return false;
    return true;
  };
  for (std::int64_t j = 0; j < count; ++j) {
    for (std::int64_t b = 0; b < k.shape[0]; ++b) {
      for (std::int64_t h = 0; h < k.shape[1]; ++h)
        if (!same_key(b, h, j)) return j;
    }
  }
  return count;
}

// Keys that were dropped are read by nobody.
void require_kept(const attngraph_session& session, const Problem& problem, const attngraph_options& o) {
  const std::int64_t first = session.keys->first();
  if (first == 0) return;
  const bool elsewhere = session.context.device_kind == "cuda" || problem.q.device >= 0 ||
                         (o.backend != nullptr && std::strcmp(o.backend, "cpu") != 0);
  if (elsewhere || o.decision == ATTNGRAPH_DECISION_CERTIFIED) {
    fail(Status::kUnsupported,
         "the session has dropped the keys before {}, and {} reads all keys; make one without a window", first,
         elsewhere ? "another backend than cpu" : "decision certified");
  }
  for (std::int64_t b = 0; b < problem.batch() && problem.query_begin < problem.query_end; ++b) {
    const KeyRange seen = problem.mask.range(b, problem.query_begin, problem.keys());
    if (seen.size() > 0 && seen.begin < first) {
      fail(
          Status::kArgument,
          "query {} sees keys from {} on, but the session has dropped those before {}: its window is {}, and rows must "
          "have one that is not larger, and ask for the keys appended last",
          problem.query_begin, seen.begin, first, session.window);
    }
  }
}

void rows(attngraph_session& session, const attngraph_tensor* q, const attngraph_options* options,
          attngraph_sink& sink) {
  if (session.keys == nullptr)
    fail(Status::kArgument, "the session has no keys; append those of the first positions, then ask for their rows");
  const attngraph_options o = read_options(options);
  const TensorView kept = session.keys->view();
  const attngraph_tensor k = tensor_struct(kept);
  Problem problem = make_problem(q, &k, o);
  require_kept(session, problem, o);
  problem.kept = session.keys.get();
  answer(session.context, problem, o, sink);
}

}  // namespace
}  // namespace ag::api

using namespace ag::api;

attngraph_status attngraph_session_create(const attngraph_context* context, const attngraph_session_options* options,
                                          attngraph_session** session) {
  return guarded([&] {
    const attngraph_context& of = required(context, "context");
    required(session, "session");
    const attngraph_session_options defaults = ATTNGRAPH_SESSION_OPTIONS_INIT;
    const attngraph_session_options o =
        read_struct(options, defaults, "options", "ATTNGRAPH_SESSION_OPTIONS_INIT", kSessionStarts);
    if (o.window < 0) ag::fail(ag::Status::kArgument, "window is {}; it is at least 1, or 0 for none", o.window);
    if (o.capacity < 0 || o.capacity > kMaxKeys)
      ag::fail(ag::Status::kArgument, "capacity is {}; it is 0 to {} keys", o.capacity, kMaxKeys);
    check_switch(o.nonfinite, "nonfinite");
    auto made = std::make_unique<attngraph_session>();
    made->context.device_kind = of.device_kind;
    made->context.device = of.device;
    made->window = o.window;
    made->capacity = o.capacity;
    made->nonfinite = o.nonfinite == ATTNGRAPH_NONFINITE_SKIP ? ag::Nonfinite::kSkip : ag::Nonfinite::kError;
    *session = made.release();
  });
}

void attngraph_session_destroy(attngraph_session* session) { delete session; }

attngraph_status attngraph_session_append(attngraph_session* session, const attngraph_tensor* k) {
  return with_session(session, [&](attngraph_session& own) { append(own, keys_argument(k)); });
}

attngraph_status attngraph_session_common(attngraph_session* session, const attngraph_tensor* k, int64_t* count) {
  return with_session(session, [&](attngraph_session& own) {
    const ag::TensorView view = keys_argument(k);
    required(count, "count") = own.keys == nullptr ? 0 : common(*own.keys, view);
  });
}

attngraph_status attngraph_session_truncate(attngraph_session* session, int64_t count) {
  return with_session(session, [&](attngraph_session& own) {
    const std::int64_t first = own.keys == nullptr ? 0 : own.keys->first();
    const std::int64_t keys = own.keys == nullptr ? 0 : own.keys->count();
    if (count < first || count > keys)
      ag::fail(ag::Status::kArgument, "count is {}; the session keeps keys {} to {}", count, first, keys);
    if (own.keys != nullptr) own.keys->truncate(count);
  });
}

attngraph_status attngraph_session_rows(attngraph_session* session, const attngraph_tensor* q,
                                        const attngraph_options* options, attngraph_result** result) {
  return with_session(session, [&](attngraph_session& own) {
    required(result, "result");
    attngraph_sink sink(std::make_unique<ag::CollectSink>());
    rows(own, q, options, sink);
    auto answer = std::make_unique<attngraph_result>();
    answer->graph = sink.take();
    *result = answer.release();
  });
}

attngraph_status attngraph_session_rows_to(attngraph_session* session, const attngraph_tensor* q,
                                           const attngraph_options* options, attngraph_sink* sink) {
  return with_session(session, [&](attngraph_session& own) {
    attngraph_sink& open = required(sink, "sink");
    const Occupied busy(open.busy, "sink");
    rows(own, q, options, open);
  });
}

attngraph_status attngraph_session_describe(attngraph_session* session, attngraph_session_info* info) {
  return with_session(session, [&](attngraph_session& own) {
    attngraph_session_info& out = required(info, "info");
    out = {};
    if (own.keys != nullptr) out = {own.keys->count(), own.keys->first(), own.keys->bytes(), own.keys->packed_bytes()};
  });
}
