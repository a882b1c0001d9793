// SPDX-License-Identifier: Apache-2.0
// Named arrays whose length is known only at the end, and the two containers they are put in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../core/dtype.hpp"
#include "graph_facts.hpp"
#include "output_file.hpp"

namespace ag {

struct StoredArray {
  std::string name;
  DType dtype;
  std::uint64_t columns;  // 0: one-dimensional; otherwise [n, columns]
  std::unique_ptr<SpoolFile> data;

  template <class T>
  void append(const T* values, std::size_t count) {
    data->append(values, count * sizeof(T));
  }
  std::vector<std::uint64_t> shape() const {
    const std::uint64_t count = data->size() / size_of(dtype);
    if (columns == 0) return {count};
    return {count / columns, columns};
  }
};

// Stored members, `metadata` (facts as JSON in uint8) the last. Sizes, offsets and counts from zip64_from on are
// written as zip64; every true limit is beyond the default, which tests lower.
void write_npz(OutputFile& file, std::span<StoredArray> arrays, const Facts& facts,
               std::uint64_t zip64_from = 0xFFFFFFFF);

void write_safetensors(OutputFile& file, std::span<StoredArray> arrays, const Facts& facts);

// kLimit when the facts, tokens included, are more than a safetensors header may hold: better said before the work.
void check_safetensors_facts(const std::string& name, const Facts& facts);

}  // namespace ag
