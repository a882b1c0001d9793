// SPDX-License-Identifier: Apache-2.0
#include "pipeline.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "progress.hpp"
#include "table.hpp"
#include "terminal.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

// The limit is on the whole graph, the library's on one call: each layer gets what the earlier ones left.
void run_within_limit(Source& source, context& c, std::size_t i, options o, std::uint64_t limit, sink& to) {
  const auto before = static_cast<std::uint64_t>(to.edge_count());
  // 0 would mean no limit; with nothing left one edge is let through and found below.
  o.max_edges(std::max<std::uint64_t>(limit - before, 1));
  const auto over = [&](std::string_view detail) {
    return error(ATTNGRAPH_ERROR_LIMIT, fmt::format("layer {}: more edges than --max-edges {} ({} in the layers before "
                                                    "it): {}",
                                                    source.layer(i), limit, before, detail));
  };
  try {
    source.run(c, i, o, to);
  } catch (const error& e) {
    if (e.status() == ATTNGRAPH_ERROR_LIMIT && before > 0) throw over(e.what());
    throw;
  }
  if (static_cast<std::uint64_t>(to.edge_count()) > limit) throw over("raise it or the threshold");
}

// What the library finds wrong with the data it cannot place: it never knew the file.
error placed(const error& e, const Source& source, std::size_t i) {
  switch (e.status()) {
    case ATTNGRAPH_ERROR_NONFINITE:
      if (std::string_view(e.what()).find("ask to skip") != std::string_view::npos)
        return error(e.status(), fmt::format("{}: {} (--nonfinite skip)", source.where(i), e.what()));
      [[fallthrough]];
    case ATTNGRAPH_ERROR_SHAPE:
    case ATTNGRAPH_ERROR_DTYPE:
    case ATTNGRAPH_ERROR_RANGE: return error(e.status(), fmt::format("{}: {}", source.where(i), e.what()));
    default: return e;
  }
}

// Words of a side from the flag's file, else from the input's metadata; false when neither has any.
bool add_words(const Source& source, attngraph_side side, const std::string& path, const char* fact, sink& to) {
  const auto stored = path.empty() ? source.metadata(fact) : std::nullopt;
  if (!path.empty()) to.load_labels(side, path);
  if (stored) to.parse_labels(side, *stored);
  return !path.empty() || stored;
}

void summarise(const Source& source, const GraphFlags& flags, const sink& to, double elapsed) {
  const report r = to.report();
  const std::vector<std::string> remarks = source.remarks();
  say("attngraph: {} edges from {} {}{}{}, {} of the attention kept", grouped(to.edge_count()), source.layer_count(),
      source.layer_count() == 1 ? "layer" : "layers", remarks[0].empty() ? "" : ", ", remarks[0], percent(r.kept_mass));
  if (r.eps > 0) say(", eps {:.1e} with {} borderline pairs", r.eps, grouped(r.borderline));
  if (r.unresolved > 0) say(", {} pairs unresolved", grouped(r.unresolved));
  if (r.empty_rows > 0) say(", {} rows without keys", grouped(r.empty_rows));
  if (r.skipped_nonfinite > 0) say(", {} not finite left out", grouped(r.skipped_nonfinite));
  say("\nattngraph: {} on {}", sanitised(r.backend), sanitised(r.target));
  if (r.threads > 0) say(", {} {}", r.threads, r.threads == 1 ? "thread" : "threads");
  say(", {}{}\n", seconds(elapsed), flags.output.path == "-" ? "" : ": wrote " + sanitised(flags.output.path));
  if (*r.note != '\0') say("attngraph: note: {}\n", sanitised(r.note));
  for (std::size_t n = 1; n < remarks.size(); ++n) say("attngraph: note: {}\n", sanitised(remarks[n]));
}

}  // namespace

options GraphFlags::base() const {
  options o;
  selection.apply(o);
  run.apply(o);
  return o.heads(input.head_list());
}

