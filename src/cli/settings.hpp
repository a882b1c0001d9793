// SPDX-License-Identifier: Apache-2.0
// Values of a request and where each came from: a flag wins over the file's metadata, metadata over the default.
#pragma once

#include <attngraph/attngraph.hpp>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flags.hpp"

namespace attngraph::cli {

enum class Origin { kFlag, kMetadata, kDefault };
const char* origin_name(Origin origin);

template <class T>
struct Setting {
  T value{};
  Origin origin = Origin::kDefault;
};

// A line of --explain.
struct Explanation {
  std::string name, value, origin;
};

// Finds a fact in the file's metadata.
using Lookup = std::function<std::optional<std::string>(std::string_view name)>;

struct Settings {
  Setting<std::optional<double>> scale;                  // nothing: 1 / sqrt(D)
  Setting<double> softcap;                               // 0: none
  Setting<std::string> alibi{"none", Origin::kDefault};  // "standard", "none" or numbers
  Setting<std::string> products{"auto", Origin::kDefault};
  Setting<bool> causal;  // unless somebody says: true for queries and keys, false for a ready matrix
  Setting<std::optional<std::int64_t>> query_offset;  // nothing: bottom-right, Nk - Nq
  Setting<std::int64_t> window;                       // 0: none

  // `scores`: of queries and keys. A ready matrix has no scale, no softcap and no products.
  Settings(const ScoreFlags& flags, const Lookup& metadata, bool scores);
  void apply(options& o) const;
  // Slopes for so many query heads; empty: none.
  std::vector<double> slopes(std::int64_t heads) const;
  // The offset shown is that of one shape.
  std::vector<Explanation> explain(std::int64_t queries, std::int64_t keys) const;
  // "causal (the default; ...)" for the summary; empty for a matrix that is taken as it is.
  std::string causal_text() const;

 private:
  bool scores_;
};

}  // namespace attngraph::cli
