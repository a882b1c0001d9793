// SPDX-License-Identifier: Apache-2.0
// npz and safetensors: the arrays of the graph, flat, in the layout of docs/formats.md. Every array grows in a file of
// its own until the last row is in, because both containers want lengths before data.
#include <optional>

#include "../core/numbers.hpp"
#include "array_archive.hpp"
#include "escape.hpp"
#include "graph_facts.hpp"
#include "graph_writer.hpp"

namespace ag {
namespace {

class CsrWriter : public GraphWriter {
 public:
  CsrWriter(const std::string& path, GraphFormat format) : GraphWriter(in_quotes(path)), format_(format), file_(path) {
    const std::pair<const char*, DType> kArrays[] = {
        {"offsets", DType::kI64}, {"keys", DType::kI32},      {"weights", DType::kF32}, {"logsumexp", DType::kF64},
        {"maximum", DType::kF64}, {"kept_mass", DType::kF64}, {"entropy", DType::kF64}, {"max_key", DType::kI32}};
    add("slices", DType::kI64, kSliceColumns);
    for (const auto& [name, dtype] : kArrays) add(name, dtype, 0);
  }

 private:
  enum Place : std::size_t { kSlices, kOffsets, kKeys, kWeights, kLogsumexp, kMaximum, kKeptMass, kEntropy, kMaxKey };
  static constexpr std::uint64_t kSliceColumns = 8;

  std::unique_ptr<SpoolFile> spool() const { return std::make_unique<SpoolFile>(file_, format_ == GraphFormat::kNpz); }
  void add(const char* name, DType dtype, std::uint64_t columns) { arrays_.push_back({name, dtype, columns, spool()}); }

  void start() override {
    if (format_ == GraphFormat::kSafetensors) check_safetensors_facts(file_.name(), facts_to_write(metadata(), {}));
  }

  void on_begin_slice(DType weight_dtype) override {
    if (weight_dtype == DType::kF64) widen();
    const SliceInfo& s = slice();
    const std::int64_t line[kSliceColumns] = {s.id.batch,    s.id.layer,  s.id.head, s.query_begin,
                                              s.query_count, s.key_count, offsets_,  edges_};
    arrays_[kSlices].append(line, kSliceColumns);
    constexpr std::int64_t kZero = 0;
    arrays_[kOffsets].append(&kZero, 1);
    offsets_ += s.query_count + 1;
    slice_edges_ = 0;
  }

  // Slices in f64 after slices in f32: what was written is made f64 too.
  void widen() {
    StoredArray& weights = arrays_[kWeights];
    if (weights.dtype == DType::kF64) return;
    auto wide = spool();
    std::vector<double> values;
    weights.data->replay([&](std::string_view piece) {
      values.clear();
      for (std::size_t at = 0; at < piece.size(); at += sizeof(float)) values.push_back(load_as<float>(&piece[at]));
      wide->append(values.data(), values.size() * sizeof(double));
    });
    weights.dtype = DType::kF64;
    weights.data = std::move(wide);
  }

  void on_rows(const RowBlock& block) override {
    const auto rows = static_cast<std::size_t>(block.row_count);
    const auto count = static_cast<std::size_t>(block.edge_count());
    integers_.clear();
    for (std::size_t r = 1; r <= rows; ++r) integers_.push_back(slice_edges_ + block.offsets[r]);
    arrays_[kOffsets].append(integers_.data(), rows);
    slice_edges_ += block.edge_count();
    edges_ += block.edge_count();
    arrays_[kKeys].append(block.keys, count);
    if (arrays_[kWeights].dtype == block.weight_dtype) {
      arrays_[kWeights].data->append(block.weights, count * size_of(block.weight_dtype));
    } else {
      doubles_.clear();
      for (std::int64_t e = 0; e < block.edge_count(); ++e) doubles_.push_back(block.weight(e));
      arrays_[kWeights].append(doubles_.data(), count);
    }
    arrays_[kLogsumexp].append(block.stats.logsumexp, rows);
    arrays_[kMaximum].append(block.stats.maximum, rows);
    arrays_[kKeptMass].append(block.stats.kept_mass, rows);
    if (block.stats.entropy == nullptr) doubles_.assign(rows, kNaN);
    arrays_[kEntropy].append(block.stats.entropy != nullptr ? block.stats.entropy : doubles_.data(), rows);
    arrays_[kMaxKey].append(block.stats.max_key, rows);
  }

  // Sums and their index are there only when a slice has such sums.
  void on_end_slice(const SliceSums& sums) override {
    const std::int64_t number = slices_++;
    if (!sums.received.empty()) {
      if (!received_) {
        received_ = arrays_.size();
        add("received", DType::kF64, 0);
        add("received_slices", DType::kI64, 3);
      }
      append_sums(*received_, sums.received, {number});
    }
    if (!sums.distances.empty()) {
      if (!distances_) {
        distances_ = arrays_.size();
        add("distances", DType::kF64, 0);
        add("distances_slices", DType::kI64, 4);
      }
      append_sums(*distances_, sums.distances, {number, sums.distance_begin});
    }
    if (!sums.tokens.empty()) {
      if (!tokens_) {
        tokens_ = arrays_.size();
        add("token_mass", DType::kF64, 0);
        add("token_mass_slices", DType::kI64, 3);
      }
      append_sums(*tokens_, sums.tokens, {number});
    }
  }

  // Index line: the numbers of `line`, then first and count within the values.
  void append_sums(std::size_t place, const std::vector<double>& values, std::vector<std::int64_t> line) {
    StoredArray& array = arrays_[place];
    line.push_back(static_cast<std::int64_t>(array.data->size() / sizeof(double)));
    line.push_back(static_cast<std::int64_t>(values.size()));
    array.append(values.data(), values.size());
    arrays_[place + 1].append(line.data(), line.size());
  }

  void on_finish(const RunReport& report) override {
    const Facts facts = facts_to_write(metadata(), report);
    if (format_ == GraphFormat::kNpz) {
      write_npz(file_, arrays_, facts);
    } else {
      write_safetensors(file_, arrays_, facts);
    }
    file_.complete();
    file_.publish();
  }

  GraphFormat format_;
  OutputFile file_;
  std::vector<StoredArray> arrays_;  // by Place, then the sums
  std::optional<std::size_t> received_, distances_, tokens_;
  std::int64_t slices_ = 0, offsets_ = 0, edges_ = 0, slice_edges_ = 0;
  std::vector<std::int64_t> integers_;
  std::vector<double> doubles_;
};

}  // namespace

std::unique_ptr<GraphSink> open_csr_writer(const std::string& path, GraphFormat format) {
  return std::make_unique<CsrWriter>(path, format);
}

}  // namespace ag
