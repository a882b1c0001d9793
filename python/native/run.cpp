// SPDX-License-Identifier: Apache-2.0
// Options, contexts and sinks. Every long call runs without the GIL and takes it for a moment now and then to see
// whether Python has a signal waiting.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "native.hpp"

namespace attngraph_python {
namespace {

// Asks Python for signals at most every 50 ms: taking the GIL is not free for the threads that hold it.
class SignalWatch {
 public:
  bool operator()() {
    const auto now = Clock::now();
    if (now - last_ < std::chrono::milliseconds(50)) return false;
    const nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    last_ = Clock::now();
    return false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
};

// The options of a call, and the tensors that they view.
struct Options {
  attngraph::options c;
  std::optional<Tensor> mask, sinks, lse, token_ids, word_ids, alibi;
};

template <class Value, class Set>
auto setter(Set set) {
  return [set](Options& o, Value value) { (o.c.*set)(std::move(value)); };
}

void bind_options(nb::module_& m) {
  using C = attngraph::options;
  nb::class_<Options>(m, "Options")
      .def(nb::init<>())
      .def("threshold", setter<double>(&C::threshold))
      .def("top_k", setter<std::int64_t>(&C::top_k))
      .def("mass", setter<double>(&C::mass))
      .def("max_edges", setter<std::uint64_t>(&C::max_edges))
      .def("allow_dense", setter<bool>(&C::allow_dense))
      .def("scale", setter<double>(&C::scale))
      .def("softcap", setter<double>(&C::softcap))
      .def("causal", setter<bool>(&C::causal))
      .def("query_offset", setter<std::int64_t>(&C::query_offset))
      .def("window", setter<std::int64_t>(&C::window))
      .def("nonfinite_skip",
           [](Options& o, bool skip) { o.c.nonfinite(skip ? ATTNGRAPH_NONFINITE_SKIP : ATTNGRAPH_NONFINITE_ERROR); })
      .def("key_lengths", setter<std::vector<std::int64_t>>(&C::key_lengths))
      .def("stats", setter<std::uint32_t>(&C::stats))
      .def("query_range", [](Options& o, std::int64_t begin, std::int64_t end) { o.c.query_range(begin, end); })
      .def("heads", setter<std::vector<std::int64_t>>(&C::heads))
      .def("layer", setter<std::int64_t>(&C::layer))
      .def("workspace_bytes", setter<std::size_t>(&C::workspace_bytes))
      .def("stream", [](Options& o, std::uintptr_t stream) { o.c.stream(reinterpret_cast<void*>(stream)); })
      .def("backend", [](Options& o, const std::string& name) { o.c.backend(name); })
      .def("threads", setter<std::int32_t>(&C::threads))
      .def("certified",
           [](Options& o, bool on) { o.c.decision(on ? ATTNGRAPH_DECISION_CERTIFIED : ATTNGRAPH_DECISION_FAST); })
      .def("products_in_float",
           [](Options& o, bool on) { o.c.products(on ? ATTNGRAPH_PRODUCTS_FLOAT : ATTNGRAPH_PRODUCTS_AUTO); })
      .def("token_ids", [](Options& o, const Tensor& t) { o.c.token_ids(o.token_ids.emplace(t).view()); })
      .def("word_ids", [](Options& o, const Tensor& t) { o.c.word_ids(o.word_ids.emplace(t).view()); })
      .def("mask", [](Options& o, const Tensor& t) { o.c.mask(o.mask.emplace(t).view()); })
      .def("sinks", [](Options& o, const Tensor& t) { o.c.sinks(o.sinks.emplace(t).view()); })
      .def("alibi", [](Options& o, const Tensor& t) { o.c.alibi(o.alibi.emplace(t).view()); })
      .def("lse", [](Options& o, const Tensor& t, bool base_2) {
        o.c.lse(o.lse.emplace(t).view(), base_2 ? ATTNGRAPH_LSE_BASE_2 : ATTNGRAPH_LSE_BASE_E);
      });
}

// A copy of the options that watches for signals.
attngraph::options watched(const Options& o) {
  attngraph::options how = o.c;
  how.cancelled(SignalWatch());
  return how;
}

void bind_context(nb::module_& m) {
  using attngraph::context;
  nb::class_<context>(m, "Context")
      .def(nb::init<std::string>(), nb::arg("device") = "auto")
      .def(
          "extract",
          [](context& c, const Tensor& q, const Tensor& k, const Options& o, attngraph::sink& to) {
            const attngraph::options how = watched(o);
            const nb::gil_scoped_release no_gil;
            c.extract(q.view(), k.view(), how, to);
          },
          nb::arg("q"), nb::arg("k"), nb::arg("options"), nb::arg("sink"))
      .def(
          "extract_on_device",
          [](context& c, const Tensor& q, const Tensor& k, const Options& o) {
            const attngraph::options how = watched(o);
            const nb::gil_scoped_release no_gil;
            return c.extract_on_device(q.view(), k.view(), how);
          },
          nb::arg("q"), nb::arg("k"), nb::arg("options"))
      .def(
          "filter",
          [](context& c, const Tensor& weights, const Options& o, attngraph::sink& to) {
            const attngraph::options how = watched(o);
            const nb::gil_scoped_release no_gil;
            c.filter(weights.view(), how, to);
          },
          nb::arg("weights"), nb::arg("options"), nb::arg("sink"));
}

void bind_session(nb::module_& m) {
  using attngraph::session;
  nb::class_<session>(m, "Session")
      .def(
          "__init__",
          [](session* self, const attngraph::context& of, std::int64_t window, std::int64_t capacity, bool skip) {
            attngraph_session_options how = ATTNGRAPH_SESSION_OPTIONS_INIT;
            how.window = window;
            how.capacity = capacity;
            how.nonfinite = skip ? ATTNGRAPH_NONFINITE_SKIP : ATTNGRAPH_NONFINITE_ERROR;
            new (self) session(of, how);
          },
          nb::arg("context"), nb::arg("window") = 0, nb::arg("capacity") = 0, nb::arg("nonfinite_skip") = false)
      .def(
          "append",
          [](session& s, const Tensor& k) {
            const nb::gil_scoped_release no_gil;
            s.append(k.view());
          },
          nb::arg("k"))
      .def(
          "common",
          [](session& s, const Tensor& k) {
            const nb::gil_scoped_release no_gil;
            return s.common(k.view());
          },
          nb::arg("k"))
      .def("truncate", &session::truncate, nb::arg("count"))
      .def(
          "rows",
          [](session& s, const Tensor& q, const Options& o, attngraph::sink& to) {
            const attngraph::options how = watched(o);
            const nb::gil_scoped_release no_gil;
            s.rows(q.view(), how, to);
          },
          nb::arg("q"), nb::arg("options"), nb::arg("sink"))
      // keys, first_key, bytes, packed_bytes
      .def("describe", [](session& s) {
        const session::info now = s.describe();
        return nb::make_tuple(now.keys, now.first_key, now.bytes, now.packed_bytes);
      });
}

std::string string_of(nb::bytes text) { return std::string(text.c_str(), text.size()); }

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
const T* column(nb::handle columns, std::size_t i, std::int64_t count) {
  const auto array = nb::cast<Vector<T>>(columns[i], false);
  if (array.shape(0) != static_cast<std::size_t>(count))
    throw attngraph::error(ATTNGRAPH_ERROR_SHAPE, "statistics " + std::to_string(i) + " of the rows have " +
                                                      std::to_string(array.shape(0)) + " elements; there are " +
                                                      std::to_string(count) + " rows");
  return array.data();
}

// slice: batch, layer, head, query_begin, query_count, key_count. rows: the five arrays of attngraph_rows, or None.
void add_slice(attngraph::sink& to, const std::vector<std::int64_t>& slice, const Vector<std::int64_t>& indptr,
               const Vector<std::int32_t>& indices, nb::handle data, nb::handle rows) {
  attngraph_csr csr{};
  csr.batch = slice.at(0);
  csr.layer = slice.at(1);
  csr.head = slice.at(2);
  csr.query_begin = slice.at(3);
  csr.query_count = slice.at(4);
  csr.key_count = slice.at(5);
  csr.edge_count = static_cast<std::int64_t>(indices.shape(0));
  csr.offsets = indptr.data();
  csr.keys = indices.data();
  std::size_t weights = 0;
  if (Vector<float> f32; nb::try_cast(data, f32, false)) {
    csr.weights = f32.data();
    csr.weight_dtype = ATTNGRAPH_F32;
    weights = f32.shape(0);
  } else {
    const auto f64 = nb::cast<Vector<double>>(data, false);
    csr.weights = f64.data();
    csr.weight_dtype = ATTNGRAPH_F64;
    weights = f64.shape(0);
  }
  if (indptr.shape(0) != static_cast<std::size_t>(csr.query_count) + 1 || weights != indices.shape(0))
    throw attngraph::error(ATTNGRAPH_ERROR_SHAPE,
                           "a slice needs indptr of one more than its rows, and as many "
                           "weights as keys");
  if (rows.is_none()) {
    const nb::gil_scoped_release no_gil;
    to.add_slice(csr);
    return;
  }
  attngraph_rows statistics{};
  statistics.logsumexp = column<double>(rows, 0, csr.query_count);
  statistics.maximum = column<double>(rows, 1, csr.query_count);
  statistics.max_key = column<std::int32_t>(rows, 2, csr.query_count);
  statistics.kept_mass = column<double>(rows, 3, csr.query_count);
  statistics.entropy = column<double>(rows, 4, csr.query_count);
  const nb::gil_scoped_release no_gil;
  to.add_slice(csr, &statistics);
}

void bind_sink(nb::module_& m) {
  using attngraph::sink;
  nb::class_<sink>(m, "Sink")
      .def_static("collect", &sink::collect)
      .def_static(
          "file",
          [](const std::string& path, const std::string& format, bool key_to_query, bool labels, bool csv_raw,
             bool rows) {
            return sink::file(path, format, {key_to_query, labels, csv_raw, rows});
          },
          nb::arg("path"), nb::arg("format"), nb::arg("key_to_query"), nb::arg("labels"), nb::arg("csv_raw"),
          nb::arg("rows"))
      .def_static("sweep", [](const std::vector<double>& thresholds) { return sink::sweep(thresholds); })
      .def("set_tokens",
           [](sink& s, nb::list tokens) {
             std::vector<std::string> texts;
             for (nb::handle token : tokens) texts.push_back(string_of(nb::cast<nb::bytes>(token)));
             s.set_tokens(texts);
           })
      .def(
          "set_labels",
          [](sink& s, bool queries, std::int64_t batch, nb::list tokens) {
            std::vector<std::string> texts;
            for (nb::handle token : tokens) texts.push_back(string_of(nb::cast<nb::bytes>(token)));
            s.set_labels(queries ? ATTNGRAPH_QUERIES : ATTNGRAPH_KEYS, batch, texts);
          },
          nb::arg("queries"), nb::arg("batch"), nb::arg("tokens"))
      .def("set_budget", &sink::set_budget, nb::arg("edges"), nb::arg("slice_edges"))
      .def("set_metadata",
           [](sink& s, const std::string& name, const std::string& value) { s.set_metadata(name, value); })
      .def("add_slice", &add_slice, nb::arg("slice"), nb::arg("indptr"), nb::arg("indices"), nb::arg("data"),
           nb::arg("rows").none())
      .def(
          "set_report",
          [](sink& s, std::optional<double> eps, std::optional<std::int64_t> borderline, std::int64_t rows_fp64,
             std::int64_t skipped_nonfinite, const std::string& backend, const std::string& target,
             std::int32_t threads, std::int64_t rows_decided_again, std::int64_t unresolved) {
            attngraph::report report{};
            report.eps = eps.value_or(std::numeric_limits<double>::quiet_NaN());
            report.borderline = borderline.value_or(-1);
            report.rows_fp64 = rows_fp64;
            report.skipped_nonfinite = skipped_nonfinite;
            report.backend = backend.c_str();
            report.target = target.c_str();
            report.threads = threads;
            report.rows_decided_again = rows_decided_again;
            report.unresolved = unresolved;
            s.set_report(report);
          },
          nb::arg("eps").none(), nb::arg("borderline").none(), nb::arg("rows_fp64"), nb::arg("skipped_nonfinite"),
          nb::arg("backend"), nb::arg("target"), nb::arg("threads"), nb::arg("rows_decided_again"),
          nb::arg("unresolved"))
      .def("take_result", &sink::take_result)
      .def("sweep_rows",
           [](const sink& s) {
             nb::list rows;
             for (const attngraph::sweep_row& row : s.sweep_rows())
               rows.append(nb::make_tuple(row.threshold, row.edges, row.kept_mass, row.nodes));
             return rows;
           })
      .def("finish", &sink::finish, nb::call_guard<nb::gil_scoped_release>())
      .def("edge_count", &sink::edge_count);
}

}  // namespace

void bind_run(nb::module_& m) {
  bind_options(m);
  bind_context(m);
  bind_session(m);
  bind_sink(m);
  m.def(
      "plan_tasks",
      [](const Tensor& q, const Tensor& k, const Options& o, std::int64_t pairs_per_task) {
        nb::list tasks;
        for (const attngraph::task& t : attngraph::plan_tasks(q.view(), k.view(), o.c, pairs_per_task))
          tasks.append(nb::make_tuple(t.layer, t.head_begin, t.head_end, t.query_begin, t.query_end, t.pairs));
        return tasks;
      },
      nb::arg("q"), nb::arg("k"), nb::arg("options"), nb::arg("pairs_per_task"));
  m.def("alibi_slopes", &attngraph::alibi_slopes, nb::arg("heads"), nb::arg("max_bias"));
  m.attr("STATS_ENTROPY") = ATTNGRAPH_STATS_ENTROPY;
  m.attr("STATS_COLUMNS") = ATTNGRAPH_STATS_COLUMNS;
  m.attr("STATS_DISTANCES") = ATTNGRAPH_STATS_DISTANCES;
  m.attr("STATS_TOKENS") = ATTNGRAPH_STATS_TOKENS;
  m.attr("STATS_HEADS") = ATTNGRAPH_STATS_HEADS;
}

}  // namespace attngraph_python
