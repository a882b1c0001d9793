// SPDX-License-Identifier: Apache-2.0
// Queries and keys, with what the file says about them.
#include <fmt/format.h>

#include <algorithm>

#include "source.hpp"
#include "text.hpp"

namespace attngraph::cli {
namespace {

struct LayerTensors {
  std::int64_t label = 0;
  std::string q, k;
  std::string lse, sinks, mask, alibi;  // names; empty: not there
};

bool contains(const attngraph::file& file, const std::string& name) {
  const auto names = file.names();
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string listed(const attngraph::file& file) {
  auto names = file.names();
  constexpr std::size_t kShown = 12;
  const std::size_t hidden = names.size() - std::min(names.size(), kShown);
  names.resize(names.size() - hidden);
  if (names == std::vector<std::string>{""}) return "it holds one array without a name";
  return names.empty()
             ? "it holds no tensors"
             : fmt::format("it holds {}{}", join(names), hidden > 0 ? fmt::format(" and {} more", hidden) : "");
}

class FileQkSource final : public QkSource {
 public:
  FileQkSource(std::vector<std::unique_ptr<OpenFile>> files, const InputFlags& input, const ScoreFlags& scores)
      : files_(std::move(files)),
        range_(input.range()),
        heads_inside_(input.layout == "bshd"),
        settings_(
            scores, [this](std::string_view name) { return metadata(name); }, true) {
    if (input.q.empty() != input.k.empty() && files_.size() == 1) throw UsageError("give both --q and --k");
    if (files_.size() == 2 || !input.q.empty())
      find_named(input);
    else
      find_by_convention(input);
    if (const auto base = metadata("lse_base"); base && *base == "2") lse_base_ = ATTNGRAPH_LSE_BASE_2;
    // A logsumexp belongs to the scores it was summed from.
    if (scores.any()) {
      for (LayerTensors& l : layers_) {
        lse_dropped_ = lse_dropped_ || !l.lse.empty();
        l.lse.clear();
      }
    }
  }

  std::size_t layer_count() const override { return layers_.size(); }
  std::int64_t layer(std::size_t i) const override { return layers_[i].label; }

  std::string tensors(std::size_t i) const override {
    const LayerTensors& l = layers_[i];
    std::vector<std::string> parts = {describe(l.q, q_file().info(l.q)), describe(l.k, k_file().info(l.k))};
    for (const std::string& extra : {l.lse, l.sinks, l.mask, l.alibi})
      if (!extra.empty()) parts.push_back(describe(extra, q_file().info(extra)));
    return join(parts);
  }

  std::string where(std::size_t i) const override {
    if (files_.size() == 2) return fmt::format("'{}' and '{}'", files_[0]->path, files_[1]->path);
    return fmt::format("'{}', {} and {}", files_[0]->path, layers_[i].q, layers_[i].k);
  }

  std::vector<Explanation> settings() const override {
    const tensor q = laid_out(q_file().info(layers_[0].q)), k = laid_out(k_file().info(layers_[0].k));
    auto lines = settings_.explain(length(q), length(k));
    lines.push_back(
        {"layout", heads_inside_ ? "bshd: [B, N, H, D]" : "bhsd: [B, H, N, D]", heads_inside_ ? "flag" : "default"});
    if (!layers_[0].alibi.empty())
      for (Explanation& line : lines)
        if (line.name == "alibi") line = {"alibi", "the tensors alibi.<layer>", "file"};
    if (lse_dropped_) lines.push_back({"lse", "not used: a flag changes the scores it was made from", "flag"});
    return lines;
  }

  std::vector<std::string> remarks() const override {
    std::vector<std::string> lines = {settings_.causal_text()};
    if (looks_like_bshd())
      lines.push_back(fmt::format("{} has more heads than queries: if it is [B, N, H, D], give --layout bshd",
                                  describe(layers_[0].q, q_file().info(layers_[0].q))));
    return lines;
  }

  std::string plan(const context& c, std::size_t i, const options& base) const override {
    const tensor q = laid_out(q_file().info(layers_[i].q)), k = laid_out(k_file().info(layers_[i].k));
    options o = prepared(base, i, length(q));
    if (!layers_[i].alibi.empty()) return c.explain(q, k, o.alibi(q_file().info(layers_[i].alibi)));
    const std::vector<double> slopes = slopes_for(q, o);
    return c.explain(q, k, o);
  }

  std::vector<task> tasks(std::size_t i, const options& base, std::int64_t pairs_per_task) const override {
    const tensor q = laid_out(q_file().info(layers_[i].q)), k = laid_out(k_file().info(layers_[i].k));
    return plan_tasks(q, k, prepared(base, i, length(q)), pairs_per_task);
  }

  void run(context& c, std::size_t i, const options& base, sink& to) override {
    const LayerTensors& l = layers_[i];
    const tensor q = laid_out(q_file().read(l.q)), k = laid_out(k_file().read(l.k));
    options o = prepared(base, i, length(q));
    if (!l.lse.empty()) o.lse(q_file().read(l.lse), lse_base_);
    if (!l.sinks.empty()) o.sinks(q_file().read(l.sinks));
    if (!l.mask.empty()) o.mask(q_file().read(l.mask));
    const std::vector<double> slopes = l.alibi.empty() ? slopes_for(q, o) : std::vector<double>();
    if (!l.alibi.empty()) o.alibi(q_file().read(l.alibi));
    c.extract(q, k, o, to);
    k_file().release(l.k);
    for (const std::string& name : {l.q, l.lse, l.sinks, l.mask, l.alibi})
      if (!name.empty() || name == l.q) q_file().release(name);
  }

  std::optional<std::string> metadata(std::string_view name) const override {
    for (const auto& f : files_)
      if (const auto value = f->file.metadata(name)) return std::string(*value);
    return std::nullopt;
  }

 private:
  attngraph::file& q_file() const { return files_.front()->file; }
  attngraph::file& k_file() const { return files_.back()->file; }
  // [.., H, N, D], whichever order the file has.
  tensor laid_out(const tensor& t) const {
    const std::size_t n = t.shape().size();
    return heads_inside_ && n >= 3 ? t.swapped(n - 3, n - 2) : t;
  }

  // Positions where heads are expected: as many "heads" of q as of k, more than there are "queries".
  bool looks_like_bshd() const {
    const tensor q = q_file().info(layers_[0].q), k = k_file().info(layers_[0].k);
    const auto a = q.shape(), b = k.shape();
    if (heads_inside_ || a.size() < 3 || a.size() != b.size()) return false;
    const std::size_t n = a.size();
    return a[n - 3] == b[n - 3] && a[n - 3] > a[n - 2] && b[n - 2] > 0 && a[n - 2] % b[n - 2] == 0;
  }

  static std::int64_t length(const tensor& t) { return t.shape().size() < 2 ? 0 : t.shape()[t.shape().size() - 2]; }

  // Slopes of the settings, which `o` views.
  std::vector<double> slopes_for(const tensor& q, options& o) const {
    const std::size_t n = q.shape().size();
    std::vector<double> slopes = settings_.slopes(n < 3 ? 1 : q.shape()[n - 3]);
    if (!slopes.empty()) o.alibi(tensor(slopes.data(), {static_cast<std::int64_t>(slopes.size())}));
    return slopes;
  }

  options prepared(const options& base, std::size_t i, std::int64_t queries) const {
    options o = base;
    settings_.apply(o);
    apply_range(o, range_, queries);
    return o.layer(layers_[i].label);
  }

  void add(std::int64_t label, const std::string& q, const std::string& k) {
    LayerTensors l{label, q, k, {}, {}, {}, {}};
    const auto extra = [&](const char* kind) {
      const std::string name = fmt::format("{}.{}", kind, label);
      return contains(q_file(), name) ? name : std::string();
    };
    l.lse = extra("lse");
    l.sinks = extra("sinks");
    l.mask = extra("mask");
    if (settings_.alibi.origin != Origin::kFlag) l.alibi = extra("alibi");
    layers_.push_back(std::move(l));
  }

  // --q and --k, or the only tensor of each of two files.
  void find_named(const InputFlags& input) {
    if (!input.layers.empty()) throw UsageError("--layers chooses among q.<layer>; it does not go with named tensors");
    const auto resolve = [](const OpenFile& f, const std::string& name, const char* flag) {
      if (!name.empty()) {
        if (!contains(f.file, name))
          throw error(ATTNGRAPH_ERROR_NOT_FOUND,
                      fmt::format("'{}' has no tensor '{}'; {}", f.path, name, listed(f.file)));
        return name;
      }
      // Words and the like beside it do not matter.
      const auto names = float_tensors(f.file, 2, 4);
      if (names.size() > 1)
        throw UsageError(fmt::format("'{}' holds {} tensors that may be meant; name one with {}: {}", f.path,
                                     names.size(), flag, join(names)));
      if (names.size() == 1) return names[0];
      const auto all = f.file.names();
      if (all.size() == 1) return all[0];  // whose type or shape is refused where it is known
      throw error(ATTNGRAPH_ERROR_NOT_FOUND,
                  fmt::format("'{}' has no float tensor of 2 to 4 dimensions; {}", f.path, listed(f.file)));
    };
    const std::string q = resolve(*files_.front(), input.q, "--q");
    const std::string k = resolve(*files_.back(), input.k, "--k");
    add(layer_suffix(q).value_or(0), q, k);
  }

  void find_by_convention(const InputFlags& input) {
    const std::string& path = files_[0]->path;
    std::vector<std::int64_t> labels;
    if (q_file().names() == std::vector<std::string>{""})
      throw error(ATTNGRAPH_ERROR_NOT_FOUND,
                  fmt::format("'{}' holds one array; give two files, the queries and the keys", path));
    for (const std::string& name : q_file().names())
      if (const auto label = layer_suffix(name); label && name == fmt::format("q.{}", *label)) labels.push_back(*label);
    if (labels.empty())
      throw error(ATTNGRAPH_ERROR_NOT_FOUND,
                  fmt::format("'{}' has no tensors q.<layer> and k.<layer>; {}: name two with --q and --k", path,
                              listed(q_file())));
    std::sort(labels.begin(), labels.end());
    for (const std::size_t i : choose_layers(input.layer_list(), labels, path)) {
      const std::string k = fmt::format("k.{}", labels[i]);
      if (!contains(k_file(), k))
        throw error(ATTNGRAPH_ERROR_NOT_FOUND, fmt::format("'{}' has q.{} but no {}", path, labels[i], k));
      add(labels[i], fmt::format("q.{}", labels[i]), k);
    }
  }

  std::vector<std::unique_ptr<OpenFile>> files_;  // Q first; one or two
  std::optional<QueryRange> range_;
  bool heads_inside_;  // --layout bshd
  Settings settings_;
  std::vector<LayerTensors> layers_;
  attngraph_lse_base lse_base_ = ATTNGRAPH_LSE_BASE_E;
  bool lse_dropped_ = false;
};

}  // namespace

std::unique_ptr<QkSource> open_qk(std::vector<std::unique_ptr<OpenFile>> files, const InputFlags& input,
                                  const ScoreFlags& scores) {
  return std::make_unique<FileQkSource>(std::move(files), input, scores);
}

}  // namespace attngraph::cli
