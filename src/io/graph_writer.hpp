// SPDX-License-Identifier: Apache-2.0
// What all writers of graphs share.
#pragma once

#include <charconv>
#include <memory>
#include <string>

#include "../core/error.hpp"
#include "graph_file.hpp"
#include "output_file.hpp"

namespace ag {

// Keeps the order of calls: slices one after another, each with exactly the rows it announced.
class GraphWriter : public GraphSink {
 public:
  void set_metadata(const Metadata& metadata) final;
  void begin_slice(const SliceInfo& slice, DType weight_dtype) final;
  void rows(const RowBlock& block) final;
  void end_slice(const SliceSums& sums) final;
  void finish(const RunReport& report) final;

 protected:
  explicit GraphWriter(std::string name) : name_(std::move(name)) {}
  const Metadata& metadata() const { return metadata_; }
  const SliceInfo& slice() const { return slice_; }
  const std::string& name() const { return name_; }
  // Where a query stands among the keys.
  std::int64_t position(std::int64_t query) const { return position_of(query, query_offset_); }
  // The words of this slice's keys and queries; null where there is none.
  const std::string* key_word(std::int64_t key) const { return ag::key_word(metadata_, slice_.id.batch, key); }
  const std::string* query_word(std::int64_t query) const { return ag::query_word(metadata_, slice_.id.batch, query); }

 private:
  virtual void start() = 0;  // the metadata are known: once, before the first slice or at the end
  virtual void on_begin_slice(DType weight_dtype) = 0;
  virtual void on_rows(const RowBlock& block) = 0;
  virtual void on_end_slice(const SliceSums& sums) = 0;
  virtual void on_finish(const RunReport& report) = 0;  // nothing is published before it is called
  void start_once();

  std::string name_;
  Metadata metadata_;
  std::int64_t query_offset_ = 0;
  SliceInfo slice_;
  std::int64_t next_query_ = 0;
  bool started_ = false, in_slice_ = false, finished_ = false;
};

// The shortest digits that read back as the same value; at most kNumberChars.
inline constexpr std::size_t kNumberChars = 32;
template <class T>
char* put_number(char* to, T value) {
  return std::to_chars(to, to + kNumberChars, value).ptr;
}

std::unique_ptr<GraphSink> open_table_writer(const std::string& path, GraphFormat format, const WriteOptions& options);
std::unique_ptr<GraphSink> open_drawing_writer(const std::string& path, GraphFormat format,
                                               const WriteOptions& options);
std::unique_ptr<GraphSink> open_csr_writer(const std::string& path, GraphFormat format);

}  // namespace ag
