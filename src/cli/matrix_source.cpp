// SPDX-License-Identifier: Apache-2.0
// A ready attention matrix: [Nq, Nk], [H, Nq, Nk], four dimensions with layers or batches in front, or five with both.
#include <fmt/format.h>

#include <algorithm>

#include "source.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

class MatrixSource : public Source {
 public:
  MatrixSource(std::unique_ptr<OpenFile> file, const InputFlags& input, const ScoreFlags& scores)
      : file_(std::move(file)),
        range_(input.range()),
        name_(find(input.name)),
        shape_(file_->file.info(name_)),
        settings_(
            scores, [this](std::string_view name) { return metadata(name); }, false) {
    const auto dims = shape_.shape();
    if (dims.size() == 5 || (dims.size() == 4 && input.leading == "layer")) {
      for (std::int64_t l = 0; l < dims[0]; ++l) labels_.push_back(l);
      chosen_ = choose_layers(input.layer_list(), labels_, file_->path);
    } else {
      if (!input.layers.empty())
        throw UsageError("--layers needs a matrix with layers in front: 4-D, or 5-D with batches");
      labels_ = {layer_suffix(name_).value_or(0)};
      chosen_ = {0};
      whole_ = true;
    }
  }

  std::size_t layer_count() const override { return chosen_.size(); }
  std::int64_t layer(std::size_t i) const override { return labels_[chosen_[i]]; }
  std::string tensors(std::size_t i) const override {
    return whole_ ? describe(name_, shape_) : fmt::format("{}, part {}", describe(name_, shape_), layer(i));
  }
  std::string where(std::size_t i) const override {
    return fmt::format("'{}'{}{}", file_->path, name_.empty() ? "" : ", " + name_,
                       whole_ ? "" : fmt::format(", layer {}", layer(i)));
  }
  std::vector<Explanation> settings() const override {
    const auto dims = shape_.shape();
    return settings_.explain(queries(), dims[dims.size() - 1]);
  }
  std::vector<std::string> remarks() const override { return {settings_.causal_text()}; }
  std::string plan(const context& c, std::size_t i, const options& base) const override {
    return c.explain(layer_of(shape_, i), prepared(base, i));
  }
  void run(context& c, std::size_t i, const options& base, sink& to) override {
    c.filter(layer_of(file_->file.read(name_), i), prepared(base, i), to);
    if (i + 1 == chosen_.size()) file_->file.release(name_);
  }
  std::optional<std::string> metadata(std::string_view name) const override {
    const auto value = file_->file.metadata(name);
    return value ? std::optional(std::string(*value)) : std::nullopt;
  }

 private:
  std::int64_t queries() const { return shape_.shape()[shape_.shape().size() - 2]; }
  tensor layer_of(const tensor& t, std::size_t i) const {
    return whole_ ? t : t.at(static_cast<std::int64_t>(chosen_[i]));
  }
  options prepared(const options& base, std::size_t i) const {
    options o = base;
    settings_.apply(o);
    apply_range(o, range_, queries());
    return o.layer(layer(i));
  }

  // The tensor meant: the one named, or the only one that can be a matrix.
  std::string find(const std::string& wanted) const {
    constexpr std::size_t kMostDims = 5;
    std::vector<std::string> candidates = float_tensors(file_->file, 2, kMostDims);
    const auto names = file_->file.names();
    // One that is named, or alone, is the one that is meant, whatever it is.
    if (std::find(names.begin(), names.end(), wanted) != names.end())
      candidates = {wanted};
    else if (!wanted.empty())
      candidates.clear();
    else if (candidates.empty() && names.size() == 1)
      candidates = names;
    if (candidates.size() == 1) {
      const tensor t = file_->file.info(candidates[0]);
      if (!is_float(t.dtype()))
        throw error(ATTNGRAPH_ERROR_DTYPE, fmt::format("'{}': {} is no matrix of {}", file_->path,
                                                       describe(candidates[0], t), join(float_names())));
      if (t.shape().size() < 2 || t.shape().size() > kMostDims)
        throw error(
            ATTNGRAPH_ERROR_SHAPE,
            fmt::format("'{}': {} is no matrix; [Nq, Nk], [H, Nq, Nk], [L, H, Nq, Nk] and [L, B, H, Nq, Nk] are",
                        file_->path, describe(candidates[0], t)));
      return candidates[0];
    }
    if (candidates.empty())
      throw error(
          ATTNGRAPH_ERROR_NOT_FOUND,
          fmt::format("'{}' has {}; it holds {}", file_->path,
                      wanted.empty() ? "no float tensor of 2 to 5 dimensions" : fmt::format("no tensor '{}'", wanted),
                      names.empty()                           ? "no tensors"
                      : names == std::vector<std::string>{""} ? "one array without a name"
                                                              : join(names)));
    throw error(ATTNGRAPH_ERROR_ARGUMENT,
                fmt::format("'{}' holds several matrices; choose one with --name: {}", file_->path, join(candidates)));
  }

  std::unique_ptr<OpenFile> file_;
  std::optional<QueryRange> range_;
  std::string name_;
  tensor shape_;  // without data
  Settings settings_;
  std::vector<std::int64_t> labels_;  // layers in the file
  std::vector<std::size_t> chosen_;   // indices into labels_
  bool whole_ = false;                // the tensor is one layer
};

}  // namespace

std::unique_ptr<Source> open_matrix(std::unique_ptr<OpenFile> file, const InputFlags& input, const ScoreFlags& scores) {
  return std::make_unique<MatrixSource>(std::move(file), input, scores);
}

}  // namespace attngraph::cli
