// SPDX-License-Identifier: Apache-2.0
// Graphs. Every array is a view of the library's own memory: it keeps the Result alive and cannot be written.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "native.hpp"

namespace attngraph_python {
namespace {

using attngraph::result;

template <class T>
nb::object array(std::span<const T> values, nb::handle owner) {
  return nb::cast(nb::ndarray<nb::numpy, const T, nb::ndim<1>>(values.data(), {values.size()}, owner));
}

nb::object weights_of(const attngraph::slice& s, nb::handle owner) {
  return s.weights_f64.data() != nullptr ? array(s.weights_f64, owner) : array(s.weights_f32, owner);
}

// One row per slice: batch, layer, head, query_begin, query_count, key_count, edge_count.
nb::object slices(const result& r) {
  constexpr std::size_t kFields = 7;
  const auto count = static_cast<std::size_t>(r.slice_count());
  auto table = std::make_unique<std::int64_t[]>(count * kFields);
  std::int64_t* out = table.get();
  for (std::size_t i = 0; i < count; ++i) {
    const attngraph::slice s = r.slice(static_cast<std::int64_t>(i));
    const std::int64_t edges = static_cast<std::int64_t>(s.size());
    for (const std::int64_t field : {s.batch, s.layer, s.head, s.query_begin, s.query_count, s.key_count, edges})
      *out++ = field;
  }
  std::int64_t* const data = table.get();
  nb::capsule owner(table.release(), [](void* p) noexcept { delete[] static_cast<std::int64_t*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, std::int64_t, nb::ndim<2>>(data, {count, kFields}, owner));
}

nb::tuple csr(nb::handle self, std::int64_t i) {
  const attngraph::slice s = nb::cast<const result&>(self).slice(i);
  return nb::make_tuple(array(s.offsets, self), array(s.keys, self), weights_of(s, self));
}

nb::tuple rows(nb::handle self, std::int64_t i) {
  const attngraph::row_statistics r = nb::cast<const result&>(self).slice(i).rows;
  return nb::make_tuple(array(r.logsumexp, self), array(r.maximum, self), array(r.max_key, self),
                        array(r.kept_mass, self), array(r.entropy, self));
}

nb::tuple columns(nb::handle self, std::int64_t i) {
  const attngraph::column_sums c = nb::cast<const result&>(self).columns(i);
  return nb::make_tuple(array(c.received, self), array(c.distances, self), c.distance_begin);
}

// Keys and weights of all slices in one piece, when they follow each other in memory; None otherwise.
nb::object flat(nb::handle self) {
  const result& r = nb::cast<const result&>(self);
  const std::int64_t count = r.slice_count();
  if (count == 0) return nb::none();
  const attngraph::slice first = r.slice(0);
  const bool f64 = first.weights_f64.data() != nullptr;
  const std::int32_t* key = first.keys.data();
  const void* weight = f64 ? static_cast<const void*>(first.weights_f64.data()) : first.weights_f32.data();
  for (std::int64_t i = 0; i < count; ++i) {
    const attngraph::slice s = r.slice(i);
    if (s.size() == 0) continue;
    const void* const at = f64 ? static_cast<const void*>(s.weights_f64.data()) : s.weights_f32.data();
    if (s.keys.data() != key || at != weight) return nb::none();
    key += s.size();
    weight = static_cast<const char*>(weight) + s.size() * (f64 ? sizeof(double) : sizeof(float));
  }
  const auto edges = static_cast<std::size_t>(r.edge_count());
  const nb::object keys = array(std::span<const std::int32_t>(first.keys.data(), edges), self);
  if (f64) return nb::make_tuple(keys, array(std::span<const double>(first.weights_f64.data(), edges), self));
  return nb::make_tuple(keys, array(std::span<const float>(first.weights_f32.data(), edges), self));
}

nb::tuple edge(const attngraph::edge& e) { return nb::make_tuple(e.batch, e.layer, e.head, e.query, e.key, e.weight); }

nb::bytes bytes(std::string_view text) { return nb::bytes(text.data(), text.size()); }

// One list for all sequences, or one for each; none without words of this side's own.
nb::list labels(const result& r, bool queries) {
  const attngraph_side side = queries ? ATTNGRAPH_QUERIES : ATTNGRAPH_KEYS;
  nb::list lists;
  for (std::int64_t batch = 0; batch < r.label_lists(side); ++batch) {
    nb::list words;
    for (std::int64_t i = 0; i < r.label_count(side, batch); ++i)
      words.append(bytes(r.label(side, batch, i).value_or("")));
    lists.append(words);
  }
  return lists;
}

nb::list tokens(const result& r) {
  nb::list all;
  for (std::int64_t i = 0; i < r.token_count(); ++i) all.append(bytes(r.token(i).value_or("")));
  return all;
}

nb::dict metadata(const result& r) {
  nb::dict d;
  for (const std::string& name : r.metadata_names()) d[bytes(name)] = bytes(r.metadata(name).value_or(""));
  return d;
}

nb::dict summary(const result& r, std::int64_t slice) {
  const attngraph::summary s = unlocked([&] { return r.summary(slice); });
  nb::dict d;
  d["rows"] = s.rows;
  d["edges"] = s.edges;
  d["empty_rows"] = s.empty_rows;
  d["rows_without_edges"] = s.rows_without_edges;
  d["max_row_edges"] = s.max_row_edges;
  d["mean_row_edges"] = s.mean_row_edges;
  d["kept_mass_mean"] = s.kept_mass_mean;
  d["kept_mass_min"] = s.kept_mass_min;
  d["weight_min"] = s.weight_min;
  d["weight_max"] = s.weight_max;
  d["entropy_mean"] = s.entropy_mean;
  d["mean_distance"] = s.mean_distance;
  d["self_share"] = s.self_share;
  d["previous_share"] = s.previous_share;
  d["first_share"] = s.first_share;
  return d;
}

// float64 [rows, columns]
nb::object bins(const result& r, std::int64_t slice, const attngraph::bins& how) {
  auto cells = std::make_unique<std::vector<double>>(unlocked([&] { return r.bins(slice, how); }));
  double* const data = cells->data();
  nb::capsule owner(cells.release(), [](void* p) noexcept { delete static_cast<std::vector<double>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, double, nb::ndim<2>>(
      data, {static_cast<std::size_t>(how.rows), static_cast<std::size_t>(how.columns)}, owner));
}

nb::dict report(const result& r) {
  const attngraph::report p = r.report();
  nb::dict d;
  d["eps"] = std::isnan(p.eps) ? nb::none() : nb::cast(p.eps);
  d["borderline"] = p.borderline < 0 ? nb::none() : nb::cast(p.borderline);
  d["empty_rows"] = p.empty_rows;
  d["rows_fp64"] = p.rows_fp64;
  d["skipped_nonfinite"] = p.skipped_nonfinite;
  d["kept_mass"] = p.kept_mass;
  d["backend"] = std::string(p.backend);
  d["target"] = std::string(p.target);
  d["threads"] = p.threads;
  d["rows_decided_again"] = p.rows_decided_again;
  d["unresolved"] = p.unresolved;
  return d;
}

nb::dict difference(const result& a, const result& b, double band) {
  const attngraph::difference x = unlocked([&] { return a.diff(b, band); });
  nb::dict d;
  d["edges_a"] = x.edges_a;
  d["edges_b"] = x.edges_b;
  d["only_a"] = x.only_a;
  d["only_b"] = x.only_b;
  d["inside_band"] = x.inside_band;
  d["common"] = x.common;
  d["max_weight_difference"] = x.max_weight_difference;
  d["slices_only_a"] = x.slices_only_a;
  d["slices_only_b"] = x.slices_only_b;
  const bool differs = x.only_a + x.only_b > 0;
  d["first"] = differs ? nb::object(edge(x.first)) : nb::none();
  d["first_in_a"] = differs && x.first_in_a != 0;
  return d;
}

}  // namespace

void bind_result(nb::module_& m) {
  nb::class_<result> graph(m, "Result");
  graph.def_static("load", [](const std::string& path) { return unlocked([&] { return result::load(path); }); })
      .def("slice_count", &result::slice_count)
      .def("edge_count", &result::edge_count)
      .def("slices", &slices)
      .def("csr", [](nb::handle self, std::int64_t i) { return csr(self, i); })
      .def("rows", [](nb::handle self, std::int64_t i) { return rows(self, i); })
      .def("columns", [](nb::handle self, std::int64_t i) { return columns(self, i); })
      .def("flat", [](nb::handle self) { return flat(self); })
      .def("report", &report)
      .def("tokens", &tokens)
      .def("labels", &labels, nb::arg("queries"))
      .def("two_sided", &result::two_sided)
      .def("query_offset", &result::query_offset)
      .def("metadata", &metadata)
      .def("top",
           [](const result& r, std::int64_t n) {
             nb::list all;
             for (const attngraph::edge& e : unlocked([&] { return r.top(n); })) all.append(edge(e));
             return all;
           })
      .def("sweep",
           [](const result& r, const std::vector<double>& thresholds) {
             nb::list all;
             for (const attngraph::sweep_row& row : unlocked([&] { return r.sweep(thresholds); }))
               all.append(nb::make_tuple(row.threshold, row.edges, row.kept_mass, row.nodes));
             return all;
           })
      .def("summary", &summary, nb::arg("slice") = -1)
      .def("bins",
           [](const result& r, std::int64_t slice, std::int64_t rows, std::int64_t columns, int value,
              std::int64_t query_begin, std::int64_t query_end, std::int64_t key_begin, std::int64_t key_end) {
             return bins(
                 r, slice,
                 {rows, columns, static_cast<attngraph_bin_value>(value), query_begin, query_end, key_begin, key_end});
           })
      .def("diff", &difference, nb::arg("other"), nb::arg("band"))
      .def("write", [](const result& r, attngraph::sink& to) { unlocked([&] { r.write(to); }); });
  bind_questions(graph);
}

}  // namespace attngraph_python
