// SPDX-License-Identifier: Apache-2.0
// From a source to a sink, layer after layer: what extract, filter and sweep do alike.
#pragma once

#include "flags.hpp"
#include "source.hpp"

namespace attngraph::cli {

// Everything that a subcommand which makes a graph is told.
struct GraphFlags {
  InputFlags input;
  ScoreFlags scores;
  SelectionFlags selection;
  RunFlags run;
  OutputFlags output;
  bool explain = false;

  options base() const;  // everything but what belongs to the source
};

// Tokens and facts, then every layer, with progress, Ctrl-C and --max-edges over all layers. Does not finish the sink.
void feed(Source& source, context& c, const GraphFlags& flags, const options& base, sink& to);

// The plan of each layer and where every value came from, on standard output. Nothing runs.
void print_explanation(const Source& source, const context& c, const GraphFlags& flags);

// extract and filter: the whole way, to a file and a summary.
int make_graph(Source& source, const GraphFlags& flags);

}  // namespace attngraph::cli
