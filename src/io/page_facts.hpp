// SPDX-License-Identifier: Apache-2.0
// What the viewer's page is told about a graph beside its edges, as JSON: facts, words, figures of heads, thumbnails.
#pragma once

#include <string>
#include <vector>

#include "../graph/edge_list.hpp"
#include "page_blocks.hpp"

namespace ag {

// A figure of every head: a column of the navigator, which sorts by any of them.
struct HeadColumn {
  std::string name, title, meaning;
  int digits = 0;               // after the point
  bool share = false;           // shown as a percentage
  std::vector<double> figures;  // by slice; NaN: unknown
};
std::vector<HeadColumn> head_columns(const EdgeList& graph);

// Small pictures of all slices, side x side cells or fewer, one byte a cell, two pictures a slice: by the heaviest
// edge, and by the share of its queries' attention that a cell's keys get. 0: no edge; otherwise 255 sqrt(value /
// high).
struct Thumbnails {
  std::int64_t side = 0;
  double high = 1;  // the heaviest weight of the graph, at least 1 where no row can weigh more
  std::string text;
};
Thumbnails thumbnails(const EdgeList& graph);

// {"keys": [[..], ..], "queries": [[..], ..]}: one list for all sequences of the batch or one each, deflated and in
// base64. Long words are cut.
std::string words_block(const Metadata& metadata);

// The object that viewer/js/page.js reads first. Nothing in it can end a script element.
std::string page_json(const EdgeList& graph, const std::vector<EdgeBlock>& blocks, const Thumbnails& pictures);

// The model, where it is known; and a line on what the graph is, for the title: "SmolLM2: 18 heads, 1024 keys".
std::string page_name(const EdgeList& graph);
std::string page_title(const EdgeList& graph);

}  // namespace ag
