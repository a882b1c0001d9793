// SPDX-License-Identifier: Apache-2.0
// Tables about graphs, as dictionaries of arrays, and graphs out of graphs.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <vector>

#include "native.hpp"

namespace attngraph_python {
namespace {

using attngraph::result;

// An array of the caller's own, one entry per row of a table.
template <class Row, class Value>
nb::object column(const std::vector<Row>& rows, Value Row::*field) {
  auto values = std::make_unique<Value[]>(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) values[i] = rows[i].*field;
  Value* const data = values.get();
  nb::capsule owner(values.release(), [](void* p) noexcept { delete[] static_cast<Value*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, Value, nb::ndim<1>>(data, {rows.size()}, owner));
}

nb::dict heads(const result& r, std::int64_t window) {
  using Head = attngraph::head_figures;
  const std::vector<Head> table = unlocked([&] { return r.heads(window); });
  nb::dict d;
  d["batch"] = column(table, &Head::batch);
  d["layer"] = column(table, &Head::layer);
  d["head"] = column(table, &Head::head);
  d["queries"] = column(table, &Head::queries);
  d["edges"] = column(table, &Head::edges);
  d["kept_mass"] = column(table, &Head::kept_mass);
  d["entropy"] = column(table, &Head::entropy);
  d["self_share"] = column(table, &Head::self_share);
  d["previous_share"] = column(table, &Head::previous_share);
  d["window_share"] = column(table, &Head::window_share);
  d["mean_distance"] = column(table, &Head::mean_distance);
  d["first_share"] = column(table, &Head::first_share);
  d["heaviest_key"] = column(table, &Head::heaviest_key);
  d["heaviest_share"] = column(table, &Head::heaviest_share);
  d["punctuation_share"] = column(table, &Head::punctuation_share);
  d["induction_share"] = column(table, &Head::induction_share);
  d["duplicate_share"] = column(table, &Head::duplicate_share);
  d["same_word_share"] = column(table, &Head::same_word_share);
  return d;
}

struct Number {
  std::int64_t value;
};

nb::object array_of(const std::vector<std::int64_t>& values) {
  std::vector<Number> all;
  all.reserve(values.size());
  for (const std::int64_t value : values) all.push_back({value});
  return column(all, &Number::value);
}

result join(nb::list graphs, const std::vector<std::int64_t>& query_begins, const std::vector<std::int64_t>& key_begins,
            nb::object tokens, nb::dict facts) {
  std::vector<const attngraph_result*> all;
  for (nb::handle graph : graphs) all.push_back(nb::cast<const result&>(graph).c());
  attngraph::join_options how{query_begins, key_begins};
  if (!tokens.is_none()) {
    for (nb::handle token : tokens) {
      const auto text = nb::cast<nb::bytes>(token);
      how.tokens.emplace_back(text.c_str(), text.size());
    }
  }
  for (const auto& [name, value] : facts) {
    how.fact_names.push_back(nb::cast<std::string>(name));
    how.fact_values.push_back(nb::cast<std::string>(value));
  }
  return unlocked([&] { return result::join(all, how); });
}

nb::dict diff_heads(const result& a, const result& b, const std::vector<std::int64_t>& alignment) {
  using Row = attngraph::head_difference;
  const std::vector<Row> table = unlocked([&] { return a.diff_heads(b, alignment); });
  nb::dict d;
  d["batch"] = column(table, &Row::batch);
  d["layer"] = column(table, &Row::layer);
  d["head"] = column(table, &Row::head);
  d["queries"] = column(table, &Row::queries);
  d["edges_a"] = column(table, &Row::edges_a);
  d["edges_b"] = column(table, &Row::edges_b);
  d["common"] = column(table, &Row::common);
  d["kept_a"] = column(table, &Row::kept_a);
  d["kept_b"] = column(table, &Row::kept_b);
  d["variation_min"] = column(table, &Row::variation_min);
  d["variation_max"] = column(table, &Row::variation_max);
  d["divergence_min"] = column(table, &Row::divergence_min);
  d["divergence_max"] = column(table, &Row::divergence_max);
  return d;
}

nb::dict diff_pairs(const result& a, const result& b, std::int64_t n, const std::vector<std::int64_t>& alignment) {
  using Row = attngraph::moved;
  const std::vector<Row> table = unlocked([&] { return a.diff_pairs(b, n, alignment); });
  nb::dict d;
  d["batch"] = column(table, &Row::batch);
  d["layer"] = column(table, &Row::layer);
  d["head"] = column(table, &Row::head);
  d["query"] = column(table, &Row::query);
  d["key"] = column(table, &Row::key);
  d["query_b"] = column(table, &Row::query_b);
  d["key_b"] = column(table, &Row::key_b);
  d["before"] = column(table, &Row::before);
  d["after"] = column(table, &Row::after);
  d["change"] = column(table, &Row::change);
  return d;
}

attngraph::part part_of(nb::dict fields) {
  attngraph::part p;
  const auto read = [&](const char* name, auto& field) {
    if (fields.contains(name)) field = nb::cast<std::decay_t<decltype(field)>>(fields[name]);
  };
  read("threshold", p.threshold);
  read("top_k", p.top_k);
  read("layers", p.layers);
  read("heads", p.heads);
  read("query_begin", p.query_begin);
  read("query_end", p.query_end);
  read("key_begin", p.key_begin);
  read("key_end", p.key_end);
  read("distance_min", p.distance_min);
  read("distance_max", p.distance_max);
  read("query_positions", p.query_positions);
  read("key_positions", p.key_positions);
  std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
  read("layer_heads", pairs);
  for (const auto& [layer, head] : pairs) p.layer_heads.push_back({layer, head});
  return p;
}

nb::list top(const result& r, std::int64_t n, nb::dict part) {
  const attngraph::part p = part_of(part);
  nb::list all;
  for (const attngraph::edge& e : unlocked([&] { return r.top(n, p); }))
    all.append(nb::make_tuple(e.batch, e.layer, e.head, e.query, e.key, e.weight));
  return all;
}

result group(const result& r, const std::vector<std::int64_t>& begins, const std::vector<std::int64_t>& ends, int rest,
             nb::object labels) {
  attngraph::spans spans{begins, ends, static_cast<attngraph_rest>(rest)};
  if (!labels.is_none()) {
    for (nb::handle label : labels) {
      const auto text = nb::cast<nb::bytes>(label);
      spans.labels.emplace_back(text.c_str(), text.size());
    }
  }
  return unlocked([&] { return r.group(spans); });
}

}  // namespace

void bind_questions(nb::class_<result>& graph) {
  graph.def("heads", &heads, nb::arg("window"))
      .def("words", [](const result& r) { return array_of(r.words()); })
      .def_static("join", &join, nb::arg("graphs"), nb::arg("query_begins"), nb::arg("key_begins"),
                  nb::arg("tokens").none(), nb::arg("facts"))
      .def("diff_heads", &diff_heads, nb::arg("other"), nb::arg("alignment"))
      .def("diff_pairs", &diff_pairs, nb::arg("other"), nb::arg("n"), nb::arg("alignment"))
      .def("align", [](const result& a, const result& b) { return array_of(unlocked([&] { return a.align(b); })); })
      .def("top_of", &top, nb::arg("n"), nb::arg("part"))
      .def("part",
           [](const result& r, nb::dict fields) {
             const attngraph::part p = part_of(fields);
             return unlocked([&] { return r.part(p); });
           })
      .def("group", &group, nb::arg("begins"), nb::arg("ends"), nb::arg("rest"), nb::arg("labels").none());
}

}  // namespace attngraph_python
