// SPDX-License-Identifier: Apache-2.0
// attngraph diff: whether two graphs are the same, up to rounding; and what moved from one to the other.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>

#include "command.hpp"
#include "graph_input.hpp"
#include "table.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct DiffFlags {
  std::string a, b;
  std::string by, align;
  std::int64_t n = 20;
  double band = 1e-5;
  bool json = false, quiet = false;
};

Json diff_json(const difference& d, bool equal, double band) {
  Json out = {{"equal", equal},
              {"band", band},
              {"edges_a", d.edges_a},
              {"edges_b", d.edges_b},
              {"common", d.common},
              {"only_a", d.only_a},
              {"only_b", d.only_b},
              {"inside_band", d.inside_band},
              {"max_weight_difference", d.max_weight_difference},
              {"slices_only_a", d.slices_only_a},
              {"slices_only_b", d.slices_only_b}};
  if (d.only_a + d.only_b > 0) {
    out["first"] = {{"in", d.first_in_a != 0 ? "a" : "b"},
                    {"batch", d.first.batch},
                    {"layer", d.first.layer},
                    {"head", d.first.head},
                    {"query", d.first.query},
                    {"key", d.first.key},
                    {"weight", d.first.weight}};
  }
  return out;
}

void print_diff(const DiffFlags& flags, const difference& d, bool equal) {
  fmt::print("{}: {} edges in common, {} inside the band {}, weights within {:.2g} (relative)\n",
             equal ? "equal" : "different", grouped(d.common), grouped(d.inside_band), shortest(flags.band),
             d.max_weight_difference);
  const auto only = [](const std::string& path, std::int64_t slices, std::int64_t edges) {
    if (slices > 0 || edges > 0)
      fmt::print("only in {}: {} edges, {} slices\n", sanitised(path), grouped(edges), grouped(slices));
  };
  only(flags.a, d.slices_only_a, d.only_a);
  only(flags.b, d.slices_only_b, d.only_b);
  if (d.only_a + d.only_b > 0)
    fmt::print("first: layer {} head {}: {} -> {}, weight {}, in {}\n", d.first.layer, d.first.head, d.first.query,
               d.first.key, weight_text(d.first.weight), sanitised(d.first_in_a != 0 ? flags.a : flags.b));
}

std::vector<std::int64_t> alignment(const DiffFlags& flags, const result& a, const result& b) {
  return flags.align.empty() ? std::vector<std::int64_t>() : a.align(b);
}

int diff_by_head(const DiffFlags& flags) {
  const result a = result::load(flags.a), b = result::load(flags.b);
  std::vector<head_difference> table = a.diff_heads(b, alignment(flags, a, b));
  std::stable_sort(table.begin(), table.end(),
                   [](const auto& x, const auto& y) { return x.variation_min > y.variation_min; });
  if (static_cast<std::size_t>(flags.n) < table.size()) table.resize(static_cast<std::size_t>(flags.n));
  Json list = Json::array();
  Table text(
      {"batch", "layer", "head", "queries", "edges", "edges", "common", "kept", "kept", "moved", "to", "JS", "to"});
  for (const head_difference& d : table) {
    list.push_back({{"batch", d.batch},
                    {"layer", d.layer},
                    {"head", d.head},
                    {"queries", d.queries},
                    {"edges_a", d.edges_a},
                    {"edges_b", d.edges_b},
                    {"common", d.common},
                    {"kept_a", d.kept_a},
                    {"kept_b", d.kept_b},
                    {"variation_min", d.variation_min},
                    {"variation_max", d.variation_max},
                    {"divergence_min", d.divergence_min},
                    {"divergence_max", d.divergence_max}});
    text.row({fmt::format("{}", d.batch), fmt::format("{}", d.layer), fmt::format("{}", d.head), grouped(d.queries),
              grouped(d.edges_a), grouped(d.edges_b), grouped(d.common), percent(d.kept_a), percent(d.kept_b),
              percent(d.variation_min), percent(d.variation_max), fmt::format("{:.4f}", d.divergence_min),
              fmt::format("{:.4f}", d.divergence_max)});
  }
  if (flags.json) {
    print_json(list);
  } else {
    fmt::print("{}", text.text());
    fmt::print(
        "\nmoved: total variation, the share of attention that is elsewhere, mean over the queries; JS: "
        "Jensen-Shannon\n"
        "divergence in nats. Only edges are known, so each is told as the least and the most that it can be.\n");
  }
  return kSuccess;
}

