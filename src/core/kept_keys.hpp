// SPDX-License-Identifier: Apache-2.0
// Keys that come piece by piece, and what a backend has made of them so far: rows that are asked later find it ready.
#pragma once

#include <cstddef>
#include <cstdint>

#include "problem.hpp"

namespace ag {

class KeptKeys {
 public:
  virtual ~KeptKeys() = default;

  // [B, Hkv, N, D], as they were given; until the next change. Keys before first() have no memory behind them.
  virtual TensorView view() const = 0;
  virtual std::int64_t count() const = 0;
  virtual std::int64_t first() const = 0;

  // More keys [B, Hkv, n, D] of the same kind. On failure (kNonfinite, no memory) all is as it was.
  virtual void append(const TensorView& k, Nonfinite nonfinite) = 0;
  virtual void reserve(std::int64_t keys) = 0;
  // Forget the keys from `count` on.
  virtual void truncate(std::int64_t count) = 0;
  // Give back the memory of keys before `key`, as far as it can be given back.
  virtual void drop_before(std::int64_t key) = 0;

  virtual std::size_t bytes() const = 0;
  // Written in packed form since the beginning: work that is done once for each key, whatever is asked how often.
  virtual std::uint64_t packed_bytes() const = 0;
};

}  // namespace ag
