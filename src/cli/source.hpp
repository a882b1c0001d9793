// SPDX-License-Identifier: Apache-2.0
// What a graph is made from: layer after layer of queries and keys, or of ready attention matrices.
#pragma once

#include <attngraph/attngraph.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flags.hpp"
#include "settings.hpp"

namespace attngraph::cli {

struct OpenFile {
  std::string path;
  attngraph::file file;
  explicit OpenFile(const std::string& p) : path(p), file(p) {}
};

class Source {
 public:
  virtual ~Source() = default;
  virtual std::size_t layer_count() const = 0;
  virtual std::int64_t layer(std::size_t i) const = 0;   // its label
  virtual std::string tensors(std::size_t i) const = 0;  // "q.5 [9, 1024, 64] f16, k.5 [3, 1024, 64] f16"
  virtual std::string where(std::size_t i) const = 0;    // "'f.safetensors', q.5 and k.5"
  virtual std::vector<Explanation> settings() const = 0;
  virtual std::vector<std::string> remarks() const = 0;  // for the summary: what nobody asked for
  virtual std::string plan(const context& c, std::size_t i, const options& base) const = 0;
  // Reads the layer's tensors, feeds the sink and lets the tensors go.
  virtual void run(context& c, std::size_t i, const options& base, sink& to) = 0;
  virtual std::optional<std::string> metadata(std::string_view name) const = 0;
};

// Queries and keys: what can be cut into tasks.
class QkSource : public Source {
 public:
  virtual std::vector<task> tasks(std::size_t i, const options& base, std::int64_t pairs_per_task) const = 0;
};

// One file with q.<layer> and k.<layer>, or --q and --k; or two files, Q first.
std::unique_ptr<QkSource> open_qk(std::vector<std::unique_ptr<OpenFile>> files, const InputFlags& input,
                                  const ScoreFlags& scores);
// One float tensor of 2 to 5 dimensions.
std::unique_ptr<Source> open_matrix(std::unique_ptr<OpenFile> file, const InputFlags& input, const ScoreFlags& scores);

// Whether the file follows the convention q.<layer>, k.<layer>.
bool holds_qk(const attngraph::file& file);

// Shared by both kinds.
inline constexpr attngraph_dtype kFloats[] = {ATTNGRAPH_F64, ATTNGRAPH_F32, ATTNGRAPH_F16, ATTNGRAPH_BF16};
std::vector<std::string> float_names();  // of kFloats, in their order
bool is_float(attngraph_dtype dtype);
// Dtype and shape of a tensor; nothing when the file holds it in a way that is not read, such as words.
std::optional<tensor> readable(const attngraph::file& file, const std::string& name);
// The names of readable float tensors of some number of dimensions.
std::vector<std::string> float_tensors(const attngraph::file& file, std::size_t least_dims, std::size_t most_dims);
std::optional<std::int64_t> layer_suffix(const std::string& name);  // "q.12": 12
std::string describe(const std::string& name, const tensor& t);     // "q.12 [9, 1024, 64] f16"
void apply_range(options& o, const std::optional<QueryRange>& range, std::int64_t queries);
// Indices into `available` of the layers asked for; an error names what there is.
std::vector<std::size_t> choose_layers(const std::optional<std::vector<std::int64_t>>& wanted,
                                       const std::vector<std::int64_t>& available, const std::string& path);

}  // namespace attngraph::cli