int diff_by_pair(const DiffFlags& flags) {
  const result a = result::load(flags.a), b = result::load(flags.b);
  const std::vector<moved> table = a.diff_pairs(b, flags.n, alignment(flags, a, b));
  Json list = Json::array();
  Table text({"batch", "layer", "head", "query", "key", "before", "after", "change", "<", "<"});
  const auto weight = [](double w) { return std::isnan(w) ? std::string("-") : fmt::format("{:.6f}", w); };
  for (const moved& m : table) {
    const auto number = [](std::int64_t n) { return n < 0 ? Json() : Json(n); };
    list.push_back({{"batch", m.batch},
                    {"layer", m.layer},
                    {"head", m.head},
                    {"query", number(m.query)},
                    {"key", number(m.key)},
                    {"query_b", number(m.query_b)},
                    {"key_b", number(m.key_b)},
                    {"before", m.before},
                    {"after", m.after},
                    {"change", m.change}});
    const bool in_a = m.key >= 0;
    const result& graph = in_a ? a : b;
    const std::int64_t query = in_a ? m.query : m.query_b, key = in_a ? m.key : m.key_b;
    std::vector<std::string> cells;
    for (const std::int64_t n : {m.batch, m.layer, m.head, query, key}) cells.push_back(fmt::format("{}", n));
    for (const double w : {m.before, m.after}) cells.push_back(weight(w));
    cells.push_back(fmt::format("{:+.6f}", m.change));
    const bool words = graph.label_lists(ATTNGRAPH_KEYS) + graph.label_lists(ATTNGRAPH_QUERIES) > 0;
    cells.push_back(words ? word(graph.label(ATTNGRAPH_QUERIES, m.batch, query), query) : "");
    cells.push_back(words ? "→ " + word(graph.label(ATTNGRAPH_KEYS, m.batch, key), key) : "");
    text.row(std::move(cells));
  }
  if (flags.json)
    print_json(list);
  else
    fmt::print("{}\n-: no edge, so below the threshold; the change is then the least there can have been.\n",
               text.text());
  return kSuccess;
}

int diff(const DiffFlags& flags) {
  if (flags.n < 0) throw UsageError("-n: give a number of rows, 0 or more");
  if (flags.by.empty() && !flags.align.empty()) throw UsageError("--align: give it with --by head or --by pair");
  if (flags.by == "head") return diff_by_head(flags);
  if (flags.by == "pair") return diff_by_pair(flags);
  if (!(flags.band >= 0) || !std::isfinite(flags.band)) throw UsageError("--band: give a number, 0 or more");
  const difference d = result::load(flags.a).diff(result::load(flags.b), flags.band);
  const bool equal =
      d.only_a + d.only_b == 0 && d.slices_only_a + d.slices_only_b == 0 && d.max_weight_difference <= flags.band;
  if (flags.json)
    print_json(diff_json(d, equal, flags.band));
  else if (!flags.quiet)
    print_diff(flags, d, equal);
  return equal ? kSuccess : kFailure;
}

}  // namespace

void add_diff(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("diff", "Compare two graphs; exit status 1 when they differ");
  const auto flags = std::make_shared<DiffFlags>();
  command->add_option("a", flags->a, "A graph")->required()->type_name("FILE");
  command->add_option("b", flags->b, "Another")->required()->type_name("FILE");
  command
      ->add_option("--band", flags->band,
                   "Relative difference to overlook, in weights and of an edge from the threshold (default: 1e-5)")
      ->type_name("EPS");
  command->add_option("--by", flags->by, "What moved: how far every head, or which pairs; exit status 0")
      ->check(CLI::IsMember({"head", "pair"}));
  command->add_option("--align", flags->align, "tokens: of prompts that differ, compare equal tokens")
      ->check(CLI::IsMember({"tokens"}));
  command->add_option("-n", flags->n, "With --by: how many, the farthest first (default: 20)")->type_name("N");
  command->add_flag("--json", flags->json, "Print JSON");
  command->add_flag("--quiet", flags->quiet, "Only the exit status");
  command->callback([flags, &run] { run = [flags] { return diff(*flags); }; });
}

}  // namespace attngraph::cli
