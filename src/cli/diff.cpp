// SPDX-License-Identifier: Apache-2.0
// attngraph diff: whether two graphs are the same, up to rounding.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>

#include "command.hpp"
#include "graph_input.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct DiffFlags {
  std::string a, b;
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

int diff(const DiffFlags& flags) {
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
  command->add_flag("--json", flags->json, "Print JSON");
  command->add_flag("--quiet", flags->quiet, "Only the exit status");
  command->callback([flags, &run] { run = [flags] { return diff(*flags); }; });
}

}  // namespace attngraph::cli