void feed(Source& source, context& c, const GraphFlags& flags, const options& base, sink& to) {
  const bool keys = add_words(source, ATTNGRAPH_KEYS, flags.input.tokens, "tokens", to);
  const bool queries = add_words(source, ATTNGRAPH_QUERIES, flags.input.query_tokens, "query_tokens", to);
  if (!keys && !queries && flags.output.labels && !flags.run.quiet)
    say("attngraph: note: --labels: no tokens are known; give --tokens FILE\n");
  if (const auto model = source.metadata("model")) to.set_metadata("model", *model);

  Progress progress(!flags.run.quiet, source.layer_count());
  options o = base;
  if (flags.selection.wants_heads() && keys) o.stats(flags.selection.stats_bits() | ATTNGRAPH_STATS_TOKENS);
  o.cancelled(interrupted).progress([&](double fraction) { progress.update(fraction); });
  for (std::size_t i = 0; i < source.layer_count(); ++i) {
    stop_if_interrupted();
    progress.begin(i, fmt::format("layer {}", source.layer(i)));
    try {
      if (const auto limit = flags.selection.max_edges)
        run_within_limit(source, c, i, o, static_cast<std::uint64_t>(*limit), to);
      else
        source.run(c, i, o, to);
    } catch (const error& e) {
      throw placed(e, source, i);
    }
  }
  stop_if_interrupted();
}

void print_explanation(const Source& source, const context& c, const GraphFlags& flags) {
  const options base = flags.base();
  Table table({"<", "<", "<"});
  const auto line = [&](const char* name, std::string value, std::string origin) {
    table.row({name, std::move(value), std::move(origin)});
  };
  for (std::size_t i = 0; i < source.layer_count(); ++i)
    line("input", fmt::format("layer {}: {}", source.layer(i), sanitised(source.tensors(i))),
         flags.input.layers.empty() ? "file" : "flag");
  const SelectionFlags& s = flags.selection;
  const double threshold = s.effective_threshold();
  line("threshold", threshold == 0 ? "none" : shortest(threshold), s.threshold_origin());
  if (s.top_k) line("top-k", fmt::format("{}", *s.top_k), "flag");
  if (s.mass) line("mass", shortest(*s.mass), "flag");
  line("max edges", s.max_edges ? fmt::format("{}", *s.max_edges) : "no limit", s.max_edges ? "flag" : "default");
  if (s.budget.graph) line("budget", fmt::format("{}", *s.budget.graph), "flag");
  if (s.budget.head) line("head budget", fmt::format("{}", *s.budget.head), "flag");
  for (const Explanation& e : source.settings()) line(e.name.c_str(), e.value, e.origin);
  line("heads", flags.input.heads.empty() ? "all" : numbers(flags.input.head_list()),
       flags.input.heads.empty() ? "default" : "flag");
  line("queries", flags.input.query_range.empty() ? "all" : flags.input.query_range,
       flags.input.query_range.empty() ? "default" : "flag");
  const bool named = !flags.input.tokens.empty(), stored = source.metadata("tokens").has_value();
  line("tokens",
       named    ? sanitised(flags.input.tokens)
       : stored ? "from the file"
                : "none",
       named    ? "flag"
       : stored ? "metadata"
                : "default");
  // The row of headings is empty: the values speak for themselves.
  fmt::print("{}", std::string_view(table.text()).substr(1));

  std::string last;  // layers of one shape share a plan
  for (std::size_t i = 0; i < source.layer_count(); ++i) {
    const std::string plan = source.plan(c, i, base);
    if (plan != last)
      fmt::print("\nplan from layer {} on\n{}{}", source.layer(i), plan, plan.ends_with('\n') ? "" : "\n");
    last = plan;
  }
}

int make_graph(Source& source, const GraphFlags& flags) {
  const options base = flags.base();
  context c(flags.run.device);
  if (flags.explain) {
    print_explanation(source, c, flags);
    return kSuccess;
  }
  watch_interrupts();
  const auto start = std::chrono::steady_clock::now();
  sink to = flags.output.open(flags.input.files);
  flags.selection.budget.apply(to);
  feed(source, c, flags, base, to);
  to.finish();
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // The output is in its place: nothing that goes wrong while it is talked about makes a failure of it.
  if (!flags.run.quiet) {
    try {
      summarise(source, flags, to, elapsed);
    } catch (const std::exception&) {
      return kSuccess;
    }
  }
  return kSuccess;
}

}  // namespace attngraph::cli
