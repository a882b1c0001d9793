// SPDX-License-Identifier: Apache-2.0
// Flags that several subcommands share, in groups, and the lists they are written in.
#pragma once

#include <attngraph/attngraph.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "command.hpp"

namespace attngraph::cli {

// "0-3,7": ascending. A number twice is an error: 1,0,0,1 is a mask, not a list. `flag` names it in the error.
std::vector<std::int64_t> parse_list(const std::string& flag, const std::string& text);
// "0,0.1,0.15": as written.
std::vector<double> parse_numbers(const std::string& flag, const std::string& text);

// ".csv, .jsonl": the formats of graphs that can do something; ATTNGRAPH_FORMAT_*, 0: all.
std::string suffixes(std::uint32_t abilities = 0);
std::string output_files();  // where a graph may go, for help

// A:B, A: or :B; an end not given is Nq, known only when the tensor is.
struct QueryRange {
  std::int64_t begin = 0;
  std::optional<std::int64_t> end;
};

// Which tensors, and which part of them.
struct InputFlags {
  std::vector<std::string> files;
  std::string q, k;               // --q, --k
  std::string name;               // --name of a matrix
  std::string leading = "layer";  // --leading: what axis 0 of a 4-D matrix counts
  std::string layout = "bhsd";    // --layout of queries and keys
  std::string layers, heads, query_range, tokens, query_tokens;

  void add_qk(CLI::App& app);
  void add_matrix(CLI::App& app);
  void add_part(CLI::App& app);
  void add_words(CLI::App& app);

  std::optional<std::vector<std::int64_t>> layer_list() const;  // nothing: all
  std::vector<std::int64_t> head_list() const;                  // empty: all
  std::optional<QueryRange> range() const;
};

// How scores come about and which keys a query sees; what is not given comes from the file, else from the defaults.
struct ScoreFlags {
  std::optional<double> scale, softcap;
  bool causal = false, no_causal = false;
  std::optional<std::int64_t> query_offset, window;
  std::optional<std::string> products, alibi;

  void add(CLI::App& app, bool scores);
  // Whether scores may be others than the file says.
  bool any() const { return scale || softcap || alibi || causal || no_causal || query_offset || window; }
};

// The heaviest edges alone.
struct BudgetFlags {
  std::optional<std::int64_t> graph, head;

  void add(CLI::App& app);
  void apply(sink& to) const;
};

// Which pairs are edges.
struct SelectionFlags {
  std::optional<double> threshold;
  std::optional<std::int64_t> top_k;
  std::optional<double> mass;
  std::optional<std::int64_t> max_edges;
  BudgetFlags budget;
  std::string decision = "fast";
  std::string stats;
  std::string nonfinite = "error";
  bool allow_dense = false;

  void add(CLI::App& app, bool scores);
  // Without -t the library's threshold, unless --top-k or --mass selects.
  double effective_threshold() const;
  bool keeps_all() const { return effective_threshold() == 0 && !top_k && !mass; }
  std::string threshold_origin() const;
  std::uint32_t stats_bits() const;
  bool wants_heads() const;  // then attention by tokens too, where tokens are known
  void apply(options& o) const;
};

// Who does the work.
struct RunFlags {
  std::string device = "auto", backend;
  std::int32_t threads = 0;
  std::size_t workspace_mib = 0;
  bool quiet = false;

  void add(CLI::App& app);
  void apply(options& o) const;
};

// Where a graph goes.
struct OutputFlags {
  std::string path, format;
  std::string direction = "query_to_key";
  bool rows = false, labels = false, csv_raw = false;

  void add_path(CLI::App& app);    // -o
  void add_format(CLI::App& app);  // the rest
  void require_path() const;       // a usage error says what to give
  write_options how() const;
  // Refuses to overwrite an input: the graph would replace what it was made from.
  sink open(const std::vector<std::string>& inputs) const;
};

}  // namespace attngraph::cli
